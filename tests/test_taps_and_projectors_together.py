"""A named tensor of a student's own `call`, fitted to the teacher's by a projector, as a `Distiller` trains them."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.listening import tap
from keras_kd.taps import forward

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 8, 8, 3)).astype("float32")
Y = RNG.integers(0, 4, 6)


class Gated(keras.Model):
    """A map times its gate; `steps` makes a sequence of the map, behind a class token of zeros."""

    def __init__(self, channels, stride=1, steps=False, seed=1):
        super().__init__()
        keras.utils.set_random_seed(seed)
        self.stem = layers.Conv2D(channels, 3, stride, padding="same", name="stem")
        self.gate = layers.Conv2D(channels, 1, stride, activation="sigmoid", name="gate")
        self.pool = layers.GlobalAveragePooling2D(name="pool")
        self.head = layers.Dense(4, name="head")
        self.steps = steps

    def call(self, x):
        gated = self.stem(x) * self.gate(x)
        if self.steps:
            tap("gated", keras.ops.pad(keras.ops.reshape(gated, (-1, 64, gated.shape[-1])), ((0, 0), (1, 0), (0, 0))))
        else:
            tap("gated", gated)
        return self.head(self.pool(gated))


def gated(model):
    return model.stem(X).numpy() * model.gate(X).numpy()


def distiller_of(student, teacher, *taps, **compile_with):
    hint = kd.objectives.Hint(*taps)
    distiller = kd.Distiller(student, teacher, hint, alpha=0.0)
    distiller.compile(**{"optimizer": keras.optimizers.SGD(0.0), "jit_compile": False, **compile_with})
    return distiller, hint


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("steps", [False, True], ids=["grid", "sequence"])
def test_a_named_tensor_is_distilled(jit_compile, steps):
    teacher, student = Gated(6, stride=2, seed=1), Gated(3, steps=steps, seed=2)
    distiller, hint = distiller_of(student, teacher, "gated", "gated", jit_compile=jit_compile)
    logged = distiller.fit(X, Y, batch_size=6, verbose=0).history["hint"]
    small = gated(student).reshape(6, 4, 2, 4, 2, 3).mean((2, 4))
    mapped = small @ hint.projector.trainable_weights[0].numpy()[0, 0]
    fitted = (mapped - mapped.mean((0, 1, 2))) / np.sqrt(mapped.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(logged, [np.square(fitted - gated(teacher)).mean()], rtol=1e-4)


def test_a_typo_fails_before_training():
    teacher, student = Gated(6), Gated(3)
    student(X)
    student.name = "small"
    distiller, _ = distiller_of(student, teacher, "gated", "gatet", optimizer=keras.optimizers.SGD(1.0))
    before = student.get_weights()
    text = "Tap 'gatet': `small` has no layer `gatet`. Its layers: stem, gate, pool, head. Its named tensors: gated."
    with pytest.raises(ValueError, match=re.escape(text)):
        distiller.fit(X, Y, verbose=0)
    assert distiller.optimizer.iterations == 0
    for weight, value in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_the_thread_of_a_replica_hears_its_model():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([devices[0].name])
    with strategy.scope():
        model = Gated(3)
        model(X)

    @tf.function
    def listen():
        return strategy.run(lambda: forward(model, tf.constant(X), ["gated"]).taps["gated"])

    np.testing.assert_allclose(strategy.experimental_local_results(listen())[0], gated(model), rtol=1e-5, atol=1e-6)
