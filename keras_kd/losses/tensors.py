"""What every formula does to its arguments first."""

import math

import keras
from keras import ops


def as_teacher(tensor):
    """In float32 and cut off from the gradient: a loss never trains the teacher."""
    return ops.stop_gradient(as_student(tensor))


def as_student(tensor):
    """In float32, whatever the compute dtype: float16 overflows at 65,504."""
    return ops.cast(ops.convert_to_tensor(tensor), "float32")


def channels_last(features, data_format=None):
    """A grid of rank 4 or more as `(batch, ..., channels)`; vectors and sequences as they are.

    `data_format` defaults to Keras's own, `keras.config.image_data_format()`.
    """
    grid = len(features.shape) > 3
    first = grid and (data_format or keras.config.image_data_format()) == "channels_first"
    return ops.moveaxis(features, 1, -1) if first else features


def as_features(teacher, student, data_format=None):
    """Both in float32 with channels last, the teacher cut off from the gradient."""
    return channels_last(as_teacher(teacher), data_format), channels_last(as_student(student), data_format)


def kept_places(features, mask):
    """The mask as zeros and ones that multiply `(batch, ..., channels)`; 1 where there is none."""
    return 1.0 if mask is None else ops.cast(mask, "float32")[..., None]


def as_places(features):
    """`(batch, ..., channels)` -> `(batch, places, channels)`."""
    places, channels = math.prod(features.shape[1:-1]) if None not in features.shape[1:] else -1, features.shape[-1]
    return ops.reshape(features, (ops.shape(features)[0], places, channels))


def as_vectors(features):
    """`(batch, ...)` -> `(batch, values)`."""
    return ops.reshape(features, (ops.shape(features)[0], math.prod(features.shape[1:])))


def sum_of_example(values):
    """`(batch, ...)` -> `(batch,)`."""
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))


def mean_of_example(values):
    """`(batch, ...)` -> `(batch,)`."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


def norm(values, axis=-1, keepdims=False):
    """Euclidean norm whose gradient at zero is zero, where `sqrt` has none."""
    squared = ops.sum(ops.square(values), axis=axis, keepdims=keepdims)
    return ops.where(squared > 0, ops.sqrt(ops.where(squared > 0, squared, 1.0)), 0.0)


def unit(values, axis=-1):
    """Divided by its Euclidean norm; zero stays zero."""
    length = norm(values, axis, keepdims=True)
    return values / ops.where(length > 0, length, 1.0)


def targets_of(labels, logits):
    """Labels as one-hot rows of the logits' shape: integers `(...)` or `(..., 1)`, or scores `(..., classes)`.

    Scores, as of one-hot, smoothed or mixed labels, count by their greatest.
    """
    labels, classes = ops.convert_to_tensor(labels), logits.shape[-1]
    if len(labels.shape) == len(logits.shape):
        labels = ops.squeeze(labels, -1) if labels.shape[-1] == 1 else ops.argmax(labels, axis=-1)
    return ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32")
