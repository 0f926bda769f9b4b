from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_kd.losses import (
    activation_boundary,
    factor_transfer,
    hierarchical_context,
    hint,
    overhaul,
    variational_information,
)
from tests.battery import assert_close, assert_gradient, numeric_gradient, tape_gradients
from tests.losses.cases import features as formulas
from tests.losses.cases.features import FEATURES, VARIANCES

few = settings(deadline=None, max_examples=25, derandomize=True)
features = arrays("float32", (2, 3, 4), elements=st.floats(-10, 10, width=32))


def test_hint_by_hand():
    np.testing.assert_allclose(hint([[1.0, 2.0], [0.0, 0.0]], [[1.0, 4.0], [3.0, -1.0]]), [2.0, 5.0])


@few
@given(features, features)
def test_the_mean_of_hint_is_the_mean_squared_error_of_keras(teacher, student):
    expected = keras.losses.MeanSquaredError()(teacher, student)
    np.testing.assert_allclose(np.mean(hint(teacher, student)), expected, rtol=1e-5, atol=1e-6)


@few
@given(features, features, st.floats(-3, 3, width=32))
def test_hint_is_symmetric_and_grows_with_the_square(teacher, student, factor):
    value = np.asarray(hint(teacher, student))
    np.testing.assert_allclose(hint(student, teacher), value, rtol=1e-6)
    np.testing.assert_allclose(hint(factor * teacher, factor * student), factor**2 * value, rtol=1e-3, atol=1e-4)


def test_activation_boundary_by_hand():
    teacher, student = [[2.0, 0.1, -3.0, 0.0], [1.0, 1.0, -1.0, -1.0]], [[0.25, 3.0, -0.5, 1.0], [1.0, 2.0, -1.0, -9.0]]
    np.testing.assert_allclose(activation_boundary(teacher, student), [0.75**2 + 0 + 0.5**2 + 2**2, 0.0])
    np.testing.assert_allclose(activation_boundary(teacher, student, margin=2.0)[1:], [1 + 0 + 1 + 0])


@few
@given(features, features, st.floats(0.125, 8, width=32))
def test_only_the_sign_of_the_teacher_counts_for_its_boundaries(teacher, student, factor):
    value = activation_boundary(teacher, student)
    np.testing.assert_array_equal(activation_boundary(factor * teacher, student), value)


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (2.0, 1.0, 1.0),
        (2.0, 3.0, 1.0),
        (-3.0, -4.0, 0.0),
        (-3.0, -0.25, 0.0625),
        (-3.0, 0.5, 1.0),
        (-0.25, -1.0, 0.0),
        (-0.25, 0.0, 0.0625),
        (0.0, -1.0, 0.0),
        (0.0, 1.0, 1.0),
    ],
)
def test_overhaul_by_hand(teacher, student, expected):
    np.testing.assert_allclose(overhaul([[teacher]], [[student]], [-0.5]), [expected])


def test_every_channel_has_its_own_margin():
    np.testing.assert_allclose(overhaul([[-9.0, -9.0]], [[0.0, 0.0]], [-1.0, -2.0]), [1.0 + 4.0])


@pytest.mark.parametrize(
    ("p", "expected"), [(1, 0.6 + 0.2), (2, np.hypot(0.6, 0.2)), (3, (0.6**3 + 0.2**3) ** (1 / 3))]
)
def test_factor_transfer_by_hand(p, expected):
    np.testing.assert_allclose(factor_transfer([[[3.0], [4.0]]], [[[0.0], [2.0]]], p), [expected], rtol=1e-6)


def test_factor_transfer_takes_the_sum_of_absolute_values_by_default():
    np.testing.assert_allclose(factor_transfer([[3.0, 4.0]], [[0.0, 2.0]]), [0.8], rtol=1e-6)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_gradient_of_factor_transfer(p):
    case = replace(FEATURES["factor_transfer"], arguments={"p": p})
    teacher, student = case.batch(seed=1)
    assert_gradient(tape_gradients(case, teacher, student)[1], numeric_gradient(case, teacher, student))
    assert_close(tape_gradients(case, student, student)[1], np.zeros(student.shape), atol=0)


def test_a_factor_of_zeros_is_drawn_towards_the_teacher():
    case = FEATURES["factor_transfer"]
    np.testing.assert_allclose(factor_transfer([[3.0, -4.0]], [[0.0, 0.0]]), [1.4], rtol=1e-6)
    np.testing.assert_allclose(tape_gradients(case, [[3.0, -4.0]], [[0.0, 0.0]])[1], [[-1.0, 1.0]])


@few
@given(st.integers(0, 10**6), st.floats(0.125, 8), st.floats(0.125, 8))
def test_factors_have_no_size(seed, of_teacher, of_student):
    teacher, student = np.random.default_rng(seed).normal(size=(2, 3, 2, 2))
    value = factor_transfer(teacher, student)
    np.testing.assert_allclose(factor_transfer(of_teacher * teacher, of_student * student), value, rtol=1e-5)


def test_variational_information_by_hand():
    value = variational_information([[1.0, 5.0], [0.0, 0.0]], [[3.0, 5.0], [0.0, 1.0]], [4.0, 0.25])
    np.testing.assert_allclose(value, [np.log(2) + 0.5 + np.log(0.5), np.log(2) + np.log(0.5) + 2], rtol=1e-6)


def gradient_by_variance(teacher, mean, variance):
    variance = tf.Variable(variance, dtype="float32")
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(variational_information(teacher, mean, variance))
    return tape.gradient(total, variance)


