from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.special import log1p
from scipy.stats import ortho_group

from keras_kd.losses import (
    contrastive,
    correlation_congruence,
    probabilistic_transfer,
    relational_angle,
    relational_distance,
    similarity_preserving,
)
from tests.battery import Case, assert_close, assert_gradient, numeric_gradient, tape_gradients
from tests.losses.cases import relations as formulas
from tests.losses.cases.relations import RELATIONS

few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)
AMONG_EXAMPLES = sorted(set(RELATIONS) - {"contrastive"})
TRIANGLE = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
LINE = np.array([[0.0], [1.0], [2.0]])


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_similarity_preserving_by_hand():
    teacher, student = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[2.0], [0.0]])
    rows = np.array([[1.0, 1.0], [1.0, 2.0]]) / np.sqrt([[2], [5]])
    expected = np.mean((rows - [[1, 0], [0, 0]]) ** 2, axis=1)
    np.testing.assert_allclose(similarity_preserving(teacher, student), expected, rtol=1e-6)


def test_relational_distance_by_hand():
    # Distances 3, 4, 5 with mean 4; 1, 2, 1 with mean 4/3.
    between = {(0, 1): 3 / 4 - 3 / 4, (0, 2): 4 / 4 - 6 / 4, (1, 2): 5 / 4 - 3 / 4}
    huber = {pair: difference**2 / 2 for pair, difference in between.items()}
    expected = [sum(value for pair, value in huber.items() if i in pair) / 3 for i in range(3)]
    np.testing.assert_allclose(relational_distance(TRIANGLE, LINE), expected, rtol=1e-6)


def test_a_great_difference_of_distances_counts_by_its_size():
    # Teacher: all apart by the mean. Student: two coincide, so that the others are apart by 3/2 of it.
    teacher, student = np.eye(4), np.array([[0.0], [0.0], [0.0], [1.0]])
    # Distances 1 with mean 1; three of 0 and three of 1 with mean 1/2.
    expected = [(0.5 + 0.5 + 0.5) / 4] * 3 + [3 * 0.5 / 4]
    np.testing.assert_allclose(relational_distance(teacher, student), expected, rtol=1e-6)
    student = np.array([[0.0]] * 9 + [[1.0]])  # 9 of 45 pairs apart, by 5 times the mean
    expected = [(8 * 0.5 + 3.5) / 10] * 9 + [9 * 3.5 / 10]
    np.testing.assert_allclose(relational_distance(np.eye(10), student), expected, rtol=1e-5)


def test_relational_angle_by_hand():
    # Cosines at the corners of the triangle: 0, 3/5, 4/5; on the line: 1, -1, 1. Each counts for both orders.
    huber = np.array([0.5, 1.6 - 0.5, 0.2**2 / 2])
    np.testing.assert_allclose(relational_angle(TRIANGLE, LINE), 2 * huber / 9, rtol=1e-6)


def test_probabilistic_transfer_by_hand():
    # Kernel of the teacher: 1 between the first two, 1/2 between others. Of the student: all 1.
    teacher, student = [[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]], [[1.0], [2.0], [3.0]]
    unequal = 2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3)
    np.testing.assert_allclose(probabilistic_transfer(teacher, student), [unequal, unequal, 0.0], atol=1e-6)


def test_opposite_examples_are_hardly_neighbours():
    case = RELATIONS["probabilistic_transfer"]
    teacher, student = np.ones((3, 1)), np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    apart = np.log(0.5 / (1e-7 / (0.5 + 1e-7))) / 2 + np.log(0.5 / (0.5 / (0.5 + 1e-7))) / 2
    np.testing.assert_allclose(probabilistic_transfer(teacher, student), [apart, apart, 0.0], rtol=1e-6, atol=1e-6)
    assert_gradient(tape_gradients(case, teacher, student)[1], numeric_gradient(case, teacher, student))


def test_correlation_congruence_by_hand():
    teacher, student = [[1.0, 0.0], [0.0, 2.0]], [[3.0], [-1.0]]
    off_diagonal = np.exp(-0.8) * (-0.8 + 0.8**2 / 2)
    np.testing.assert_allclose(correlation_congruence(teacher, student), [off_diagonal**2 / 2] * 2, rtol=1e-5)
    first_order = np.exp(-2.0) * -2.0
    value = correlation_congruence(teacher, student, gamma=1.0, order=1)
    np.testing.assert_allclose(value, [first_order**2 / 2] * 2, rtol=1e-5)


