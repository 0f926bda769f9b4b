import re

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.projectors import projector_for

RNG = np.random.default_rng(0)


def feature_of(shape, batch=2, unknown=5):
    return RNG.normal(size=(batch, *(unknown if size is None else size for size in shape[1:]))).astype("float32")


def names(projector):
    return [layer.name for layer in projector.layers]


def bilinear(values, size, axis):
    """Interpolated along one axis, place by place, sampled at the middles of the new places."""
    old, values = values.shape[axis], np.moveaxis(values.astype("float64"), axis, 0)
    out = []
    for place in range(size):
        at = np.clip((place + 0.5) * old / size - 0.5, 0, old - 1)
        low = int(np.floor(at))
        high = min(low + 1, old - 1)
        out.append(values[low] * (1 - (at - low)) + values[high] * (at - low))
    return np.moveaxis(np.stack(out), 0, axis)


def block_means(values, size, axis):
    return np.stack([part.mean(axis) for part in np.split(values.astype("float64"), size, axis)], axis)


def resized(values, grid):
    """As the docstring says: averages over whole blocks of a map that is interpolated to a multiple of the grid."""
    for axis, size in enumerate(grid, start=1):
        blocks = max(1, values.shape[axis] // size)
        values = block_means(bilinear(values, blocks * size, axis), size, axis)
    return values


def rows(values, height, width):
    """A sequence as a grid: the first `width` steps are the first row."""
    return np.stack([values[:, row * width : (row + 1) * width] for row in range(height)], axis=1)


def unrolled(values):
    return np.concatenate([values[:, row] for row in range(values.shape[1])], axis=1)


def along_steps(values, steps):
    return resized(values[:, :, None], (steps, 1))[:, :, 0]


# Student and teacher of the same channels, the layers, and what they must do.
PLACES = [
    ((None, 4, 6, 3), (None, 2, 3, 3), ["pool"], lambda x: x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4))),
    ((None, 6, 6, 3), (None, 2, 6, 3), ["pool"], lambda x: x.reshape(2, 2, 3, 6, 3).mean(2)),
    ((None, 4, 4, 3), (None, 3, 3, 3), ["resize"], lambda x: resized(x, (3, 3))),
    ((None, 7, 11, 3), (None, 3, 4, 3), ["resize", "pool"], lambda x: resized(x, (3, 4))),
    ((None, 8, 2, 3), (None, 2, 4, 3), ["resize", "pool"], lambda x: resized(x, (2, 4))),
    ((None, 2, 3, 3), (None, 5, 6, 3), ["resize"], lambda x: bilinear(bilinear(x, 5, 1), 6, 2)),
    ((None, None, None, 3), (None, 4, 3, 3), ["resize"], lambda x: bilinear(bilinear(x, 4, 1), 3, 2)),
    ((None, None, 6, 3), (None, 5, 3, 3), ["resize", "pool"], lambda x: block_means(x, 3, 2)),
    ((None, 5, 3), (None, 7, 3), ["as_grid", "resize", "as_sequence"], lambda x: bilinear(x, 7, 1)),
    ((None, 9, 3), (None, 3, 3), ["as_grid", "pool", "as_sequence"], lambda x: x.reshape(2, 3, 3, 3).mean(2)),
    ((None, 7, 3), (None, 3, 3), ["as_grid", "resize", "pool", "as_sequence"], lambda x: along_steps(x, 3)),
    ((None, None, 3), (None, 8, 3), ["as_grid", "resize", "as_sequence"], lambda x: bilinear(x, 8, 1)),
    ((None, 6, 3), (None, 2, 3, 3), ["as_grid"], lambda x: rows(x, 2, 3)),
    ((None, 7, 3), (None, 2, 3, 3), ["drop_class_token", "as_grid"], lambda x: rows(x[:, 1:], 2, 3)),
    # Nine are 1 + 2·4 before they are 3·3.
    ((None, 9, 3), (None, 2, 4, 3), ["drop_class_token", "as_grid"], lambda x: rows(x[:, 1:], 2, 4)),
    ((None, 16, 3), (None, 2, 2, 3), ["as_grid", "pool"], lambda x: resized(rows(x, 4, 4), (2, 2))),
    ((None, 16, 3), (None, 5, 6, 3), ["as_grid", "resize"], lambda x: resized(rows(x, 4, 4), (5, 6))),
    (
        (None, 17, 3),
        (None, 2, 2, 3),
        ["drop_class_token", "as_grid", "pool"],
        lambda x: resized(rows(x[:, 1:], 4, 4), (2, 2)),
    ),
    ((None, 2, 3, 3), (None, 6, 3), ["as_sequence"], unrolled),
    ((None, 2, 2, 3), (None, 9, 3), ["resize", "as_sequence"], lambda x: unrolled(resized(x, (3, 3)))),
    (
        (None, None, None, 3),
        (None, 4, 3),
        ["resize", "as_sequence"],
        lambda x: unrolled(bilinear(bilinear(x, 2, 1), 2, 2)),
    ),
    ((None, 4, 5, 3), (None, 3), ["average"], lambda x: x.mean((1, 2))),
    ((None, None, None, 3), (None, 3), ["average"], lambda x: x.mean((1, 2))),
    ((None, 5, 3), (None, 3), ["average"], lambda x: x.mean(1)),
    ((None, None, 3), (None, 3), ["average"], lambda x: x.mean(1)),
]
PLACES_IDS = [f"{student[1:-1]} to {teacher[1:-1]}".replace(" ", "") for student, teacher, _, _ in PLACES]


