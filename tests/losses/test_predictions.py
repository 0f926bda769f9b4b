import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import pearsonr

from keras_kd.losses import dist, multi_level, soft_target_kl
from tests.losses.cases import logits as oracles

few = settings(deadline=None, max_examples=25, derandomize=True)
rows = arrays("float32", (3, 4), elements=st.floats(-8, 8, width=32))
A, B = np.random.default_rng(0).normal(scale=2, size=(2, 7, 4))
both = pytest.mark.parametrize(("loss", "oracle"), [(dist, oracles.dist), (multi_level, oracles.multi_level)])


def gradient_of(loss, teacher, student, **arguments):
    student = tf.Variable(student, dtype="float32")
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(tf.constant(teacher, "float32"), student, **arguments))
    return np.asarray(tape.gradient(value, student))


def test_dist_is_written_with_the_correlation_of_scipy():
    p, q = softmax(A / 2, -1), softmax(B / 2, -1)
    inter = np.array([1 - pearsonr(*rows).statistic for rows in zip(p, q, strict=True)])
    intra = np.mean([1 - pearsonr(*columns).statistic for columns in zip(p.T, q.T, strict=True)])
    np.testing.assert_allclose(dist(A, B, 1.0, 0.0, 2.0), 4 * inter, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dist(A, B, 0.0, 1.0, 2.0), np.full(7, 4 * intra), rtol=1e-4)
    np.testing.assert_allclose(dist(A, B, 3.0, 2.0, 2.0), 4 * (3 * inter + 2 * intra), rtol=1e-4)


@few
@given(rows, rows)
def test_dist_lies_between_nothing_and_twice_its_weights(teacher, student):
    assume(all(np.ptp(softmax(part, -1), axis).min() > 1e-3 for part in (teacher, student) for axis in (0, 1)))
    value = dist(teacher, student, temperature=1.0)
    assert np.min(value) >= -1e-5
    assert np.max(value) <= 4 + 1e-5
    assert_same(dist(teacher, teacher, temperature=1.0), np.zeros(3))


def assert_same(value, expected, **tolerance):
    np.testing.assert_allclose(value, expected, **{"rtol": 1e-4, "atol": 2e-5, **tolerance})


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4])
def test_predictions_that_do_not_vary_correlate_with_nothing(constant):
    # Rows without a preference: each example gives 1, and so does each class, for its column is constant too.
    student = np.full((7, 4), constant)
    assert_same(dist(A, student, temperature=2.0), np.full(7, 8.0))
    # Deviations of length 0 are divided by 1: the gradient of ρ by them is the teacher's unit vector.
    teacher = softmax(A / 2, -1) - 1 / 4
    expected = -2 * teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    assert_same(gradient_of(dist, A, student, intra_weight=0.0, temperature=2.0), expected)
    # All examples alike: the classes give 1, the examples their own correlation.
    student = np.tile(B[:1], (7, 1))
    inter = [1 - pearsonr(*rows).statistic for rows in zip(softmax(A, -1), softmax(student, -1), strict=True)]
    assert_same(dist(A, student, temperature=1.0), np.array(inter) + 1)


def test_a_batch_of_one_has_no_correlation_over_examples():
    inter = 1 - pearsonr(softmax(A[0]), softmax(B[0])).statistic
    assert_same(dist(A[:1], B[:1], temperature=1.0), [inter + 1])
    of_examples_alone = gradient_of(dist, A[:1], B[:1], intra_weight=0.0)
    assert_same(gradient_of(dist, A[:1], B[:1]), of_examples_alone)


def test_a_class_that_is_improbable_throughout_counts_as_any_other():
    # Its probabilities are e^-60 times [1, e, e²] and [1, e², e]: their correlation is that of the bracketed.
    teacher, student = (np.array([[0.0, power - 60.0] for power in powers]) for powers in ((0, 1, 2), (0, 2, 1)))
    rho = pearsonr(np.exp([0, 1, 2]), np.exp([0, 2, 1])).statistic
    # The probabilities of the other class all round to 1: constant, 1 - 0.
    value = dist(teacher, student, 0.0, 1.0, temperature=1.0)
    assert_same(value, np.full(3, (1 - rho) / 2 + 1 / 2))


