"""`QuantizedAffine` of every kind of kernel against the plain layer with weights rounded and folded by NumPy."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.quantization import FakeQuantize
from keras_kd.quantization.affine import QuantizedAffine, channel_axes

RNG = np.random.default_rng(2)
KINDS = {
    "dense": (lambda: layers.Dense(5), (4,), [1]),
    "dense on a sequence": (lambda: layers.Dense(5, use_bias=False), (6, 4), [1]),
    "einsum": (lambda: layers.EinsumDense("abc,cde->abde", (6, 2, 3), bias_axes="de"), (6, 4), [1, 2]),
    "einsum out": (lambda: layers.EinsumDense("abcd,cde->abe", (6, 5), bias_axes="e"), (6, 2, 3), [2]),
    "conv1d": (lambda: layers.Conv1D(5, 3), (8, 4), [2]),
    "conv2d": (lambda: layers.Conv2D(5, 3, strides=2, padding="same"), (8, 8, 4), [3]),
    "grouped": (lambda: layers.Conv2D(6, 3, groups=2), (8, 8, 4), [3]),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3), (8, 4), [1, 2]),
    "depthwise2d": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), [2, 3]),
    "transposed": (lambda: layers.Conv2DTranspose(5, 3, strides=2), (4, 4, 3), [2]),
}


def built(make, shape):
    layer = make()
    layer.build((None, *shape))
    layer.set_weights([RNG.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer


def on_grid(kernel, channels):
    others = tuple(axis for axis in range(kernel.ndim) if axis not in channels)
    scale = np.abs(kernel).max(axis=others, keepdims=True) / 127
    return np.round(kernel / scale) * scale


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_is_rounded_by_channel(kind):
    make, shape, channels = KINDS[kind]
    layer, x = built(make, shape), RNG.normal(size=(3, *shape)).astype("float32")
    assert channel_axes(layer) == channels
    affine, twin = QuantizedAffine(layer), make()
    found = affine(x)
    twin.build(x.shape)
    kernel, *bias = layer.get_weights()
    twin.set_weights([on_grid(kernel, channels), *bias])
    np.testing.assert_allclose(found, twin(x), rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(found) - np.asarray(layer(x))).max() > 1e-3
    np.testing.assert_array_equal(layer.get_weights()[0], kernel)


@pytest.mark.parametrize("kind", ["dense", "conv1d", "conv2d", "depthwise2d", "transposed"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_batch_normalization_is_folded_before_rounding(kind, use_bias):
    make, shape, channels = KINDS[kind]
    config = {**make().get_config(), "use_bias": use_bias}
    layer = built(lambda: type(make()).from_config(config), shape)
    norm = layers.BatchNormalization(epsilon=0.02)
    norm.build(layer.compute_output_shape((None, *shape)))
    gamma, beta, mean, variance = (RNG.uniform(0.5, 2, size=weight.shape) for weight in norm.get_weights())
    norm.set_weights([gamma, beta, mean, variance])
    x = RNG.normal(size=(3, *shape)).astype("float32")
    kernel = layer.get_weights()[0]
    bias = layer.get_weights()[1] if use_bias else 0.0
    factor = gamma / np.sqrt(variance + 0.02)
    spread = factor.reshape([kernel.shape[axis] if axis in channels else 1 for axis in range(kernel.ndim)])
    twin = type(layer).from_config({**config, "use_bias": True})
    twin.build((None, *shape))
    twin.set_weights([on_grid(kernel * spread, channels), (bias - mean) * factor + beta])
    np.testing.assert_allclose(QuantizedAffine(layer, norm)(x), twin(x), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.get_weights()[2], mean, rtol=1e-6)


def test_the_bias_lies_on_the_grid_of_int32():
    """Inputs in steps of 1, weights in steps of 0.01: a bias of 0.3173 is 0.32."""
    layer = layers.Dense(1)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.27], [0.5]]), np.array([0.3173])])
    inputs = keras.Input((2,))
    model = keras.Model(inputs, QuantizedAffine(layer)(layers.Reshape((2,))(FakeQuantize()(inputs))))
    np.testing.assert_allclose(model(np.zeros((1, 2))), [[0.3173]], rtol=1e-6)
    model(np.array([[0.0, 255.0]]), training=True)
    np.testing.assert_allclose(model(np.zeros((1, 2))), [[0.32]], rtol=1e-5)
    loaded = keras.Model.from_config(model.get_config())
    loaded.set_weights(model.get_weights())
    np.testing.assert_allclose(loaded(np.zeros((1, 2))), [[0.32]], rtol=1e-5)


def test_kernel_bias_gamma_and_beta_learn_and_statistics_do_not():
    import tensorflow as tf

    layer, norm = layers.Dense(3), layers.BatchNormalization()
    affine = QuantizedAffine(layer, norm)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(affine(RNG.normal(size=(4, 2)), training=True)))
    gradients = tape.gradient(loss, affine.trainable_variables)
    assert [v.name for v in affine.trainable_variables] == ["kernel", "bias", "gamma", "beta"]
    assert all(float(tf.reduce_max(tf.abs(gradient))) > 1e-3 for gradient in gradients)
    np.testing.assert_array_equal(norm.get_weights()[2], np.zeros(3))
