import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.data import Source, input_transform, pipeline

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 6, 4, 1), dtype="uint8")
RGB = RNG.integers(0, 256, (3, 6, 4, 3), dtype="uint8")


def source_of(x, kind, input_shape=None):
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x), "int64")))
    return Source("tiny", kind, dataset, dataset, dataset, input_shape or x.shape[1:], ("only",))


def transformed(source, input_shape, **kwargs):
    batches = pipeline(source.train, transform=input_transform(source, input_shape, **kwargs))
    return next(batches.as_numpy_iterator())[0]


def test_same_shape_is_only_cast_and_scaled():
    x = transformed(source_of(GREY, "image"), (6, 4, 1))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, GREY.astype("float32") * np.float32(1 / 255))
    np.testing.assert_array_equal(transformed(source_of(GREY, "image"), (6, 4, 1), scale=1), GREY)


def test_default_scale_follows_what_is_stored():
    deep = np.full((1, 2, 2, 1), 65535, "uint16")
    np.testing.assert_allclose(transformed(source_of(deep, "image"), (2, 2, 1)), 1, rtol=1e-6)
    unit = RNG.uniform(size=(2, 2, 2, 1)).astype("float32")
    np.testing.assert_array_equal(transformed(source_of(unit, "image"), (2, 2, 1)), unit)
    np.testing.assert_array_equal(transformed(source_of(unit[..., 0, 0], "audio"), (2,)), unit[..., 0, 0])


def test_grey_to_rgb_repeats():
    x = transformed(source_of(GREY, "image"), (6, 4, 3), scale=1)
    np.testing.assert_array_equal(x, np.repeat(GREY, 3, axis=-1))


def test_rgb_to_grey_weighs_the_colours():
    x = transformed(source_of(RGB, "image"), (6, 4, 1), scale=1)
    np.testing.assert_allclose(x[..., 0], RGB @ np.array([0.2989, 0.587, 0.114]), rtol=1e-5)


def test_model_without_a_channel_axis():
    np.testing.assert_array_equal(transformed(source_of(GREY, "image"), (6, 4), scale=1), GREY[..., 0])
    x = transformed(source_of(RGB, "image"), (6, 4), scale=1)
    np.testing.assert_allclose(x, RGB @ np.array([0.2989, 0.587, 0.114]), rtol=1e-5)


def test_upsampling_by_two_is_bilinear_with_half_pixel_centres():
    column = np.array([0, 8, 40], "float32").reshape(1, 3, 1, 1)
    x = transformed(source_of(column, "image"), (6, 1, 1))
    np.testing.assert_allclose(x.ravel(), [0, 2, 6, 16, 32, 40], atol=1e-5)


def test_downsampling_by_two_is_antialiased():
    row = np.array([0, 0, 0, 0, 80, 0, 0, 0], "float32").reshape(1, 1, 8, 1)
    triangle = np.array([0.125, 0.375, 0.375, 0.125])  # bilinear kernel stretched over the 2x step
    expected = [0, 80 * triangle[3], 80 * triangle[1], 0]
    x = transformed(source_of(row, "image"), (1, 4, 1))
    np.testing.assert_allclose(x.ravel(), expected, atol=1e-5)


def test_images_of_varying_size_reach_the_size_of_the_model():
    source = source_of(GREY, "image", input_shape=(None, None, 1))
    np.testing.assert_allclose(transformed(source, (6, 4, 1), scale=1), GREY, atol=1e-4)
    assert transformed(source, (3, 8, 3)).shape == (3, 3, 8, 3)


def test_sizes_left_open_by_the_model_stay_as_stored():
    np.testing.assert_array_equal(transformed(source_of(RGB, "image"), (None, None, None), scale=1), RGB)


@pytest.mark.parametrize("stored_length", [5, None])
def test_audio_is_padded_or_cut_at_the_end(stored_length):
    sound = np.array([[-32768, 0, 16384, 32767, 8192]], "int64")
    source = source_of(sound, "audio", input_shape=(stored_length,))
    expected = np.array([-1, 0, 0.5, 32767 / 32768, 0.25])
    np.testing.assert_allclose(transformed(source, (3,))[0], expected[:3], rtol=1e-6)
    np.testing.assert_allclose(transformed(source, (7,))[0], [*expected, 0, 0], rtol=1e-6)
    channel = transformed(source, (7, 1))
    assert channel.shape == (1, 7, 1)
    np.testing.assert_allclose(channel[0, :, 0], [*expected, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(transformed(source, (5,), scale=1)[0], sound[0])


def test_audio_of_one_length_fits_a_model_of_any():
    sound = np.arange(8, dtype="int64").reshape(2, 4)
    np.testing.assert_array_equal(transformed(source_of(sound, "audio"), (None, 1), scale=1)[..., 0], sound)


def test_features_are_cast_and_nothing_else():
    table = np.array([[1, 2], [300, -4]], "int32")
    x = transformed(source_of(table, "features"), (2,))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, table)


@pytest.mark.parametrize(
    ("kind", "stored", "input_shape", "reason"),
    [
        ("image", (6, 4, 1), (64,), r"takes \(height, width, channels\) or \(height, width\)"),
        ("image", (None, None, 3), (None, 8, 3), "image sizes vary; give the model a fixed height and width"),
        ("image", (6, 4, 3), (6, 4, 4), "only 1 and 3 channels can be turned into each other"),
        ("image", (6, 4, 4), (6, 4), "only 1 and 3 channels can be turned into each other"),
        ("audio", (None,), (None,), "recordings vary in length; give the model a fixed number of samples"),
        ("audio", (None,), (8, 2), "only mono audio"),
        ("audio", (None, 2), (8,), "only mono audio"),
        ("audio", (5,), (8, 8, 1), "only mono audio"),
        ("features", (4,), (5,), "features are not reshaped; give the model their shape"),
    ],
)
def test_what_cannot_fit_is_refused_before_any_data_flows(kind, stored, input_shape, reason):
    source = dataclasses.replace(source_of(np.zeros((1, 1), "int64"), kind), input_shape=stored)
    with pytest.raises(ValueError, match=rf"(?s)`input_transform`: expected .* {kind} .*'tiny'.*Received: .*{reason}"):
        input_transform(source, input_shape)
