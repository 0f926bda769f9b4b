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


def as_features(teacher, student, data_format=None, mask=None):
    """Both in float32 with channels last and zeros where masked, the teacher cut off from the gradient."""
    teacher, student = (channels_last(tensor, data_format) for tensor in (as_teacher(teacher), as_student(student)))
    return fill_masked(teacher, mask), fill_masked(student, mask)


def fill_masked(features, mask, value=0.0):
    """`(batch, places..., channels)` with a value at the masked places, whatever stood there: infinity too."""
    if mask is None:
        return features
    return ops.where(ops.cast(ops.convert_to_tensor(mask), "bool")[..., None], features, value)


def number_of_places(features, mask=None):
    """How many places of each example are kept, float32 `(batch,)`; one where there are none, to divide by."""
    kept = fill_masked(ops.ones_like(features[..., :1]), mask)
    return ops.maximum(sum_of_example(kept), 1.0)


def as_places(features):
    """`(batch, ..., channels)` -> `(batch, places, channels)`."""
    return ops.reshape(features, (ops.shape(features)[0], _product(features.shape[1:-1]), features.shape[-1]))


def as_vectors(features):
    """`(batch, ...)` -> `(batch, values)`."""
    return ops.reshape(features, (ops.shape(features)[0], _product(features.shape[1:])))


def _product(sizes):
    """-1, for `reshape` to find out, where a size is not known yet."""
    return -1 if None in sizes else math.prod(sizes)


def axes_of_example(values):
    """All but the first."""
    return tuple(range(1, len(values.shape)))


def sum_of_example(values):
    """`(batch, ...)` -> `(batch,)`."""
    return ops.sum(values, axis=axes_of_example(values))


def mean_of_example(values):
    """`(batch, ...)` -> `(batch,)`."""
    return mean(values, axes_of_example(values))


def mean(values, axes=(-1,)):
    """Sum over the number, and not `ops.mean`, whose gradient is divided at every value anew."""
    sizes = ops.shape(values)
    return ops.sum(values, axis=axes) / ops.cast(math.prod(sizes[axis] for axis in axes), "float32")


def ratio(values, by):
    """Quotient, 0 / 0 being 0; `by >= 0`."""
    return values / ops.where(by > 0, by, 1.0)


def power(values, exponent):
    """`values ** exponent` of values >= 0, with gradient 0 at zero, where that of `x ** 0.5` is infinite."""
    positive = values > 0
    return ops.where(positive, ops.power(ops.where(positive, values, 1.0), exponent), 0.0)


def magnitude(values, p):
    """`|x|^p`, with gradient 0 at zero."""
    return ops.square(values) if p == 2 else power(ops.abs(values), p)


def norm(values, axis=-1, p=2, keepdims=False):
    """`(Σ |x|^p)^(1/p)`, the Euclidean norm by default, with gradient 0 at zero, where it has none."""
    return power(ops.sum(magnitude(values, p), axis=axis, keepdims=keepdims), 1.0 / p)


def unit(values, axis=-1):
    """Divided by its Euclidean norm; zero stays zero."""
    return ratio(values, norm(values, axis, keepdims=True))


def identity(rows, columns):
    """Ones where a row of one matrix meets the row of the same number of another, `(rows, columns)`."""
    row, column = (ops.arange(ops.shape(matrix)[0]) for matrix in (rows, columns))
    return ops.cast(ops.equal(row[:, None], column), "float32")


def targets_of(labels, logits):
    """Labels as one-hot rows of the logits' shape: integers `(...)` or `(..., 1)`, or scores `(..., classes)`.

    Scores, as of one-hot, smoothed or mixed labels, count by their greatest.
    """
    labels, classes = ops.convert_to_tensor(labels), logits.shape[-1]
    if len(labels.shape) == len(logits.shape):
        labels = ops.squeeze(labels, -1) if labels.shape[-1] == 1 else ops.argmax(labels, axis=-1)
    return ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32")
