from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_kd.losses import attention_transfer, channel_wise, flow_of_solution, neuron_selectivity
from tests.battery import Case, assert_close, assert_gradient, numeric_gradient, tape_gradients
from tests.losses.cases import features as formulas
from tests.losses.cases.features import FEATURES
from tests.losses.cases.logits import kl

few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_attention_transfer_by_hand():
    # Two places; energies 1 + 1 and 4 + 4 of the teacher, 9 and 0 of the student.
    teacher = [[[1.0, 1.0], [2.0, -2.0]]]
    student = [[[3.0], [0.0]]]
    squares = np.array([2.0, 8.0]) / np.hypot(2, 8)
    np.testing.assert_allclose(attention_transfer(teacher, student), [np.mean((squares - [1, 0]) ** 2)], rtol=1e-6)
    sizes = np.array([2.0, 4.0]) / np.hypot(2, 4)
    np.testing.assert_allclose(attention_transfer(teacher, student, p=1), [np.mean((sizes - [1, 0]) ** 2)], rtol=1e-6)


@pytest.mark.parametrize("p", [1, 1.5, 2, 4])
def test_gradient_of_attention_with_channels_at_zero(p):
    case = replace(FEATURES["attention_transfer"], arguments={"p": p})
    teacher, student = case.batch()
    student[:, 0] = 0.0
    assert_gradient(tape_gradients(case, teacher, student)[1], numeric_gradient(case, teacher, student, step=1e-6))


@pytest.mark.parametrize("p", [1, 1.5, 2])
def test_a_student_that_looks_nowhere(p):
    case = replace(FEATURES["attention_transfer"], arguments={"p": p})
    teacher, _ = case.batch()
    assert_close(case.value(teacher, np.zeros(case.shape)), np.full(4, 1 / 6))
    np.testing.assert_array_equal(tape_gradients(case, teacher, np.zeros(case.shape))[1], np.zeros(case.shape))


@few
@given(seeds, st.floats(0.125, 8), st.sampled_from([1, 2, 3]))
def test_attention_has_no_size_and_no_number_of_channels(seed, factor, p):
    teacher, student = drawn(seed, 2, 2, 3, 2, 4)
    value = np.asarray(attention_transfer(teacher, student, p))
    np.testing.assert_allclose(attention_transfer(teacher, -factor * student, p), value, rtol=1e-4, atol=1e-7)
    twice = np.concatenate([student, student[..., ::-1]], -1)
    np.testing.assert_allclose(attention_transfer(teacher, twice, p), value, rtol=1e-4, atol=1e-7)


def test_vectors_have_one_place_to_look_at():
    np.testing.assert_allclose(attention_transfer([[1.0, 2.0]], [[3.0, 0.0]]), [0.0])


def test_channel_wise_by_hand():
    teacher = np.log([[[0.5, 0.2], [0.5, 0.8]]])
    student = np.log([[[0.25, 0.2], [0.75, 0.8]]])
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    np.testing.assert_allclose(channel_wise(teacher, student), [first / 2], rtol=1e-5)
    np.testing.assert_allclose(channel_wise(2 * teacher, 2 * student, 2.0), [4 * first / 2], rtol=1e-5)


def test_channel_wise_is_the_soft_target_loss_of_places():
    teacher, student = drawn(0, 2, 4, 2, 3, 5)
    rows = (np.moveaxis(feature.reshape(4, 6, 5), 1, 2) for feature in (teacher, student))
    np.testing.assert_allclose(channel_wise(teacher, student, 3.0), kl(*rows, 3.0).mean(-1), rtol=1e-5)


