"""Projectors as Keras models: dtypes, masks, tracing, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.projectors import in_float32, projected, projector_for
from tests.test_projectors import feature_of, names


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_sequence_before_a_vector_is_averaged_over_what_its_mask_keeps(dtype, recwarn):
    words = layers.Embedding(5, 3, mask_zero=True, dtype=dtype)(np.array([[1, 2, 0, 0], [3, 4, 1, 0]]))
    assert words.dtype == dtype
    values = words.numpy().astype("float32")
    expected = np.stack([values[0, :2].mean(0), values[1, :3].mean(0)])
    average = projector_for((None, 4, 3), (None, 3), "`Hint`")
    np.testing.assert_allclose(projected(average, words), expected, rtol=1e-5)
    assert [str(warning.message) for warning in recwarn if "mask" in str(warning.message)] == []


def test_a_sequence_keeps_its_mask_through_a_dense_layer():
    words = layers.Embedding(5, 3, mask_zero=True)(np.array([[1, 2, 0]]))
    projected = projector_for((None, 3, 3), (None, 3, 6), "`Hint`")(words)
    np.testing.assert_array_equal(projected._keras_mask, [[True, True, False]])


PAIRS = [
    ((None, 4), (None, 6)),
    ((None, 7, 4), (None, 7, 6)),
    ((None, 4, 4, 3), (None, 2, 2, 5)),
    ((None, 2, 2, 3), (None, 3, 3, 5)),
    ((None, 4, 4, 3), (None, 5)),
    ((None, 10, 3), (None, 4, 4, 3)),
    ((None, 4, 4, 3), (None, 9, 5)),
]


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_projectors_compute_in_float32_under_a_half_precision_policy(student, teacher):
    feature = feature_of(student)
    expected = projector_for(student, teacher, "`Hint`")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        projector = projector_for(student, teacher, "`Hint`")
        projector.set_weights(expected.get_weights())
        # Equal to the last bits: an input rounded to half precision is off by 1e-3.
        np.testing.assert_allclose(projector(feature), expected(feature), rtol=1e-6, atol=1e-6)
        assert projector(feature.astype("float16")).dtype == "float32"
        assert {layer.compute_dtype for layer in projector.layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(policy)


def test_a_chain_of_other_layers_takes_float32_too():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        chain = in_float32((None, 1), [layers.Dense(1, kernel_initializer="ones", dtype="float32")], name="chain")
    finally:
        keras.config.set_dtype_policy(policy)
    assert (chain.name, chain.built) == ("chain", True)
    np.testing.assert_array_equal(chain(np.float32([[1.0001]])), np.float32([[1.0001]]))


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_projectors_and_their_gradients_trace(student, teacher, jit_compile):
    feature, projector = tf.constant(feature_of(student)), projector_for(student, teacher, "`Hint`")

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            projected = projector(x)
            total = tf.reduce_sum(tf.square(projected))
        return projected, tape.gradient(total, x)

    for traced, eager in zip(tf.function(step, jit_compile=jit_compile)(feature), step(feature), strict=True):
        np.testing.assert_allclose(traced, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("student", "teacher"), [*PAIRS, ((None, None, None, 3), (None, 4, 4, 5))])
def test_projectors_survive_config_and_file(student, teacher, tmp_path):
    feature, projector = feature_of(student), projector_for(student, teacher, "`Hint`")
    again = keras.Sequential.from_config(projector.get_config())
    assert (again.name, names(again)) == ("projector", names(projector))
    again.set_weights(projector.get_weights())
    np.testing.assert_array_equal(again(feature), projector(feature))
    projector.save(tmp_path / "projector.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "projector.keras")(feature), projector(feature))


@pytest.mark.parametrize(("student", "teacher"), [*PAIRS, ((None, None, None, 3), (None, 4, 4, 5))])
def test_the_shape_is_known_before_the_first_call(student, teacher):
    projector = projector_for(student, teacher, "`Hint`")
    assert projector.built
    assert tuple(projector.compute_output_shape(student)) == teacher