def test_correlation_tends_to_the_gaussian_kernel():
    teacher, student = drawn(0, 2, 5, 3)
    kernels = [
        np.exp(-0.7 * squareform(pdist(x / np.linalg.norm(x, axis=1, keepdims=True), "sqeuclidean")))
        for x in (teacher, student)
    ]
    expected = np.mean((kernels[0] - kernels[1]) ** 2, axis=1)
    np.testing.assert_allclose(correlation_congruence(teacher, student, 0.7, order=15), expected, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(RELATIONS))
@few
@given(seed=seeds)
def test_relations_do_not_turn_with_the_features(name, seed):
    teacher, student = drawn(seed, 2, 4, 3)
    turn = ortho_group.rvs(3, random_state=seed)
    loss = RELATIONS[name].loss
    value = loss(teacher, student)
    both_alike = (teacher @ turn, student @ turn)
    assert_close(loss(*both_alike), value, rtol=1e-4)
    if name in AMONG_EXAMPLES:
        assert_close(loss(teacher, student @ turn), value, rtol=1e-4)
        assert_close(loss(teacher @ turn, student), value, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(RELATIONS))
@few
@given(seed=seeds, factor=st.floats(0.125, 8))
def test_relations_do_not_grow_with_the_features(name, seed, factor):
    teacher, student = drawn(seed, 2, 4, 3)
    loss = RELATIONS[name].loss
    value = loss(teacher, student)
    assert_close(loss(teacher, factor * student), value, rtol=1e-4)
    assert_close(loss(factor * teacher, student), value, rtol=1e-4)


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
@few
@given(seed=seeds, shift=st.floats(-10, 10))
def test_distances_and_angles_do_not_move_with_the_features(loss, seed, shift):
    teacher, student = drawn(seed, 2, 4, 3)
    shifts = shift * np.array([1.0, -0.5, 2.0])
    assert_close(loss(teacher + shifts, student - shifts), loss(teacher, student), rtol=1e-3)


@pytest.mark.parametrize("name", sorted(RELATIONS))
@few
@given(seed=seeds, order=st.permutations(range(5)))
def test_values_follow_the_order_of_the_batch(name, seed, order):
    teacher, student = drawn(seed, 2, 5, 3)
    loss = RELATIONS[name].loss
    assert_close(loss(teacher[order], student[order]), np.asarray(loss(teacher, student))[order], rtol=1e-4)


@pytest.mark.parametrize("name", sorted(RELATIONS))
def test_an_example_alone_has_no_relations(name):
    case = RELATIONS[name]
    teacher, student = drawn(0, 2, 1, 3)
    assert_close(case.value(teacher, student), [0.0], atol=1e-6)
    assert_close(tape_gradients(case, teacher, student)[1], np.zeros((1, 3)), atol=1e-6)


@pytest.mark.parametrize("name", AMONG_EXAMPLES)
def test_examples_that_are_all_the_same(name):
    case = RELATIONS[name]
    teacher, student = drawn(0, 4, 3), np.ones((4, 3))
    assert_close(case.value(student, 2 * student), np.zeros(4), atol=1e-6)
    assert_close(tape_gradients(case, student, 2 * student)[1], np.zeros((4, 3)), atol=1e-6)
    # No distance has a slope at zero, so that nothing draws them apart.
    flat = name.startswith("relational")
    expected = np.zeros((4, 3)) if flat else numeric_gradient(case, teacher, student)
    assert_gradient(tape_gradients(case, teacher, student)[1], expected)


