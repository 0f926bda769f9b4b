import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_kd.losses import soft_target_cross_entropy, soft_target_kl
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
