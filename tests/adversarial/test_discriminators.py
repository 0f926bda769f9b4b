"""The default discriminator, from shapes alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.adversarial import discriminator_for
from keras_kd.adversarial.discriminators import can_see
from tests.cache.caching import refusal_of


def kernels(model):
    return [tuple(weight.shape) for weight in model.trainable_weights if len(weight.shape) > 1]


@pytest.mark.parametrize(
    ("shape", "inputs", "outputs", "expected"),
    [
        ((None, 10), None, 1, [(10, 128), (128, 256), (256, 128), (128, 1)]),
        ((None, 10), None, 11, [(10, 128), (128, 256), (256, 128), (128, 11)]),
        ((None, 10), (None, 5), 1, [(15, 128), (128, 256), (256, 128), (128, 1)]),
        ((None, 7, 3), None, 1, [(4, 3, 64), (4, 64, 128), (4, 128, 256), (256, 1)]),
        ((None, 8, 6, 3), None, 1, [(4, 4, 3, 64), (4, 4, 64, 128), (4, 4, 128, 256), (256, 1)]),
        ((None, None, None, 3), None, 1, [(4, 4, 3, 64), (4, 4, 64, 128), (4, 4, 128, 256), (256, 1)]),
        ((None, 8, 6, 3), (None, 32, 24, 2), 1, [(4, 4, 5, 64), (4, 4, 64, 128), (4, 4, 128, 256), (256, 1)]),
        (
            (None, 10),
            (None, 32, 24, 2),
            1,
            [(4, 4, 2, 64), (4, 4, 64, 128), (4, 4, 128, 256), (266, 128), (128, 256), (256, 128), (128, 1)],
        ),
    ],
)
def test_the_shapes_of_its_weights(shape, inputs, outputs, expected):
    model = discriminator_for(shape, outputs, inputs=inputs)
    assert kernels(model) == expected
    assert model.output_shape == (None, outputs)
    given = [np.ones([2, *(size or 5 for size in one[1:])], "float32") for one in (shape, inputs) if one]
    assert tuple(model(given if inputs else given[0]).shape) == (2, outputs)


def test_it_sees_the_inputs():
    model = discriminator_for((None, 4), inputs=(None, 8, 8, 3))
    judged, seen = np.ones((2, 4), "float32"), np.random.default_rng(0).random((2, 8, 8, 3)).astype("float32")
    one, two = np.array(model([judged, seen]))
    assert one != two


def test_no_layer_normalizes_over_the_batch():
    """A gradient penalty is of each example's score by its own input."""
    model = discriminator_for((None, 8, 6, 3), inputs=(None, 8, 6, 2))
    judged, seen = (tf.random.normal((3, 8, 6, channels), seed=channels) for channels in (3, 2))
    alone = model([judged[:1], seen[:1]], training=True)
    np.testing.assert_allclose(model([judged, seen], training=True)[:1], alone, rtol=1e-5)


def test_spectral_normalization_holds_every_layer_to_a_norm_of_one():
    def norms(model):
        return [np.linalg.norm(np.array(kernel), 2) for kernel in model.trainable_weights if len(kernel.shape) == 2]

    model = discriminator_for((None, 10), spectral_normalization=True)
    for _ in range(40):
        model(np.ones((2, 10), "float32"), training=True)
    np.testing.assert_allclose(norms(model), np.ones(4), atol=0.02)
    assert max(norms(discriminator_for((None, 10)))) > 1.2
    convolved = discriminator_for((None, 8, 6, 3), spectral_normalization=True)
    wrapped = [layer.layer for layer in convolved.layers if isinstance(layer, keras.layers.SpectralNormalization)]
    assert [type(layer).__name__ for layer in wrapped] == ["Conv2D", "Conv2D", "Conv2D", "Dense"]


def test_it_computes_in_float32_under_any_policy():
    plain = discriminator_for((None, 10), inputs=(None, 8, 8, 1))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = discriminator_for((None, 10), inputs=(None, 8, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(plain.get_weights())
    shown = [np.random.default_rng(0).random(shape).astype("float32") for shape in ((4, 10), (4, 8, 8, 1))]
    np.testing.assert_array_equal(model(shown), plain(shown))
    assert model.dtype_policy.name == "float32"


@pytest.mark.parametrize(
    ("shape", "spec", "expected"),
    [
        ((None, 10), tf.TensorSpec((None, 28, 28, 1), tf.float32), True),
        ((None, 10), tf.TensorSpec((None, 5), tf.float16), True),
        ((None, 8, 8, 3), tf.TensorSpec((None, 32, 32, 3), tf.float32), True),
        ((None, 8, 8, 3), tf.TensorSpec((None, 5), tf.float32), False),
        ((None, None, None, 3), tf.TensorSpec((None, 32, 32, 3), tf.float32), False),
        ((None, 10), tf.TensorSpec((None, None, None, 3), tf.float32), False),
        ((None, 10), tf.TensorSpec((None, 20), tf.int32), False),
        ((None, 10), tf.TensorSpec((None, 20, 4), tf.float32), False),
        ((None, 10), {"image": tf.TensorSpec((None, 28, 28, 1), tf.float32)}, False),
    ],
)
def test_what_it_can_see(shape, spec, expected):
    assert can_see(shape, spec) is expected


@pytest.mark.parametrize("shape", [(None,), (None, None), (None, 2, 3, 4, 5)])
def test_other_shapes_are_refused(shape):
    assert refusal_of(discriminator_for, shape) == (
        f"`AdversarialDistiller`: no discriminator is known for what has the shape {shape}; vectors, sequences and "
        "grids with a known number of channels have one. Give one as `discriminator`, or name another layer in `on`."
    )