def test_multi_level_by_hand():
    # P = I; Q = [[½, ½], [½, ½]]; PPᵀ - QQᵀ = PᵀP - QᵀQ = [[½, -½], [-½, ½]]; KL = ln 2.
    value = multi_level([[90.0, 0.0], [0.0, 90.0]], np.zeros((2, 2)), temperatures=[1.0])
    np.testing.assert_allclose(value, np.full(2, np.log(2) + 2 * 0.25 + 4 * 0.25 / 2), rtol=1e-6)


def test_multi_level_is_the_published_sum_of_matrix_norms():
    total = 0.0
    for temperature in (2.0, 5.0):
        p, q = softmax(A / temperature, -1), softmax(B / temperature, -1)
        total += np.mean(oracles.kl(A, B, temperature))
        total += np.linalg.norm(p @ p.T - q @ q.T) ** 2 / 7 + np.linalg.norm(p.T @ p - q.T @ q) ** 2 / 4
    np.testing.assert_allclose(np.mean(multi_level(A, B, (2.0, 5.0))), total, rtol=1e-5)


def test_multi_level_close_to_the_teacher_is_not_lost_in_rounding():
    student = A + np.random.default_rng(1).normal(scale=1e-3, size=A.shape)
    relations = np.float64(multi_level(A, student)) - sum(
        np.float64(soft_target_kl(A, student, float(temperature))) for temperature in range(2, 7)
    )
    expected = oracles.multi_level(A, student) - sum(oracles.kl(A, student, temperature) for temperature in range(2, 7))
    np.testing.assert_allclose(relations, expected, rtol=2e-2, atol=2e-9)


def test_multi_level_of_many_places_needs_no_matrix_of_them():
    # 200,000 places: a matrix of all pairs would take 160 GB.
    teacher, student = (np.tile(part[:4], (50_000, 1)).astype("float32") for part in (A, B))
    value = np.asarray(multi_level(teacher, student, (3.0,)))
    p, q = softmax(A[:4] / 3, -1), softmax(B[:4] / 3, -1)
    instance, batch = oracles.kl(A[:4], B[:4], 3.0), 50_000 * np.square(p @ p.T - q @ q.T).sum(1)
    classes = np.linalg.norm(50_000 * (p.T @ p - q.T @ q)) ** 2 / 4
    np.testing.assert_allclose(value[:4], instance + batch + classes, rtol=1e-4)


@both
def test_the_order_of_the_examples_changes_nothing(loss, oracle):
    order = np.random.default_rng(2).permutation(7)
    assert_same(loss(A[order], B[order]), oracle(A, B)[order])


@both
def test_all_places_of_a_map_are_one_batch(loss, oracle):
    teacher, student = np.random.default_rng(3).normal(size=(2, 2, 3, 4, 5))
    flat = oracle(teacher.reshape(-1, 5), student.reshape(-1, 5))
    assert_same(loss(teacher, student), flat.reshape(2, 3, 4))


@both
@pytest.mark.parametrize("filling", [100.0, np.inf, np.nan])
def test_masked_examples_have_no_say_whatever_stands_there(loss, oracle, filling):
    mask = np.array([[True, True, False], [True, False, False], [True, True, True]])
    teacher, student = np.random.default_rng(4).normal(scale=2, size=(2, 3, 3, 5))
    expected, alone = oracle(teacher[mask], student[mask]), gradient_of(loss, teacher[mask], student[mask])
    teacher[~mask], student[~mask] = filling, filling
    assert_same(np.asarray(loss(teacher, student, mask=mask))[mask], expected)

    def of_kept(teacher, student):
        return tf.boolean_mask(loss(teacher, student, mask=mask), mask)

    gradient = gradient_of(of_kept, teacher, student)
    assert_same(gradient[mask], alone)
    assert_same(gradient[~mask], 0.0, atol=0)


@both
def test_a_batch_of_which_nothing_is_kept_teaches_nothing(loss, oracle):
    np.testing.assert_array_equal(gradient_of(loss, A, B, mask=np.zeros(7, bool)), np.zeros((7, 4)))


@both
def test_default_arguments_are_the_papers(loss, oracle):
    assert_same(loss(A, B), oracle(A, B))
