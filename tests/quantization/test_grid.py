"""The grids of int8 against NumPy, and how their gradients pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.quantization.grid import (
    activation_scale,
    activations_on_grid,
    bias_on_grid,
    constants_on_grid,
    weight_scale,
    weights_on_grid,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("shape", "channels"), [((5, 4), [1]), ((3, 3, 2, 6), [3]), ((3, 3, 4, 2), [2, 3])])
def test_weights_have_127_levels_on_each_side_by_channel(shape, channels):
    weights = RNG.normal(size=shape).astype("float32")
    others = tuple(axis for axis in range(len(shape)) if axis not in channels)
    scale = np.abs(weights).max(axis=others, keepdims=True) / 127
    expected = np.round(weights / scale) * scale
    np.testing.assert_allclose(weights_on_grid(weights, channels), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(weight_scale(weights, channels), scale, rtol=1e-6)
    levels = np.unique(np.round(np.asarray(weights_on_grid(weights, channels)) / scale))
    assert (levels.min(), levels.max()) in {(-127, levels.max()), (levels.min(), 127)}


def test_a_channel_of_zeros_stays_zero():
    np.testing.assert_array_equal(weights_on_grid(np.zeros((3, 2), "float32"), [1]), np.zeros((3, 2)))


def rounded_by_numpy(x, low, high):
    scale = np.float64(activation_scale(low, high))
    zero = np.clip(np.round(-low / scale), 0, 255)
    return scale * (np.clip(np.floor(x / scale + zero + 0.5), 0, 255) - zero)


@pytest.mark.parametrize(("low", "high"), [(-1.3, 2.9), (0.0, 6.0), (-4.0, 0.0), (-1e-3, 70.0)])
def test_activations_have_256_levels_of_which_one_is_zero(low, high):
    x = RNG.uniform(1.5 * low - 0.1, 1.5 * high + 0.1, size=2000).astype("float32")
    found = np.asarray(activations_on_grid(x, low, high))
    np.testing.assert_allclose(found, rounded_by_numpy(x, low, high), atol=1e-5 * (high - low))
    assert 0.0 in np.asarray(activations_on_grid(np.array([0.0, 1e-9], "float32"), low, high))
    assert len(np.unique(found)) == pytest.approx(256, abs=2)


def test_the_step_has_16_bits_and_is_no_less_than_a_255th():
    for high in RNG.uniform(1e-4, 1e4, size=200).astype("float32"):
        step = float(activation_scale(0.0, high))
        mantissa, _ = np.frexp(step)
        assert mantissa * 2**16 == int(mantissa * 2**16)
        assert high / 255 * (1 - 1e-7) <= step <= high / 255 * (1 + 2**-15)


def gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(function(x) * tf.constant([1.0, 2.0, 3.0, 4.0]))
    return tape.gradient(y, x).numpy()


def test_gradients_pass_through_weights_and_within_the_range_of_activations():
    x = np.array([-2.0, 0.03, 0.52, 9.0], "float32")
    np.testing.assert_array_equal(gradient(lambda w: weights_on_grid(w[:, None], [1])[:, 0], x), [1, 2, 3, 4])
    np.testing.assert_array_equal(gradient(lambda v: activations_on_grid(v, -1.0, 1.0), x), [0, 2, 3, 0])
    np.testing.assert_array_equal(gradient(lambda b: bias_on_grid(b, keras.ops.ones(4)), x), [1, 2, 3, 4])


def test_a_bias_is_a_multiple_of_both_scales_and_left_alone_where_there_is_none():
    bias, scale = np.array([0.26, -1.1, 0.37], "float32"), np.array([0.25, 0.5, 0.0], "float32")
    np.testing.assert_allclose(bias_on_grid(bias, scale), [0.25, -1.0, 0.37], rtol=1e-6)


def test_a_constant_has_the_range_of_its_values_and_zero():
    constant = np.array([0.5, 2.55], "float32")
    np.testing.assert_allclose(constants_on_grid(constant), rounded_by_numpy(constant, 0.0, 2.55), rtol=1e-6)
    constant = np.array([-1.0, -0.3], "float32")
    np.testing.assert_allclose(constants_on_grid(constant), rounded_by_numpy(constant, -1.0, 1e-6), rtol=1e-5)
