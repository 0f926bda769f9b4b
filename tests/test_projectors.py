import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kd.projectors import projector_for

RNG = np.random.default_rng(0)


def project(student_shape, teacher_shape, batch=2, size=5):
    """A random feature, what the projector makes of it, and the projector."""
    feature = RNG.normal(size=(batch, *(size if d is None else d for d in student_shape[1:]))).astype("float32")
    projector = projector_for(student_shape, teacher_shape, "`Hint`")
    return feature, np.asarray(projector(feature, training=False)), projector


def kinds(projector):
    return [type(layer) for layer in projector.layers if not isinstance(layer, layers.InputLayer)]


@pytest.mark.parametrize("shape", [(None, 8), (None, None, 8), (None, 4, 4, 8), [None, None, None, 8], (2, 3, 4, 5, 6)])
def test_agreeing_shapes_need_nothing(shape):
    assert projector_for(shape, tuple(shape), "`Hint`") is None


def test_only_the_batch_size_may_differ_for_nothing():
    assert projector_for((None, 8), (32, 8), "`Hint`") is None


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((None, 4), (None, 6)), ((None, 7, 4), (None, 7, 6)), ((None, None, 4), (None, None, 6))],
)
def test_vectors_and_sequences_are_a_dense_layer(student, teacher):
    feature, projected, projector = project(student, teacher)
    assert kinds(projector) == [layers.Dense]
    kernel, bias = (weight.numpy() for weight in projector.weights)
    assert projected.shape == (*feature.shape[:-1], 6)
    np.testing.assert_allclose(projected, feature @ kernel + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grid", [(4, 4), (None, None)])
def test_grids_of_other_channels_are_a_pointwise_convolution_and_batch_norm(grid):
    feature, projected, projector = project((None, *grid, 3), (None, *grid, 6))
    assert kinds(projector) == [layers.Conv2D, layers.BatchNormalization]
    kernel = projector.layers[0].kernel.numpy()
    assert kernel.shape == (1, 1, 3, 6)
    assert not projector.layers[0].use_bias
    np.testing.assert_allclose(projected, feature @ kernel[0, 0] / np.sqrt(1 + 1e-3), rtol=1e-4, atol=1e-5)


def test_grids_of_other_sizes_are_resized_bilinearly():
    feature, projected, projector = project((None, 4, 6, 3), (None, 2, 3, 3))
    assert kinds(projector) == [layers.Resizing]
    # Halved, the bilinear sample lies in the middle of four places.
    np.testing.assert_allclose(projected, feature.reshape(2, 2, 2, 3, 2, 3).mean((2, 4)), rtol=1e-5, atol=1e-6)


def test_grids_grow_by_interpolation():
    row = np.array([0.0, 4.0], "float32").reshape(1, 1, 2, 1)
    projected = projector_for((None, 1, 2, 1), (None, 1, 4, 1), "`Hint`")(row)
    np.testing.assert_allclose(ops.reshape(projected, (-1,)), [0.0, 1.0, 3.0, 4.0])


def test_grids_of_other_sizes_and_channels_are_resized_then_convolved():
    feature, projected, projector = project((None, None, None, 3), (None, 4, 4, 5), size=8)
    assert kinds(projector) == [layers.Resizing, layers.Conv2D, layers.BatchNormalization]
    small = feature.reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
    expected = small @ projector.layers[1].kernel.numpy()[0, 0] / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(projected, expected, rtol=1e-4, atol=1e-5)


def test_a_grid_before_a_vector_is_pooled():
    feature, projected, projector = project((None, 4, 5, 3), (None, 6))
    assert kinds(projector) == [layers.GlobalAveragePooling2D, layers.Dense]
    kernel, bias = (weight.numpy() for weight in projector.weights)
    np.testing.assert_allclose(projected, feature.mean((1, 2)) @ kernel + bias, rtol=1e-5, atol=1e-5)


def test_projectors_compute_in_float32_under_a_half_precision_policy():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        for student, teacher in [
            ((None, 4), (None, 6)),
            ((None, 4, 4, 3), (None, 2, 2, 5)),
            ((None, 4, 4, 3), (None, 5)),
        ]:
            _, projected, projector = project(student, teacher)
            assert projected.dtype == np.float32
            assert {layer.compute_dtype for layer in projector.layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    ("student", "teacher", "why"),
    [
        ((None, 4), (None, 3, 3, 8), "no projection is known between them"),
        ((None, 5, 4), (None, 7, 4), "no projection is known between them"),
        ((None, 5, 4), (None, 8), "no projection is known between them"),
        ((None, 2, 2, 2, 4), (None, 2, 2, 2, 8), "no projection is known between them"),
        ((None, None), (None, 8), "the number of channels must be known"),
        ((None, None), (None, None), "the number of channels must be known"),
        ((None, 4, 4, 8), (None, None, None, 8), "the teacher's grid must be known to resize to it"),
    ],
)
def test_shapes_that_nothing_fits_are_refused(student, teacher, why):
    with pytest.raises(ValueError, match=r"Pass a Keras layer as `projector`") as error:
        projector_for(student, teacher, "`Owner`")
    assert str(error.value).startswith(
        f"`Owner`: cannot fit the student feature of shape {student} to the teacher feature of shape {teacher}: {why}."
    )
