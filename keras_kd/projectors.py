"""Layers that make a student feature fit a teacher feature, shapes inferred.

Channels come last. A sequence of patches is read as a grid row by row; where it is one step longer than a grid, its
first step is taken for a class token and dropped. A model that lays its steps out otherwise needs a layer of the
user's own.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras

Shape = tuple[int | None, ...]
_BY_RANK = "Pass a Keras layer as `projector`, or tap layers of the same rank."
_BY_POOLING = "Tap the teacher at its pooled feature, as in 'head:input', or pass a Keras layer as `projector`."
_BY_LAYER = "Pass a Keras layer as `projector`, or tap layers whose places agree."


class _Unfit(Exception):
    """Why no projection is known, and what to do."""

    def __init__(self, why: str, remedy: str = _BY_RANK):
        super().__init__(why)
        self.why, self.remedy = why, remedy


def projector_for(
    student_shape: Shape, teacher_shape: Shape, owner: str, agree: str = "shape"
) -> keras.Sequential | None:
    """Builds what makes the student's feature fit the teacher's.

    Channels: `Dense` for vectors and sequences, a 1×1 convolution with `BatchNormalization` for grids.
    Places of grids, or steps of sequences: bilinear interpolation, and means of whole blocks where they shrink
    twofold or more, so that none goes unseen. A sequence and a grid of as many places, with or without the student's
    class token: read row by row; of another number of places: the sequence stands for a square grid. A grid or a
    sequence before a vector: the mean of the places, of a sequence those that its mask keeps. All in float32.

    Args:
        student_shape: `(batch, channels)`, `(batch, steps, channels)` or `(batch, height, width, channels)`.
        teacher_shape: Likewise.
        owner: Who asks, for the text of errors.
        agree: What must come to agree: `"shape"`; `"places"`, all but the channels, for which nothing is trained; or
            `"channels"`. Defaults to `"shape"`.

    Returns:
        A layer, built, from the one shape to the other, or `None` where they agree.

    Raises:
        ValueError: If no projection between the shapes is known, or a dimension it needs is not.

    Example:
        >>> layer = projector_for((None, 8, 8, 16), (None, 4, 4, 32), "`Hint`")
        >>> tuple(layer(keras.ops.ones((2, 8, 8, 16))).shape)
        (2, 4, 4, 32)
        >>> [layer.name for layer in projector_for((None, 65, 16), (None, 4, 4, 32), "`Hint`").layers]
        ['drop_class_token', 'as_grid', 'pool', 'convolution', 'normalization']
        >>> rows = projector_for((None, 1, 4, 1), (None, 1, 2, 1), "`Hint`")
        >>> keras.ops.reshape(rows(keras.ops.reshape([1.0, 3.0, 5.0, 9.0], (1, 1, 4, 1))), (2,)).numpy().tolist()
        [2.0, 7.0]
    """
    if agree not in _LAYERS:
        raise ValueError(f"{owner}: `agree` must be 'shape', 'places' or 'channels'. Received: agree={agree!r}.")
    student_shape, teacher_shape = tuple(student_shape), tuple(teacher_shape)
    try:
        if min(len(student_shape), len(teacher_shape)) < 2:
            raise _Unfit("a feature has the shape (batch, ..., channels)")
        layers = _LAYERS[agree](student_shape[1:], teacher_shape[1:])
    except _Unfit as unfit:
        raise ValueError(
            f"{owner}: cannot fit the student feature of shape {student_shape} to the teacher feature of shape "
            f"{teacher_shape}: {unfit.why}. {unfit.remedy}"
        ) from None
    return in_float32(student_shape, layers) if layers else None


def in_float32(student_shape: Shape, layers: Sequence[keras.Layer], name: str = "projector") -> keras.Sequential:
    """Chains layers behind an input of float32, which a half-precision policy would round before the first of them.

    Args:
        student_shape: `(batch, ..., channels)`.
        layers: Layers that compute in float32.
        name: Name of the chain. Defaults to `"projector"`.

    Returns:
        A built model.
    """
    feature = keras.Input(student_shape[1:], dtype="float32", name="student_feature")
    chain = keras.Sequential([feature, *layers], name=name)
    # Else Keras warns that the mask is lost, where it is used or passed on.
    chain.supports_masking = all(layer.supports_masking for layer in layers)
    return chain


def projected(projector: keras.Layer, feature: Any, training: bool = False) -> Any:
    """Calls a projector on a feature of any precision, with the feature's mask, which Keras 3.12 loses in a cast."""
    mask = getattr(feature, "_keras_mask", None)
    feature = keras.ops.cast(keras.ops.convert_to_tensor(feature), "float32")
    if mask is not None:
        feature._keras_mask = mask
    return projector(feature, training=training)


def _shape(student: Shape, teacher: Shape) -> list[keras.Layer]:
    """The smaller of the two maps goes through the convolution, which costs the most."""
    if _grows(student, teacher):
        return [*_channels(student, teacher), *_places((*student[:-1], teacher[-1]), teacher)]
    places = _places(student, teacher)
    return [*places, *_channels((*teacher[:-1], student[-1]), teacher)]


