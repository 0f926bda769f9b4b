"""Layers that make a student feature fit a teacher feature, shapes inferred."""

import keras

Shape = tuple[int | None, ...]


def projector_for(student_shape: Shape, teacher_shape: Shape, owner: str) -> keras.Layer | None:
    """Builds what makes the student's feature fit the teacher's.

    Vectors and sequences of equal length: `Dense`. Grids: resized bilinearly where they differ, then a 1×1
    convolution with `BatchNormalization`. A student grid before a teacher vector: global average pooling, then
    `Dense`. All in float32.

    Args:
        student_shape: `(batch, ..., channels)`.
        teacher_shape: `(batch, ..., channels)`.
        owner: Who asks, for the text of errors.

    Returns:
        A layer from the one shape to the other, or `None` where they agree.

    Raises:
        ValueError: If no projection between the shapes is known, or a dimension it needs is not.

    Example:
        >>> layer = projector_for((None, 8, 8, 16), (None, 4, 4, 32), "`Hint`")
        >>> tuple(layer(keras.ops.ones((2, 8, 8, 16))).shape)
        (2, 4, 4, 32)
    """
    student_shape, teacher_shape = tuple(student_shape), tuple(teacher_shape)
    if student_shape[1:] == teacher_shape[1:] and student_shape[-1] is not None:
        return None
    channels, ranks = teacher_shape[-1], (len(student_shape), len(teacher_shape))
    if channels is None or student_shape[-1] is None:
        raise _no_fit(owner, student_shape, teacher_shape, "the number of channels must be known")
    if ranks == (2, 2) or (ranks == (3, 3) and student_shape[1] == teacher_shape[1]):
        layers = [keras.layers.Dense(channels, dtype="float32")]
    elif ranks == (4, 4):
        layers = [*_resize(student_shape, teacher_shape, owner), *_pointwise(student_shape[-1], channels)]
    elif ranks == (4, 2):
        layers = [
            keras.layers.GlobalAveragePooling2D(data_format="channels_last", dtype="float32"),
            keras.layers.Dense(channels, dtype="float32"),
        ]
    else:
        raise _no_fit(owner, student_shape, teacher_shape, "no projection is known between them")
    return keras.Sequential(layers, name="projector")


def _resize(student_shape: Shape, teacher_shape: Shape, owner: str) -> list[keras.Layer]:
    if student_shape[1:3] == teacher_shape[1:3]:
        return []
    if None in teacher_shape[1:3]:
        raise _no_fit(owner, student_shape, teacher_shape, "the teacher's grid must be known to resize to it")
    return [keras.layers.Resizing(*teacher_shape[1:3], data_format="channels_last", dtype="float32")]


def _pointwise(student_channels: int, channels: int) -> list[keras.Layer]:
    if student_channels == channels:
        return []
    convolution = keras.layers.Conv2D(channels, 1, use_bias=False, data_format="channels_last", dtype="float32")
    return [convolution, keras.layers.BatchNormalization(axis=-1, dtype="float32")]


def _no_fit(owner: str, student_shape: Shape, teacher_shape: Shape, why: str) -> ValueError:
    return ValueError(
        f"{owner}: cannot fit the student feature of shape {student_shape} to the teacher feature of shape "
        f"{teacher_shape}: {why}. Pass a Keras layer as `projector`, or tap layers of the same rank."
    )