@pytest.mark.parametrize("agree", ["shape", "places", "channels"])
@pytest.mark.parametrize("shape", [(None, 8), (None, None, 8), (None, 4, 4, 8), [None, None, None, 8], (2, 3, 4, 5, 6)])
def test_agreeing_shapes_need_nothing(shape, agree):
    assert projector_for(shape, tuple(shape), "`Hint`", agree) is None


@pytest.mark.parametrize(
    ("student", "teacher", "agree"),
    [
        ((None, 8), (32, 8), "shape"),
        ((None, 4, 4, 8), (None, 4, 4, 5), "places"),
        ((None, 4, 4, None), (None, 4, 4, 5), "places"),
        ((None, 8), (None, 5), "places"),
        ((None, 4, 4, 8), (None, 3, 7, 8), "channels"),
        ((None, 4, 4, 8), (None, 8), "channels"),
        ((None, 2, 3, 4, 8), (None, 5, 8), "channels"),
    ],
)
def test_what_need_not_agree_needs_nothing(student, teacher, agree):
    assert projector_for(student, teacher, "`Hint`", agree) is None


@pytest.mark.parametrize("agree", ["shape", "places"])
@pytest.mark.parametrize(("student", "teacher", "expected_names", "expected"), PLACES, ids=PLACES_IDS)
def test_places_are_made_to_agree(student, teacher, expected_names, expected, agree):
    feature = feature_of(student)
    projector = projector_for(student, teacher, "`Hint`", agree)
    assert names(projector) == expected_names
    assert projector.weights == []
    projected = projector(feature)
    assert all(size in (None, found) for size, found in zip(teacher[1:], projected.shape[1:], strict=True))
    np.testing.assert_allclose(projected, expected(feature), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("student", "teacher", "expected_names", "expected"), PLACES, ids=PLACES_IDS)
def test_places_alone_leave_the_channels(student, teacher, expected_names, expected):
    feature = feature_of(student)
    projector = projector_for(student, (*teacher[:-1], 7), "`Hint`", "places")
    assert names(projector) == expected_names
    np.testing.assert_allclose(projector(feature), expected(feature), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("student", "teacher", "expected_names", "expected"), PLACES, ids=PLACES_IDS)
def test_shapes_of_other_places_and_channels_are_made_to_agree(student, teacher, expected_names, expected):
    feature = feature_of(student)
    projector = projector_for(student, (*teacher[:-1], 5), "`Hint`")
    assert set(names(projector)) == {
        *expected_names,
        *(["convolution", "normalization"] if len(teacher) > 3 else ["dense"]),
    }
    weights = [weight.numpy() for weight in projector.trainable_weights]
    # Interpolation and averages are linear and keep constants: what maps the channels may come before or after.
    mapped = expected(feature) @ weights[0].reshape(3, 5)
    mapped = mapped / np.sqrt(1 + 1e-3) if len(teacher) > 3 else mapped + weights[1]
    np.testing.assert_allclose(projector(feature, training=False), mapped, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((None, 8, 8, 3), (None, 4, 4, 5), ["pool", "convolution", "normalization"]),
        ((None, 4, 4, 3), (None, 8, 8, 5), ["convolution", "normalization", "resize"]),
        ((None, None, 4, 3), (None, 8, 8, 5), ["resize", "convolution", "normalization"]),
        ((None, 5, 3), (None, 9, 5), ["dense", "as_grid", "resize", "as_sequence"]),
        ((None, 9, 3), (None, 6, 5), ["as_grid", "resize", "as_sequence", "dense"]),
    ],
)
def test_channels_are_mapped_on_the_smaller_map(student, teacher, expected):
    assert names(projector_for(student, teacher, "`Hint`")) == expected