def _grows(student: Shape, teacher: Shape) -> bool:
    known = None not in (*student[:-1], *teacher[:-1])
    return known and len(student) == len(teacher) and math.prod(student[:-1]) < math.prod(teacher[:-1])


def _channels(student: Shape, teacher: Shape) -> list[keras.Layer]:
    channels = teacher[-1]
    if None in (channels, student[-1]):
        raise _Unfit("the number of channels must be known")
    if student[-1] == channels:
        return []
    if len(student) > 3:
        raise _Unfit("no projection is known between them")
    if len(student) < 3:
        return [keras.layers.Dense(channels, dtype="float32", name="dense")]
    pointwise = {"use_bias": False, "data_format": "channels_last", "dtype": "float32", "name": "convolution"}
    normalization = keras.layers.BatchNormalization(axis=-1, dtype="float32", name="normalization")
    return [keras.layers.Conv2D(channels, 1, **pointwise), normalization]


def _places(student: Shape, teacher: Shape) -> list[keras.Layer]:
    (*here, channels), (*there, _) = student, teacher
    if here == there:
        return []
    if max(len(here), len(there)) > 2:
        raise _Unfit("no projection is known between them")
    if not there:
        pool = keras.layers.GlobalAveragePooling1D if len(here) == 1 else keras.layers.GlobalAveragePooling2D
        return [pool(data_format="channels_last", dtype="float32", name="average")]
    if not here:
        raise _Unfit("a vector cannot tell what is where", _BY_POOLING)
    if None in there:
        kind = "grid" if len(there) == 2 else "number of steps"
        raise _Unfit(f"the teacher's {kind} must be known to resize to it", _BY_LAYER)
    if channels is None:
        raise _Unfit("the number of channels must be known")
    source, entry = _entry(here, there, channels)
    target, leave = _leave(here, there, channels)
    return [*entry, *_resize(source, target), *leave]


_LAYERS = {"shape": _shape, "places": _places, "channels": _channels}


def _entry(here: Shape, there: Shape, channels: int) -> tuple[Shape, list[keras.Layer]]:
    """The student's places as a grid, and how they become one."""
    if len(here) == 2:
        return here, []
    (steps,) = here
    if len(there) == 1:
        return (steps, 1), [_reshape((steps or -1, 1, channels), "as_grid")]
    if steps is None:
        raise _Unfit("the student's number of steps must be known to make a grid of it", _BY_LAYER)
    grid, cropped = _rolled(steps, tuple(there))
    if not grid:
        raise _Unfit(
            f"{steps} steps are no grid: neither {math.prod(there)} places nor a square number of them, with or "
            "without a class token",
            _BY_LAYER,
        )
    crop = [keras.layers.Cropping1D((1, 0), dtype="float32", name="drop_class_token")] * cropped
    return grid, [*crop, _reshape((*grid, channels), "as_grid")]


def _leave(here: Shape, there: Shape, channels: int) -> tuple[Shape, list[keras.Layer]]:
    """The teacher's places as a grid, and how they become again what they are."""
    if len(there) == 2:
        return there, []
    (steps,) = there
    grid, cropped = ((steps, 1), 0) if len(here) == 1 else _rolled(steps, tuple(here))
    if not grid or cropped:
        hint = " but for a class token, which a grid does not have" if grid else ""
        raise _Unfit(f"the teacher's {steps} steps are no grid{hint}", _BY_LAYER)
    return grid, [_reshape((steps, channels), "as_sequence")]


def _rolled(steps: int, like: Shape) -> tuple[Shape | None, int]:
    """The grid that a sequence stands for, the given one before a square, and how many class tokens go before it."""
    places = None if None in like else math.prod(like)
    if places in (steps, steps - 1):
        return like, steps - places
    for cropped in (0, 1):
        side = math.isqrt(steps - cropped)
        if side and side**2 == steps - cropped:
            return (side, side), cropped
    return None, 0


def _resize(source: Shape, target: Shape) -> list[keras.Layer]:
    """Interpolates to a multiple of the target, less than twofold coarser than the source, then averages blocks.

    Interpolation looks at two places along an axis: where it shrinks more than twofold, it passes some over.
    """
    blocks = tuple(max(1, (size or 0) // wanted) for size, wanted in zip(source, target, strict=True))
    fine = tuple(block * wanted for block, wanted in zip(blocks, target, strict=True))
    common = {"data_format": "channels_last", "dtype": "float32"}
    resizing = [] if fine == tuple(source) else [keras.layers.Resizing(*fine, **common, name="resize")]
    pooling = [] if fine == tuple(target) else [keras.layers.AveragePooling2D(blocks, **common, name="pool")]
    return [*resizing, *pooling]


def _reshape(shape: Sequence[int], name: str) -> keras.Layer:
    return keras.layers.Reshape(tuple(shape), dtype="float32", name=name)
