import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.objectives import Hint
from keras_kd.signals import Signals

RNG = np.random.default_rng(0)


def features(teacher_shape, student_shape):
    return tuple(RNG.normal(size=shape).astype("float32") for shape in (teacher_shape, student_shape))


def heard(teacher, student):
    return Signals.of(None, [], {"t": teacher}), Signals.of(None, [], {"s": student})


def prepared(teacher, student, **kwargs):
    hint = Hint("t", "s", **kwargs)
    hint.prepare(*heard(teacher, student))
    return hint


def values(hint, teacher, student, training=False):
    (value,) = hint.values(*heard(teacher, student), temperature=4.0, training=training).values()
    return value


@pytest.mark.parametrize("projector", ["auto", None])
def test_equal_shapes_are_compared_as_they_are(projector):
    teacher, student = features((2, 4, 4, 3), (2, 4, 4, 3))
    hint = prepared(teacher, student, projector=projector)
    assert hint.projector is None
    assert hint.trainable_weights == []
    np.testing.assert_allclose(values(hint, teacher, student), ((teacher - student) ** 2).mean(-1), rtol=1e-5)


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape", "weights"),
    [
        ((2, 6), (2, 4), [(4, 6), (6,)]),
        ((2, 5, 6), (2, 5, 4), [(4, 6), (6,)]),
        ((2, 4, 4, 6), (2, 8, 8, 3), [(1, 1, 3, 6), (6,), (6,)]),
        ((2, 6), (2, 4, 4, 3), [(3, 6), (6,)]),
    ],
)
def test_auto_builds_what_fits(teacher_shape, student_shape, weights):
    teacher, student = features(teacher_shape, student_shape)
    hint = prepared(teacher, student)
    assert [tuple(weight.shape) for weight in hint.trainable_weights] == weights
    fitted = hint.projector(student, training=False)
    expected = ((teacher - np.asarray(fitted, "float64")) ** 2).mean(-1)
    np.testing.assert_allclose(values(hint, teacher, student), expected, rtol=1e-5)


def test_a_projector_of_ones_own_is_used():
    teacher, student = features((2, 6), (2, 4))
    dense = layers.Dense(6, use_bias=False)
    hint = prepared(teacher, student, projector=dense)
    assert hint.projector is dense
    expected = ((teacher - student @ dense.kernel.numpy()) ** 2).mean(-1)
    np.testing.assert_allclose(values(hint, teacher, student), expected, rtol=1e-5)


def test_a_projector_that_is_built_already_keeps_its_weights():
    teacher, student = features((2, 6), (2, 4))
    dense = layers.Dense(6)
    dense.build((None, 4))
    kernel = dense.kernel
    hint = prepared(teacher, student, projector=dense)
    assert [weight.shape for weight in hint.trainable_weights] == [(4, 6), (6,)]
    assert hint.projector.kernel is kernel


def test_training_reaches_the_projector():
    teacher, student = features((8, 2, 2, 6), (8, 2, 2, 3))
    hint = prepared(teacher, student)
    convolved = student @ hint.projector.layers[0].kernel.numpy()[0, 0]
    moving_mean = hint.projector.layers[1].moving_mean
    values(hint, teacher, student)
    np.testing.assert_array_equal(moving_mean, np.zeros(6))
    trained = values(hint, teacher, student, training=True)
    axes = (0, 1, 2)
    normed = (convolved - convolved.mean(axes)) / np.sqrt(convolved.var(axes) + 1e-3)
    np.testing.assert_allclose(trained, ((teacher - normed) ** 2).mean(-1), rtol=1e-4)
    np.testing.assert_allclose(moving_mean, 0.01 * convolved.mean(axes), rtol=1e-4, atol=1e-6)


def test_gradients_reach_student_and_projector_but_not_the_teacher():
    teacher, student = map(tf.Variable, features((2, 6), (2, 4)))
    hint = prepared(teacher, student)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(values(hint, teacher, student))
    kernel, bias = hint.trainable_weights
    to_teacher, to_student, to_kernel, to_bias = tape.gradient(total, [teacher, student, kernel.value, bias.value])
    error = 2 * (student.numpy() @ kernel.numpy() + bias.numpy() - teacher.numpy()) / 6
    assert to_teacher is None
    np.testing.assert_allclose(to_student, error @ kernel.numpy().T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(to_kernel, student.numpy().T @ error, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(to_bias, error.sum(0), rtol=1e-4, atol=1e-5)


def test_the_student_feature_hands_its_mask_on():
    teacher, student = features((2, 3, 4), (2, 3, 4))
    student = tf.constant(student)
    student._keras_mask = tf.constant([[True, True, False], [True, False, False]])
    hint = prepared(teacher, student)
    np.testing.assert_array_equal(values(hint, teacher, student)._keras_mask, student._keras_mask)


def test_a_feature_without_places_keeps_no_mask_of_its_own():
    teacher, student = features((2, 6), (2, 4))
    hint = prepared(teacher, student)
    assert not hasattr(values(hint, teacher, student), "_keras_mask")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Hint("a[", "b"), "A tap must be a layer's name"),
        (lambda: Hint("a", "b:out"), "Received: 'b:out'."),
        (
            lambda: Hint("a", "b", projector="dense"),
            "`Hint`: `projector` must be 'auto', a Keras layer, or None. Received: 'dense'.",
        ),
        (
            lambda: prepared(*features((2, 6), (2, 4)), projector=None),
            "`Hint`: the student feature 's' must have the shape of the teacher feature 't', (2, 6). Received: (2, 4). "
            "Use `projector='auto'`.",
        ),
        (
            lambda: prepared(*features((2, 6), (2, 4)), projector=keras.layers.Dense(5)),
            "must have the shape of the teacher feature 't', (2, 6). Received: (2, 5). Use `projector='auto'`.",
        ),
        (
            lambda: prepared(*features((2, 3, 3, 6), (2, 4))),
            "`Hint`: cannot fit the student feature of shape (2, 4) to the teacher feature of shape (2, 3, 3, 6)",
        ),
    ],
)
def test_errors_say_what_was_expected(make, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        make()
