"""How a batch of two modalities matches up, in teacher and student."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from keras_kd.losses import batch_affinity
from tests.battery import assert_close, assert_gradient, numeric_gradient, tape_gradients
from tests.losses.cases import embeddings as formulas
from tests.losses.cases.embeddings import EMBEDDINGS

few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)
CASE = EMBEDDINGS["batch_affinity"]


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def pairs(seed, count=5, teacher_width=4, student_width=3):
    return drawn(seed, 2, count, teacher_width), drawn(seed + 1, 2, count, student_width)


def test_a_batch_by_hand():
    # Cosines of the teacher: 1 and 3/5, 0 and 4/5; of the student: all 1, so that it cannot tell.
    images, texts = [[2.0, 0.0], [0.0, 3.0]], [[1.0, 0.0], [0.6, 0.8]]
    to_text, to_image = np.array([[1, 0.6], [0, 0.8]]), np.array([[1, 0], [0.6, 0.8]])
    expected = 0.0
    for scores in (to_text, to_image):
        p = np.exp(scores / 0.2) / np.exp(scores / 0.2).sum(1, keepdims=True)
        expected = expected + (np.log(2) + (p * np.log(p)).sum(1)) / 2
    student = np.ones((2, 2, 1))
    np.testing.assert_allclose(batch_affinity((images, texts), student, 0.2, 0.7), expected, rtol=1e-5)


@pytest.mark.parametrize(("teacher_temperature", "student_temperature"), [(0.01, 0.01), (0.05, 0.2), (2.0, 0.07)])
def test_each_model_has_its_own_temperature_and_width(teacher_temperature, student_temperature):
    temperatures = {"teacher_temperature": teacher_temperature, "student_temperature": student_temperature}
    teacher, student = pairs(3, count=6)
    expected = formulas.batch_affinity(teacher, student, **temperatures)
    assert_close(batch_affinity(teacher, student, **temperatures), expected, rtol=1e-4)
    case = replace(CASE, arguments=temperatures)
    gradient = tape_gradients(case, teacher[0], student[0])[1]
    assert_gradient(gradient, numeric_gradient(case, teacher[0], student[0], step=1e-6), rtol=1e-3)


def test_the_default_temperatures_are_those_of_clip():
    teacher, student = pairs(4)
    expected = formulas.batch_affinity(teacher, student, 0.01, 0.01)
    assert_close(batch_affinity(teacher, student), expected, rtol=1e-4)


@few
@given(seed=seeds, factor=st.floats(0.01, 100))
def test_turning_or_stretching_a_models_space_changes_nothing(seed, factor):
    teacher, student = pairs(seed)
    value = batch_affinity(teacher, student, 0.5, 0.3)
    turns = ortho_group.rvs(4, random_state=seed), ortho_group.rvs(3, random_state=seed)
    turned = batch_affinity(factor * teacher @ turns[0], student @ turns[1] / factor, 0.5, 0.3)
    assert_close(turned, value, rtol=1e-4)


@few
@given(seed=seeds)
def test_the_modalities_are_alike_and_the_order_of_the_examples_is_that_of_the_values(seed):
    teacher, student = pairs(seed)
    value = batch_affinity(teacher, student, 0.5, 0.3)
    assert_close(batch_affinity(teacher[::-1], student[::-1], 0.5, 0.3), value)
    order = np.random.default_rng(seed).permutation(5)
    assert_close(batch_affinity(teacher[:, order], student[:, order], 0.5, 0.3), np.asarray(value)[order])
    assert np.all(np.asarray(value) >= -1e-6)


def test_what_a_mask_leaves_out_is_matched_with_nobody():
    teacher, student = pairs(5)
    keep = np.array([True, False, True, True, False])
    expected = np.zeros(5)
    expected[keep] = formulas.batch_affinity(teacher[:, keep], student[:, keep], 0.5, 0.3)
    teacher[:, ~keep], student[:, ~keep] = 7.0, -7.0
    for mask in (keep, keep.astype("float32"), tf.constant(keep)):
        assert_close(batch_affinity(teacher, student, 0.5, 0.3, mask=mask), expected)
    assert_close(batch_affinity(teacher, student, 0.5, 0.3, mask=np.zeros(5, bool)), np.zeros(5), atol=0)


def test_a_masked_example_gets_no_gradient_and_leaves_the_others_theirs():
    teacher, student = pairs(6)
    keep = np.array([True, True, False, True, True])
    case = replace(CASE, arguments={"teacher_temperature": 0.5, "student_temperature": 0.5})
    alone = tape_gradients(case, teacher[0][keep], student[0][keep])[1]
    masked = replace(case, arguments={**case.arguments, "mask": keep})
    gradient = np.asarray(tape_gradients(masked, teacher[0], student[0])[1])
    assert_close(gradient[keep], alone)
    assert_close(gradient[~keep], 0.0, atol=0)


def matches_beside_one_of_length_zero(student):
    """Of the case's two modalities, where the second example keeps its length: that of zero has no direction."""
    lengths = np.linalg.norm(student, axis=1, keepdims=True)
    lengths[1] = 1.0
    scores = (student / lengths) @ (student / lengths)[:, ::-1].T / 0.5
    return [np.exp(way) / np.exp(way).sum(1, keepdims=True) for way in (scores, scores.T)]


def test_embeddings_of_zero_match_all_alike_and_have_a_gradient():
    teacher, student = drawn(7, 4, 3), drawn(8, 4, 3)
    student[1] = 0.0
    taught = formulas.matches(teacher, teacher[:, ::-1], 0.5), formulas.matches(teacher[:, ::-1], teacher, 0.5)

    def expected(student):
        learnt = matches_beside_one_of_length_zero(student)
        return sum((p * np.log(p / q)).sum(1) / 2 for p, q in zip(taught, learnt, strict=True))

    np.testing.assert_allclose(matches_beside_one_of_length_zero(student)[0][1], np.full(4, 0.25))
    assert_close(CASE.value(teacher, student), expected(student))
    steps = 1e-5 * np.eye(3)
    ups = [np.outer([0, 1, 0, 0], step) for step in steps]
    slopes = [(expected(student + up).sum() - expected(student - up).sum()) / 2e-5 for up in ups]
    assert_gradient(tape_gradients(CASE, teacher, student)[1][1], np.array(slopes))
