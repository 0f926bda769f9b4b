"""The generator of images, and how DAFL finds the feature it listens to."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.data_free import DAFL, DataFreeDistiller, image_generator
from keras_kd.teachers import Ensemble, Teacher
from tests.data_free.data_free_models import mlp, noise_of, player, teacher


@pytest.mark.parametrize(
    ("shape", "doublings"), [((8, 8, 1), 2), ((28, 28, 1), 2), ((32, 32, 3), 2), ((30, 45, 2), 3), ((96, 64, 3), 4)]
)
def test_images_of_any_size(shape, doublings):
    model = image_generator(shape, latent_dim=3, width=2)
    assert (model.input_shape, model.output_shape) == ((None, 3), (None, *shape))
    assert sum(isinstance(layer, layers.UpSampling2D) for layer in model.layers) == doublings
    assert model(np.ones((2, 3))).shape == (2, *shape)


def test_a_batch_has_the_mean_and_the_deviation_of_the_images_by_channel():
    keras.utils.set_random_seed(0)
    model = image_generator((8, 8, 2), latent_dim=5, width=4, mean=[0.1, -3.0], std=[0.3, 2.0])
    drawn = np.asarray(model(keras.random.normal((64, 5), seed=1), training=True))
    np.testing.assert_allclose(drawn.mean((0, 1, 2)), [0.1, -3.0], atol=1e-4)
    np.testing.assert_allclose(drawn.std((0, 1, 2)), [0.3, 2.0], rtol=1e-3)


def test_weights_of_the_published_generator():
    """`GeneratorA` of the authors for MNIST: nz=100, ngf=64, nc=1, img_size=32, in its parameters and statistics."""
    dense = 100 * 128 * 64 + 128 * 64
    convolutions = (128 * 128 * 9 + 128) + (128 * 64 * 9 + 64) + (64 * 9 + 1)
    scales_and_shifts, statistics = 2 * (128 + 128 + 64), 2 * (128 + 128 + 64 + 1)
    model = image_generator((32, 32, 1), latent_dim=100)
    assert model.count_params() == dense + convolutions + scales_and_shifts + statistics


def test_images_are_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = image_generator((8, 8, 1), width=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(model(np.ones((1, 256))).dtype) == "float32"


def test_a_student_of_images_needs_no_generator_of_its_own():
    def cnn(width):
        stack = [layers.Conv2D(width, 3, strides=2), layers.Flatten(), layers.Dense(3)]
        return keras.Sequential([keras.Input((8, 8, 1)), *stack])

    generator = DataFreeDistiller(cnn(2), cnn(3)).generator
    assert (generator.input_shape, generator.output_shape) == ((None, 256), (None, 8, 8, 1))
    expected = image_generator((8, 8, 1)).get_layer(index=-1).get_config()
    assert {**generator.get_layer(index=-1).get_config(), "name": expected["name"]} == expected
    assert (expected["scale"], expected["offset"]) == (0.25, 0.5)


def nested():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.ReLU()(mlp(6, 0, name="inner")(inputs)), name="outer")


@pytest.mark.parametrize(
    ("tap", "model", "expected"),
    [(None, teacher(), "head:input"), (None, nested(), "inner/head:input"), ("hidden", teacher(), "hidden")],
)
def test_where_dafl_listens(tap, model, expected):
    method = DAFL(tap)
    method.prepare(Teacher(model))
    assert method.teacher_taps == (expected,)


def test_dafl_without_the_activation_loss_learns_from_an_ensemble():
    ensemble = Ensemble([teacher(), mlp(8, seed=11)])
    distiller = player(DAFL(activation_weight=0), rate=0.0, generator_rate=0.0)
    distiller.teacher = ensemble
    noise = noise_of(distiller)
    history = distiller.fit(steps_per_epoch=1, batch_size=9, verbose=0).history
    drawn = distiller.generator(noise(9), training=True)
    p = np.mean([keras.ops.softmax(member.model(drawn)) for member in ensemble.members], axis=0)
    one_hot = -np.log(p.max(-1)).mean()
    entropy = np.sum(p.mean(0) * np.log10(p.mean(0)))
    assert history["one_hot_loss"] == pytest.approx([one_hot], rel=1e-5)
    assert history["entropy_loss"] == pytest.approx([entropy], rel=1e-5)
    assert history["generator_loss"] == pytest.approx([one_hot + 5 * entropy], rel=1e-5)
    assert "activation_loss" not in history


def test_dafl_needs_a_layer_to_listen_at():
    class Bare(keras.Layer):
        def call(self, inputs):
            return inputs[:, :3]

    text = (
        "`DAFL`: the teacher `bare` has no layers with weights to listen at. Name a place to listen, `DAFL(tap=...)`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        DAFL().prepare(Teacher(Bare(name="bare")))
