"""Models, data and hand-written training for `speed.py`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

BATCH = 128
ALPHA, TEMPERATURE = 0.3, 4.0


def images(steps: int, shape: tuple[int, int, int] = (28, 28, 1)) -> tf.data.Dataset:
    """Batches of noise and of ten classes in turn, in memory and in the same order every time."""
    x = np.random.default_rng(0).normal(size=(steps * BATCH, *shape)).astype("float32")
    y = np.arange(len(x)) % 10
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).cache().prefetch(2)


def convolutional(widths: tuple[int, ...], shape: tuple[int, int, int] = (28, 28, 1)) -> keras.Model:
    """One block of convolution, BatchNorm and ReLU for each width, named `block0`, ..., the first three halving."""
    x = inputs = keras.Input(shape)
    for index, width in enumerate(widths):
        x = layers.Conv2D(width, 3, strides=2 if index < 3 else 1, padding="same", use_bias=False)(x)
        x = layers.ReLU(name=f"block{index}")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


def copy_of(model: keras.Model) -> keras.Model:
    """The same model with weights of its own, of the same values."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def cross_entropy() -> keras.losses.Loss:
    """The student's loss."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model: keras.Model, **options: Any) -> keras.Model:
    """Compiled as every contestant is."""
    model.compile(keras.optimizers.Adam(), cross_entropy(), **options)
    return model


def fitting(model: keras.Model, data: tf.data.Dataset) -> Callable[[], Any]:
    """One epoch by Keras."""
    return lambda: model.fit(data, verbose=0, shuffle=False)


def looping(step: Callable[[Any, Any], Any], data: tf.data.Dataset) -> Callable[[], None]:
    """One epoch by a loop over the batches; the last step is waited for.

    The step is traced for batches of any size, as `fit` traces its own: a size that is known folds some arithmetic.
    """
    traced = tf.function(step, input_signature=data.element_spec)

    def epoch():
        for x, y in data:
            last = traced(x, y)
        last.numpy()

    return epoch


def inference(teacher: keras.Model) -> Callable[[Any, Any], Any]:
    """The teacher alone."""
    return lambda x, y: teacher(x, training=False)


def soft_targets(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """`T² KL`, its mean over the batch."""
    log_p, log_q = tf.nn.log_softmax(teacher / TEMPERATURE), tf.nn.log_softmax(student / TEMPERATURE)
    return TEMPERATURE**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1))


def student_loss(y: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """Cross-entropy with the labels, its mean over the batch."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, student))


def by_hand(student: keras.Model, teacher: keras.Model) -> Callable[[Any, Any], Any]:
    """A step of distillation that does nothing but that."""
    return _step(student, teacher, student.trainable_variables, lambda taught, learnt: soft_targets(taught, learnt))


def hinted_by_hand(
    student: keras.Model, teacher: keras.Model, tap: str, projector: keras.Layer
) -> Callable[[Any, Any], Any]:
    """The same with the mean squared error of a projected feature."""
    student, teacher = (
        keras.Model(model.inputs, [model.output, model.get_layer(tap).output]) for model in (student, teacher)
    )

    def loss(taught, learnt):
        hint = tf.reduce_mean(tf.math.squared_difference(taught[1], projector(learnt[1])))
        return soft_targets(taught[0], learnt[0]) + hint

    return _step(student, teacher, student.trainable_variables + projector.trainable_variables, loss)


def _step(student, teacher, variables, loss):
    optimizer = keras.optimizers.Adam()
    optimizer.build(variables)

    def step(x, y):
        taught = teacher(x, training=False)
        with tf.GradientTape() as tape:
            learnt = student(x, training=True)
            logits = learnt[0] if isinstance(learnt, list) else learnt
            total = ALPHA * student_loss(y, logits) + (1.0 - ALPHA) * loss(taught, learnt)
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        return total

    return step
