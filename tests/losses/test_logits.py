import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from keras_kd.losses import (
    hard_labels,
    jensen_shannon,
    logits_mse,
    reverse_kl,
    soft_target_cross_entropy,
    soft_target_kl,
    standardized_soft_target_kl,
)
from tests.losses.cases.logits import cross_entropy, kl, scaled_entropy

few = settings(deadline=None, max_examples=25, derandomize=True)
rows = arrays("float32", (2, 4), elements=st.floats(-20, 20, width=32))
temperatures = st.floats(0.5, 20)


def test_kl_by_hand():
    teacher, student = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.5, 0.5]])
    by_hand = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.9 * np.log(1.8) + 0.1 * np.log(0.2)]
    np.testing.assert_allclose(soft_target_kl(teacher, student, 1.0), by_hand, rtol=1e-5)


def test_cross_entropy_by_hand():
    teacher, student = np.log([[0.25, 0.75]]), np.log([[0.5, 0.5]])
    np.testing.assert_allclose(soft_target_cross_entropy(teacher, student, 1.0), [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("loss", [soft_target_kl, soft_target_cross_entropy])
def test_opposite_certainties_still_teach(loss):
    teacher, student = tf.constant([[30.0, 0.0, 0.0]]), tf.Variable([[0.0, 30.0, 0.0]])
    with tf.GradientTape() as tape:
        value = loss(teacher, student, 1.0)
    np.testing.assert_allclose(value, [30.0], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(value, student), [[-1.0, 1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize(("loss", "oracle"), [(soft_target_kl, kl), (soft_target_cross_entropy, cross_entropy)])
def test_default_temperature_is_4(loss, oracle):
    teacher, student = np.array([[1.0, 2.0, 4.0]]), np.array([[3.0, 0.0, 1.0]])
    np.testing.assert_allclose(loss(teacher, student), oracle(teacher, student, 4.0), rtol=1e-5)


@pytest.mark.parametrize("loss", [soft_target_kl, soft_target_cross_entropy])
def test_temperature_may_be_a_variable_that_moves(loss):
    temperature = keras.Variable(2.0, trainable=False)
    traces = []

    @tf.function
    def traced(teacher, student):
        traces.append(1)
        return loss(teacher, student, temperature)

    teacher, student = tf.constant([[1.0, 2.0, 4.0]]), tf.constant([[3.0, 0.0, 1.0]])
    for value in (2.0, 5.0):
        temperature.assign(value)
        np.testing.assert_allclose(traced(teacher, student), loss(teacher, student, value), rtol=1e-6)
    assert len(traces) == 1


@few
@given(rows, rows, temperatures)
def test_kl_is_never_negative(teacher, student, temperature):
    assert np.min(soft_target_kl(teacher, student, temperature)) >= -1e-6 * temperature**2


@few
@given(rows, rows, temperatures, st.floats(-30, 30, width=32))
def test_a_constant_added_to_logits_changes_nothing(teacher, student, temperature, shift):
    for loss in (soft_target_kl, soft_target_cross_entropy):
        value = loss(teacher, student, temperature)
        tolerance = {"rtol": 1e-3, "atol": 2e-5 * temperature**2}
        np.testing.assert_allclose(loss(teacher + shift, student, temperature), value, **tolerance)
        np.testing.assert_allclose(loss(teacher, student + shift, temperature), value, **tolerance)


@few
@given(rows, rows, temperatures)
def test_kl_is_cross_entropy_less_entropy(teacher, student, temperature):
    difference = soft_target_cross_entropy(teacher, student, temperature) - soft_target_kl(
        teacher, student, temperature
    )
    entropy = scaled_entropy(np.float64(teacher), temperature)
    np.testing.assert_allclose(difference, entropy, rtol=1e-4, atol=1e-5 * temperature**2 + 1e-4)


@few
@given(rows, rows, temperatures)
def test_scaling_logits_with_the_temperature_scales_by_its_square(teacher, student, temperature):
    for loss in (soft_target_kl, soft_target_cross_entropy):
        scaled = loss(teacher * temperature, student * temperature, temperature)
        expected = temperature**2 * np.asarray(loss(teacher, student, 1.0))
        np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-5 * temperature**2)


def gradient_of(loss, teacher, student, *arguments):
    student = tf.Variable(student, dtype="float32")
    with tf.GradientTape() as tape:
        value = loss(tf.constant(teacher, "float32"), student, *arguments)
    return np.asarray(value), np.asarray(tape.gradient(value, student))


def test_reverse_kl_by_hand():
    teacher, student = np.log([[0.25, 0.75]]), np.log([[0.5, 0.5]])
    np.testing.assert_allclose(reverse_kl(teacher, student), [0.5 * np.log(2) + 0.5 * np.log(2 / 3)], rtol=1e-5)


@few
@given(rows, rows, temperatures)
def test_reverse_kl_is_kl_the_other_way_round(teacher, student, temperature):
    expected = soft_target_kl(student, teacher, temperature)
    np.testing.assert_allclose(reverse_kl(teacher, student, temperature), expected, rtol=1e-6)


def test_jensen_shannon_by_hand():
    teacher, student = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])  # β = 0.25: the mixture is [0.8, 0.2]
    of_teacher = 0.5 * np.log(0.5 / 0.8) + 0.5 * np.log(0.5 / 0.2)
    of_student = 0.9 * np.log(0.9 / 0.8) + 0.1 * np.log(0.1 / 0.2)
    value = jensen_shannon(teacher, student, beta=0.25)
    np.testing.assert_allclose(value, [0.25 * of_teacher + 0.75 * of_student], rtol=1e-5)


@few
@given(rows, rows, temperatures)
def test_jensen_shannon_is_symmetric_the_square_of_a_distance_and_at_most_ln_2(teacher, student, temperature):
    there, back = (jensen_shannon(*pair, temperature) for pair in ((teacher, student), (student, teacher)))
    np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-6 * temperature**2)
    distance = jensenshannon(softmax(teacher / temperature, -1), softmax(student / temperature, -1), axis=-1)
    np.testing.assert_allclose(there, temperature**2 * np.square(distance), rtol=1e-3, atol=1e-5 * temperature**2)
    assert np.max(there) <= temperature**2 * (np.log(2) + 1e-6)


def test_jensen_shannon_of_the_far_ends_of_beta_is_a_kl():
    teacher, student = np.array([[1.0, 2.0, 4.0]]), np.array([[3.0, 0.0, 1.0]])
    np.testing.assert_allclose(jensen_shannon(teacher, student, beta=1e-4) / 1e-4, kl(teacher, student, 1.0), rtol=2e-3)
    reverse = jensen_shannon(teacher, student, beta=1 - 1e-4) / 1e-4
    np.testing.assert_allclose(reverse, kl(student, teacher, 1.0), rtol=2e-3)


def test_jensen_shannon_has_the_right_gradient_where_single_classes_are_equal():
    # p = [0.4, 0.2, 0.4], q = [0.4, 0.4, 0.2], equal in the first class; ∂/∂s_k = q_k (f_k - Σ q f) / 2, f = ln(q / m)
    teacher, student = np.log([[0.4, 0.2, 0.4]]), np.log([[0.4, 0.4, 0.2]])
    q, f = np.array([0.4, 0.4, 0.2]), np.log([1.0, 0.4 / 0.3, 0.2 / 0.3])
    gradient = gradient_of(jensen_shannon, teacher, student)[1][0]
    np.testing.assert_allclose(gradient, q * (f - q @ f) / 2, rtol=1e-5, atol=1e-7)


def test_the_paper_of_logits_mse_writes_half_the_squared_norm():
    teacher, student = np.array([[1.0, 2.0, 4.0]]), np.array([[3.0, 0.0, 1.0]])
    half_squared_norm = 0.5 * (4 + 4 + 9)
    np.testing.assert_allclose(logits_mse(teacher, student) * 3 / 2, [half_squared_norm], rtol=1e-6)


@few
@given(rows, rows, st.floats(0.1, 10), st.floats(-30, 30))
def test_standardized_soft_targets_see_neither_scale_nor_shift(teacher, student, scale, shift):
    apart = [np.ptp(row) > 0.1 for row in (*teacher, *student)]
    assume(all(apart))
    value = standardized_soft_target_kl(teacher, student)
    np.testing.assert_allclose(standardized_soft_target_kl(teacher, scale * student + shift), value, atol=2e-3)
    np.testing.assert_allclose(standardized_soft_target_kl(scale * teacher + shift, student), value, atol=2e-3)


@pytest.mark.parametrize("constant", [0.0, 0.1, 7.3, -1e4])
def test_logits_that_are_all_equal_are_standardized_to_zeros(constant):
    teacher, student = np.array([[1.0, 2.0, 6.0]]), np.full((1, 3), constant)
    z = (teacher - 3) / np.sqrt((4 + 1 + 9) / 3)
    expected = 4 * np.sum(softmax(z / 2) * np.log(3 * softmax(z / 2)))
    value, gradient = gradient_of(standardized_soft_target_kl, teacher, student)
    np.testing.assert_allclose(value, [expected], rtol=1e-5)
    # z = √3 (x - mean) there, as if the standard deviation were that of a vector of length 1.
    to_z = 2 * (1 / 3 - softmax(z / 2))
    np.testing.assert_allclose(gradient, np.sqrt(3) * (to_z - to_z.mean()), rtol=1e-4, atol=1e-6)


def test_hard_labels_by_hand():
    teacher, student = [[0.0, 7.0, 1.0], [2.0, 0.0, 2.0]], np.log([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]])
    np.testing.assert_allclose(hard_labels(teacher, student), [np.log(4), np.log(5)], rtol=1e-6)


@few
@given(rows, rows)
def test_hard_labels_are_the_cross_entropy_of_keras_under_the_decision(teacher, student):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    np.testing.assert_allclose(hard_labels(teacher, student), loss(teacher.argmax(-1), student), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "temperature"), [(reverse_kl, 1.0), (jensen_shannon, 1.0), (standardized_soft_target_kl, 2.0)]
)
def test_default_temperatures_are_the_papers(loss, temperature):
    teacher, student = np.array([[1.0, 2.0, 4.0]]), np.array([[3.0, 0.0, 1.0]])
    np.testing.assert_allclose(loss(teacher, student), loss(teacher, student, temperature), rtol=0)
    assert abs(loss(teacher, student) - loss(teacher, student, temperature + 1))[0] > 1e-3
