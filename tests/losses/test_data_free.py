"""The generator's losses: against loops, with gradients that reach the teacher's side."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from keras_kd.losses import data_free

RNG = np.random.default_rng(0)
TEACHER, STUDENT = (RNG.normal(scale=3, size=(6, 5)).astype("float32") for _ in range(2))


def disagreement(teacher):
    pairs = zip(teacher, STUDENT, strict=True)
    return np.array([sum(abs(t - s) for t, s in zip(*rows, strict=True)) / 5 for rows in pairs])


def one_hot(teacher):
    return np.array([-np.log(max(softmax(row))) for row in teacher])


def activation(features):
    return np.array([-sum(abs(value) for value in row.flat) / row.size for row in features])


def information_entropy(teacher):
    p = softmax(teacher, -1)
    mean = [sum(column) / len(p) for column in p.T]
    return np.array([sum(q * np.log10(m) for q, m in zip(row, mean, strict=True)) for row in p])


LOSSES = {
    "disagreement": (lambda teacher: data_free.disagreement(teacher, STUDENT), disagreement),
    "one_hot": (data_free.one_hot, one_hot),
    "activation": (data_free.activation, activation),
    "information_entropy": (data_free.information_entropy, information_entropy),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_values_are_those_of_a_loop(name):
    loss, oracle = LOSSES[name]
    np.testing.assert_allclose(loss(TEACHER), oracle(np.float64(TEACHER)), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_to_the_teacher_are_finite_differences(name):
    loss, oracle = LOSSES[name]
    teacher = tf.Variable(TEACHER)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(teacher))
    expected = np.zeros(TEACHER.shape)
    for index in np.ndindex(TEACHER.shape):
        shift = np.zeros(TEACHER.shape)
        shift[index] = 1e-5
        rise = oracle(np.float64(TEACHER) + shift).sum() - oracle(np.float64(TEACHER) - shift).sum()
        expected[index] = rise / 2e-5
    np.testing.assert_allclose(tape.gradient(total, teacher), expected, rtol=1e-3, atol=1e-5)


def test_disagreement_moves_both_sides_alike():
    teacher, student = tf.Variable(TEACHER), tf.Variable(STUDENT)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(data_free.disagreement(teacher, student))
    of_teacher, of_student = tape.gradient(total, (teacher, student))
    np.testing.assert_array_equal(of_teacher, np.sign(TEACHER - STUDENT) / np.float32(5))
    np.testing.assert_array_equal(of_student, -of_teacher.numpy())


def test_information_entropy_is_the_entropy_of_the_mean_prediction():
    mean = softmax(np.float64(TEACHER), -1).mean(0)
    assert float(tf.reduce_mean(data_free.information_entropy(TEACHER))) == pytest.approx(-entropy(mean, base=10))


def test_information_entropy_of_places_is_that_of_as_many_examples():
    wide = data_free.information_entropy(TEACHER.reshape(2, 3, 5))
    np.testing.assert_allclose(np.ravel(wide), data_free.information_entropy(TEACHER), rtol=1e-6)


def test_features_of_any_rank_count_alike():
    grid = RNG.normal(size=(2, 3, 4, 5)).astype("float32")
    np.testing.assert_allclose(data_free.activation(grid), activation(grid), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_large_logits_are_right_with_finite_gradients(dtype):
    large = tf.Variable(np.array([[1e4, 0, -1e4], [-1e4, 1e4, 0]]), dtype=dtype)
    with tf.GradientTape(persistent=True) as tape:
        values = {"one_hot": data_free.one_hot(large), "information_entropy": data_free.information_entropy(large)}
    np.testing.assert_array_equal(values["one_hot"], [0.0, 0.0])
    np.testing.assert_allclose(values["information_entropy"], [np.log10(0.5)] * 2, rtol=1e-6)
    for value in values.values():
        assert value.dtype == tf.float32
        assert np.abs(tape.gradient(value, large)).max() < 1e-3


def test_least_and_greatest():
    same, spread = np.float32([[30, 0, 0]] * 3), 30 * np.eye(3, dtype="float32")
    assert float(tf.reduce_mean(data_free.information_entropy(same))) == pytest.approx(0, abs=1e-6)
    assert float(tf.reduce_mean(data_free.information_entropy(spread))) == pytest.approx(-np.log10(3))
    np.testing.assert_allclose(data_free.one_hot(np.zeros((2, 7))), [np.log(7)] * 2, rtol=1e-6)
    np.testing.assert_allclose(data_free.one_hot(TEACHER), -log_softmax(TEACHER, -1).max(-1), rtol=1e-5)