@pytest.mark.parametrize("agree", ["shape", "channels"])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [((None, 4), (None, 6)), ((None, 7, 4), (None, 7, 6)), ((None, None, 4), (None, None, 6))],
)
def test_channels_of_vectors_and_sequences_are_a_dense_layer(student, teacher, agree):
    feature, projector = feature_of(student), projector_for(student, teacher, "`Hint`", agree)
    assert names(projector) == ["dense"]
    kernel, bias = (weight.numpy() for weight in projector.weights)
    np.testing.assert_allclose(projector(feature), feature @ kernel + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("agree", ["shape", "channels"])
@pytest.mark.parametrize("grid", [(4, 4), (None, None), (None, 4)])
def test_channels_of_grids_are_a_pointwise_convolution_and_batch_norm(grid, agree):
    feature = feature_of((None, 4, 4, 3), batch=3)
    projector = projector_for((None, *grid, 3), (None, *grid, 6), "`Hint`", agree)
    assert names(projector) == ["convolution", "normalization"]
    assert not projector.layers[0].use_bias
    mapped = feature @ projector.layers[0].kernel.numpy().reshape(3, 6)
    np.testing.assert_allclose(projector(feature, training=False), mapped / np.sqrt(1 + 1e-3), rtol=1e-4, atol=1e-5)
    mean, variance = mapped.mean((0, 1, 2)), mapped.var((0, 1, 2))
    trained = (mapped - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(projector(feature, training=True), trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((None, 4, 5, 3), (None, 8, 8, 6), (2, 4, 5, 6)),
        ((None, 4, 5, 3), (None, 6), (2, 4, 5, 6)),
        ((None, 4, 3), (None, 8, 8, 6), (2, 4, 6)),
        ((None, 3), (None, 8, 8, 6), (2, 6)),
    ],
)
def test_channels_alone_leave_the_places(student, teacher, expected):
    feature, projector = feature_of(student), projector_for(student, teacher, "`Hint`", "channels")
    projected = projector(feature, training=False)
    assert tuple(projected.shape) == expected
    kernel = projector.trainable_weights[0].numpy().reshape(3, 6)
    scale = np.sqrt(1 + 1e-3) if len(student) == 4 else 1.0
    np.testing.assert_allclose(projected, feature @ kernel / scale, rtol=1e-4, atol=1e-5)


def test_no_place_goes_unseen_when_a_grid_shrinks():
    """Each place of a map that shrinks from 7 to 3 moves what comes out; plain bilinear samples pass over some."""
    feature = tf.constant(feature_of((None, 7, 7, 1)))
    projector = projector_for((None, 7, 7, 1), (None, 3, 3, 1), "`Hint`")
    with tf.GradientTape() as tape:
        tape.watch(feature)
        total = tf.reduce_sum(projector(feature))
    assert tape.gradient(total, feature).numpy().min() > 0.05


RANK = "Pass a Keras layer as `projector`, or tap layers of the same rank."
AGREE = "Pass a Keras layer as `projector`, or tap layers whose places agree."
POOLED = "Tap the teacher at its pooled feature, as in 'head:input', or pass a Keras layer as `projector`."
NO_GRID = "steps are no grid: neither {} places nor a square number of them, with or without a class token"


@pytest.mark.parametrize(
    ("student", "teacher", "why"),
    [
        ((None, 4), (None, 3, 3, 8), f"a vector cannot tell what is where. {POOLED}"),
        ((None, 4), (None, 3, 8), f"a vector cannot tell what is where. {POOLED}"),
        ((None, 2, 2, 2, 4), (None, 2, 2, 2, 8), f"no projection is known between them. {RANK}"),
        ((None, 2, 2, 2, 4), (None, 3, 2, 2, 4), f"no projection is known between them. {RANK}"),
        ((None, 2, 2, 2, 4), (None, 4), f"no projection is known between them. {RANK}"),
        ((None, None), (None, 8), f"the number of channels must be known. {RANK}"),
        ((None, None), (None, None), f"the number of channels must be known. {RANK}"),
        ((None,), (None, 8), f"a feature has the shape (batch, ..., channels). {RANK}"),
        ((None, 4, 4, 8), (None, None, None, 8), f"the teacher's grid must be known to resize to it. {AGREE}"),
        ((None, 9, 8), (None, None, 3, 8), f"the teacher's grid must be known to resize to it. {AGREE}"),
        ((None, 9, 8), (None, None, 8), f"the teacher's number of steps must be known to resize to it. {AGREE}"),
        ((None, 4, 4, 8), (None, None, 8), f"the teacher's number of steps must be known to resize to it. {AGREE}"),
        (
            (None, None, 8),
            (None, 3, 3, 8),
            f"the student's number of steps must be known to make a grid of it. {AGREE}",
        ),
        ((None, 12, 8), (None, 2, 4, 8), f"12 {NO_GRID.format(8)}. {AGREE}"),
        ((None, 4, 4, 8), (None, 12, 8), f"the teacher's 12 steps are no grid. {AGREE}"),
        ((None, None, None, 8), (None, 12, 8), f"the teacher's 12 steps are no grid. {AGREE}"),
        (
            (None, 4, 4, 8),
            (None, 17, 8),
            f"the teacher's 17 steps are no grid but for a class token, which a grid does not have. {AGREE}",
        ),
        (
            (None, 2, 3, 8),
            (None, 7, 8),
            f"the teacher's 7 steps are no grid but for a class token, which a grid does not have. {AGREE}",
        ),
    ],
)
def test_shapes_that_nothing_fits_are_refused(student, teacher, why):
    text = (
        f"`Owner`: cannot fit the student feature of shape {student} to the teacher feature of shape {teacher}: {why}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        projector_for(student, teacher, "`Owner`")


def test_what_cannot_be_made_to_agree_is_refused():
    text = "`Owner`: `agree` must be 'shape', 'places' or 'channels'. Received: agree='rank'."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        projector_for((None, 4), (None, 8), "`Owner`", "rank")