@few
@given(seeds, st.floats(-20, 20))
def test_a_constant_added_to_a_channel_changes_nothing(seed, shift):
    teacher, student = drawn(seed, 2, 2, 3, 2, 4)
    shifts = shift * np.array([0, 1, -1, 0.5])
    value = channel_wise(teacher, student)
    np.testing.assert_allclose(channel_wise(teacher, student + shifts), value, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(channel_wise(teacher + shifts, student), value, rtol=1e-4, atol=2e-6)


def test_temperature_of_channels_may_be_a_variable_that_moves():
    temperature = keras.Variable(2.0, trainable=False)
    teacher, student = drawn(0, 2, 2, 3, 2, 4)
    traced = tf.function(lambda t, s: channel_wise(t, s, temperature))
    for value in (2.0, 5.0):
        temperature.assign(value)
        expected = formulas.channel_wise(teacher, student, temperature=value)
        np.testing.assert_allclose(traced(teacher, student), expected, rtol=1e-5)
    assert traced.experimental_get_tracing_count() == 1


def test_flow_by_hand():
    # Two steps; channels 2 -> 1. G = (F₁ᵀ F₂) / 2.
    teacher = [[[1.0, 2.0], [3.0, 4.0]]], [[[1.0], [-1.0]]]
    student = [[[0.0, 2.0], [2.0, 0.0]]], [[[1.0], [1.0]]]
    np.testing.assert_allclose(flow_of_solution(teacher, student), [(-1 - 1) ** 2 + (-1 - 1) ** 2])


def test_flow_pools_the_larger_grid_by_its_maximum():
    # Three steps in two cells: steps 0 and 1, steps 1 and 2.
    larger, smaller = [[[5.0], [1.0], [2.0]]], [[[1.0], [10.0]]]
    nothing = [[[0.0]]], [[[0.0]]]
    np.testing.assert_allclose(flow_of_solution((larger, smaller), nothing), [((5 * 1 + 2 * 10) / 2) ** 2])
    np.testing.assert_allclose(flow_of_solution((smaller, larger), nothing), [((5 * 1 + 2 * 10) / 2) ** 2])


GRIDS = [((4, 4), (2, 2)), ((2, 3), (5, 7)), ((5, 2), (3, 4)), ((4,), (3,)), ((3, 2, 4), (2, 2, 3)), ((), ())]


@pytest.mark.parametrize(("first", "second"), GRIDS)
def test_flow_between_any_two_grids(first, second):
    teacher = drawn(0, 2, *first, 3), drawn(1, 2, *second, 2)
    student = drawn(2, 2, *second, 3), drawn(3, 2, *first, 2)
    expected = formulas.flow_of_solution(teacher, student)
    np.testing.assert_allclose(flow_of_solution(teacher, student), expected, rtol=1e-5)
    if len(first) > 1:
        teacher, student = ([np.moveaxis(feature, -1, 1) for feature in pair] for pair in (teacher, student))
        value = flow_of_solution(teacher, student, data_format="channels_first")
        np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("place", [0, 1])
def test_gradient_of_flow_by_either_feature_of_the_pair(place):
    teacher = drawn(0, 2, 3, 4, 3), drawn(1, 2, 2, 2, 2)
    student = drawn(2, 2, 4, 3, 3), drawn(3, 2, 2, 2, 2)

    def with_one_free(function, _, feature):
        return function(teacher, (feature, student[1]) if place == 0 else (student[0], feature))

    case = Case(flow_of_solution, formulas.flow_of_solution, call=with_one_free)
    expected = numeric_gradient(case, 0.0, student[place])
    assert_gradient(tape_gradients(case, 0.0, student[place])[1], expected)


@pytest.mark.parametrize(
    ("pair", "mask", "received"),
    [
        (
            (np.zeros((1, 4, 3)), np.zeros((1, 2, 3))),
            np.ones((1, 4), bool),
            "shapes (1, 4, 3) and (1, 2, 3), mask=given",
        ),
        ([keras.KerasTensor((1, size, 3)) for size in (None, 2)], None, "shapes (1, None, 3) and (1, 2, 3), mask=None"),
    ],
)
def test_flow_asks_for_grids_that_it_can_pool(pair, mask, received):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        flow_of_solution(pair, pair, mask=mask)
    assert str(refusal.value) == (
        "`flow_of_solution`: the features of a pair must have the same places, or grids of known sizes and no mask, "
        f"to be pooled to one. Received: {received}. Pick features of one grid, or fix the input's size and leave the "
        "mask out."
    )


def test_neuron_selectivity_by_hand():
    # Maps (1, 0) and (0, 1) of the teacher, (0.6, 0.8) of the student.
    teacher, student = [[[2.0, 0.0], [0.0, 5.0]]], [[[3.0], [4.0]]]
    np.testing.assert_allclose(neuron_selectivity(teacher, student), [2 / 4 + 1 - 2 * (0.6**2 + 0.8**2) / 2])


@few
@given(seeds, st.permutations(range(4)))
def test_the_order_sign_and_size_of_neurons_do_not_matter(seed, order):
    teacher, student = drawn(seed, 2, 2, 3, 2, 4)
    value = neuron_selectivity(teacher, student)
    np.testing.assert_allclose(neuron_selectivity(teacher, student[..., order]), value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(neuron_selectivity(teacher[..., order], student), value, rtol=1e-4, atol=1e-6)
    scaled = student * np.array([-1, 2, -0.5, 3])
    np.testing.assert_allclose(neuron_selectivity(teacher, scaled), value, rtol=1e-4, atol=1e-6)


def test_a_neuron_that_is_silent_everywhere():
    case = FEATURES["neuron_selectivity"]
    teacher, student = case.batch()
    student[..., 0] = 0.0
    alive = np.mean([[np.dot(x, y) ** 2 for x in unit_maps(student[0])] for y in unit_maps(student[0])])
    shared = np.mean([[np.dot(x, y) ** 2 for x in unit_maps(student[0])] for y in unit_maps(teacher[0])])
    own = np.mean([[np.dot(x, y) ** 2 for x in unit_maps(teacher[0])] for y in unit_maps(teacher[0])])
    assert_close(case.value(teacher, student)[0], own + alive - 2 * shared)
    np.testing.assert_array_equal(tape_gradients(case, teacher, student)[1][..., 0], np.zeros(case.shape[:-1]))


def unit_maps(feature):
    maps = feature.reshape(-1, feature.shape[-1]).T
    return maps / np.maximum(np.linalg.norm(maps, axis=1, keepdims=True), 1e-30)