@pytest.mark.parametrize("name", AMONG_EXAMPLES)
def test_two_examples_that_coincide(name):
    case = RELATIONS[name]
    teacher, student = drawn(0, 2, 4, 3)
    student[1] = student[0]
    assert_close(case.value(teacher, student), case.expected(teacher, student))
    gradient, expected = tape_gradients(case, teacher, student)[1], numeric_gradient(case, teacher, student)
    assert np.isfinite(gradient).all()
    apart = slice(2 if name == "relational_angle" else 0, None)  # a direction turns about where two examples meet
    assert_gradient(gradient[apart], expected[apart])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Of one example at zero beside two at right angles: the row of the similarity, or of the kernel.
        ("similarity_preserving", [0.0, 0.0, 1 / 3]),
        ("correlation_congruence", [0.0, 0.0, (np.exp(-0.8) * (0.8 + 0.32)) ** 2 / 3]),
        ("probabilistic_transfer", [0.0, 0.0, 0.0]),
    ],
)
def test_an_example_of_zeros_is_like_no_other(name, expected):
    case = RELATIONS[name]
    teacher, student = np.eye(3), np.diag([1.0, 1.0, 0.0])
    assert_close(case.value(teacher, student), expected)
    assert_close(tape_gradients(case, teacher, student)[1], np.zeros((3, 3)), atol=1e-6)


@pytest.mark.parametrize("name", AMONG_EXAMPLES)
def test_masked_places_count_as_zero_whatever_stands_there(name):
    case = replace(RELATIONS[name], teacher_shape=None)
    teacher, student = case.batch()
    keep = np.array([[[1, 0], [1, 1]], [[1, 1], [1, 1]], [[0, 0], [1, 0]], [[0, 1], [1, 1]]]) > 0
    expected = case.expected(teacher * keep[..., None], student * keep[..., None])
    teacher[~keep] = student[~keep] = np.inf
    assert_close(case.value(teacher, student, mask=keep), expected)
    first = (np.moveaxis(feature, -1, 1) for feature in (teacher, student))
    assert_close(case.value(*first, mask=keep, data_format="channels_first"), expected)
    case = replace(case, arguments={"mask": keep})
    np.testing.assert_array_equal(tape_gradients(case, teacher, student)[1].numpy()[~keep], 0.0)


def test_contrastive_by_hand():
    # Scores 1 of the pairs, 0 of the rest, temperature 1/2, N / M = 2 / 100.
    embeddings = np.eye(3)
    critic = np.exp(2) / (np.exp(2) + 0.02), 1 / (1 + 0.02)
    expected = -np.log(critic[0]) - 2 * np.log(1 - critic[1])
    value = contrastive(embeddings, embeddings, 0.5, dataset_size=100)
    np.testing.assert_allclose(value, [expected] * 3, rtol=1e-5)


def test_the_data_set_is_the_candidates_by_default():
    # Alone with one negative: N / M = 1/2; orthogonal to both, the scores are 0.
    expected = log1p(0.5) + log1p(2.0)
    value = contrastive([[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]], negatives=[[0.0, 1.0, 0.0]])
    np.testing.assert_allclose(value, [expected], rtol=1e-5)


def with_bank(**arguments):
    arguments = {"negatives": drawn(9, 6, 5), **arguments}
    return Case(contrastive, formulas.contrastive, shape=(4, 5), any_leading=False, arguments=arguments)


@pytest.mark.parametrize("arguments", [{}, {"dataset_size": 1000}, {"temperature": 0.5}])
def test_negatives_from_a_memory_bank(arguments):
    case = with_bank(**arguments)
    teacher, student = case.batch()
    assert_close(case.value(teacher, student), case.expected(teacher, student))
    assert_gradient(tape_gradients(case, teacher, student)[1], numeric_gradient(case, teacher, student))


def test_the_memory_bank_gets_no_gradient():
    bank = tf.Variable(drawn(9, 6, 5))
    with tf.GradientTape() as tape:
        value = contrastive(*drawn(0, 2, 4, 5), negatives=bank)
    assert tape.gradient(value, bank) is None


@few
@given(seeds, st.permutations(range(4)))
def test_pairs_that_belong_together_lower_the_sum_by_their_scores(seed, order):
    # softplus(-z) = softplus(z) - z: which score is the pair's own makes no other difference.
    teacher = drawn(seed, 4, 5)
    units = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    gain = 4 - np.sum(units * units[order])
    difference = np.sum(contrastive(teacher, teacher[order], 0.5)) - np.sum(contrastive(teacher, teacher, 0.5))
    np.testing.assert_allclose(difference, gain / 0.5, atol=1e-4)