def test_gradient_by_the_variance():
    teacher, mean = FEATURES["variational_information"].batch()
    step, expected = 1e-5, np.zeros(3)
    for c in range(3):
        shift = step * (np.arange(3) == c)
        rise, fall = (formulas.variational_information(teacher, mean, variance=VARIANCES + d) for d in (shift, -shift))
        expected[c] = (rise - fall).sum() / (2 * step)
    np.testing.assert_allclose(gradient_by_variance(teacher, mean, VARIANCES), expected, rtol=1e-5)


def test_the_best_variance_is_the_mean_squared_error_of_its_channel():
    teacher, mean = FEATURES["variational_information"].batch()
    best = np.mean((teacher - mean) ** 2, axis=(0, 1, 2))
    np.testing.assert_allclose(gradient_by_variance(teacher, mean, best), np.zeros(3), atol=1e-4)


def test_the_variance_broadcasts_in_either_data_format():
    teacher, mean = FEATURES["variational_information"].batch()
    variance = np.random.default_rng(0).uniform(0.5, 2.0, size=teacher.shape)
    expected = formulas.variational_information(teacher, mean, variance=1.0)
    np.testing.assert_allclose(variational_information(teacher, mean, 1.0), expected, rtol=1e-5)
    expected = np.sum(np.log(variance) / 2 + (teacher - mean) ** 2 / (2 * variance), axis=(1, 2, 3))
    np.testing.assert_allclose(variational_information(teacher, mean, variance), expected, rtol=1e-5)
    first = (np.moveaxis(tensor, -1, 1) for tensor in (teacher, mean, variance))
    np.testing.assert_allclose(variational_information(*first, data_format="channels_first"), expected, rtol=1e-5)


def test_hierarchical_context_by_hand():
    difference = np.array([[[3.0, 1.0], [1.0, -1.0]], [[1.0, -1.0], [-1.0, 1.0]]])[..., None]
    value = hierarchical_context(difference, np.zeros_like(difference))
    np.testing.assert_allclose(value, [(12 / 4 + 0.5 * 1**2) / 1.5, (1 + 0) / 1.5], rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 9, 4, 3), (2, 7, 3), (2, 2, 5, 3), (2, 5, 4, 3, 2), (2, 5)])
@pytest.mark.parametrize("levels", [(4, 2, 1), (3,), ()])
def test_hierarchical_context_of_any_grid(shape, levels):
    teacher, student = np.random.default_rng(1).normal(size=(2, *shape))
    expected = formulas.hierarchical_context(teacher, student, levels=levels)
    np.testing.assert_allclose(hierarchical_context(teacher, student, levels), expected, rtol=1e-5)


@few
@given(st.integers(1, 9), st.floats(-3, 3, width=32))
def test_a_constant_error_has_its_square_at_every_scale(height, error):
    student = np.random.default_rng(0).normal(size=(1, height, 5, 2))
    np.testing.assert_allclose(hierarchical_context(student + error, student), [error**2], rtol=1e-4, atol=1e-5)


def test_hierarchical_context_asks_for_known_sizes():
    feature = keras.KerasTensor((None, None, 8, 3))
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        hierarchical_context(feature, feature)
    assert str(refusal.value) == (
        "`hierarchical_context`: features must have places of known number, to be averaged in cells. "
        "Received: student.shape=(None, None, 8, 3). Give the model an input of fixed size."
    )


MASKED = [name for name, case in FEATURES.items() if case.masked]
KEPT = np.array([[[1, 1, 0], [1, 1, 1]], [[0, 1, 0], [0, 1, 1]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 1], [1, 0, 1]]]) > 0


def of_one_grid(name):
    case = FEATURES[name]
    return replace(case, teacher_shape=(*case.shape[:-1], (case.teacher_shape or case.shape)[-1]))


@pytest.mark.parametrize("name", MASKED)
def test_every_example_keeps_its_own_places(name):
    case = of_one_grid(name)
    teacher, student = case.batch()
    expected = [
        case.expected(t[None, keep], s[None, keep])[0] for t, s, keep in zip(teacher, student, KEPT, strict=True)
    ]
    teacher[~KEPT] = student[~KEPT] = np.inf
    assert_close(case.value(teacher, student, mask=KEPT), expected)


@pytest.mark.parametrize("name", MASKED)
def test_masked_places_of_infinity_get_no_gradient(name):
    case = of_one_grid(name)
    case = replace(case, arguments={**case.arguments, "mask": KEPT})
    teacher, student = case.batch()
    expected = tape_gradients(case, teacher, student)[1].numpy()
    np.testing.assert_array_equal(expected[~KEPT], 0.0)
    teacher[~KEPT] = student[~KEPT] = np.inf
    np.testing.assert_array_equal(tape_gradients(case, teacher, student)[1], expected)


@pytest.mark.parametrize("name", MASKED)
def test_an_example_without_places_says_nothing(name):
    case = of_one_grid(name)
    teacher, student = case.batch()
    none = np.zeros((4, 2, 3), bool)
    assert_close(case.value(teacher, student, mask=none), np.zeros(4), atol=0)
    case = replace(case, arguments={**case.arguments, "mask": none})
    np.testing.assert_array_equal(tape_gradients(case, teacher, student)[1], np.zeros(student.shape))


@pytest.mark.parametrize("name", MASKED)
def test_sizes_of_the_grid_may_be_unknown_when_traced(name):
    case = of_one_grid(name)
    teacher, student = (np.float32(tensor) for tensor in case.batch())
    specs = [tf.TensorSpec((None, None, None, tensor.shape[-1])) for tensor in (teacher, student)]
    traced = tf.function(case.value, input_signature=specs)
    assert_close(traced(teacher, student), case.expected(teacher, student))
