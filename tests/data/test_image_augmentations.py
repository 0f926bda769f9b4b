import colorsys
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from keras_kd.data import random_colour, random_crop, random_cutout, random_flip, random_rotation, random_shift
from keras_kd.data.image_augmentations import _rotated
from tests.data.drawn import check_equally_often, check_text, check_uniform, views

RNG = np.random.default_rng(1)
IMAGE = RNG.uniform(0.1, 1.0, (4, 5, 2)).astype("float32")


def coordinates(height, width):
    """An image whose two channels say where each pixel is."""
    return np.stack(np.meshgrid(range(height), range(width), indexing="ij"), axis=-1).astype("float32")


def numpy_shift(image, down, right):
    shifted = np.zeros_like(image)
    height, width, _ = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                shifted[row, column] = image[row - down, column - right]
    return shifted


def test_shift_is_zero_padded_and_all_occur_equally():
    expected = [numpy_shift(IMAGE, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    drawn = views(random_shift(1), IMAGE, 900)
    check_equally_often([view.tobytes() for view in drawn], [image.tobytes() for image in expected])


def test_shift_draws_what_it_always_drew():
    x = np.pad([[[1]]], ((2, 2), (2, 2), (0, 0)))
    places = [np.argwhere(random_shift(2)(x, (index, 1)).numpy())[0, :2].tolist() for index in range(6)]
    assert places == [[0, 4], [3, 0], [2, 2], [2, 3], [4, 0], [3, 0]]


def test_no_shift_is_the_identity():
    np.testing.assert_array_equal(random_shift(0)(IMAGE, (5, 6)), IMAGE)


def test_flip_swaps_columns_of_every_second_image():
    flipped = np.stack([IMAGE[:, column] for column in (4, 3, 2, 1, 0)], axis=1)
    drawn = views(random_flip(), IMAGE, 600)
    check_equally_often([view.tobytes() for view in drawn], [IMAGE.tobytes(), flipped.tobytes()])


def numpy_cutout(image, row, column, size):
    cut = image.copy()
    for i in range(row - size // 2, row - size // 2 + size):
        for j in range(column - size // 2, column - size // 2 + size):
            if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                cut[i, j] = 0
    return cut


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_is_a_square_and_every_pixel_its_centre_equally_often(size):
    expected = [numpy_cutout(IMAGE, row, column, size).tobytes() for row in range(4) for column in range(5)]
    assert len(set(expected)) == 20
    check_equally_often([view.tobytes() for view in views(random_cutout(size), IMAGE, 1000)], expected)


def test_cutout_of_nothing_and_of_everything():
    np.testing.assert_array_equal(random_cutout(0)(IMAGE, (1, 2)), IMAGE)
    np.testing.assert_array_equal(random_cutout(20)(IMAGE, (1, 2)), np.zeros_like(IMAGE))


def parts(drawn, height, width):
    """Start and size, in shares of the side, of the part that each view of `coordinates` shows."""
    for view in drawn:
        zoom = np.array([view[height // 2 + 1, 0, 0] - view[height // 2, 0, 0], np.diff(view[0, :, 1])[width // 2]])
        middle = np.array([view[height // 2, 0, 0], view[0, width // 2, 1]])
        size = np.array([height, width])
        start = middle + 0.5 - (size // 2 + 0.5) * zoom
        for axis in (0, 1):
            read = start[axis] + (np.arange(size[axis]) + 0.5) * zoom[axis] - 0.5
            along = view[:, 3, 0] if axis == 0 else view[3, :, 1]
            np.testing.assert_allclose(along, np.clip(read, 0, size[axis] - 1), atol=1e-3)
        yield *(start / size), *zoom


def test_crop_shows_parts_of_the_right_areas_aspects_and_places():
    height, width = 24, 32
    drawn = views(random_crop(scale=(0.1, 0.4), aspect=(0.8, 1.25)), coordinates(height, width), 400)
    top, left, tall, wide = np.array(list(parts(drawn, height, width))).T
    check_uniform(tall * wide, 0.1 - 1e-4, 0.4 + 1e-4)
    check_uniform(np.log(wide * width / (tall * height)), math.log(0.8) - 1e-3, math.log(1.25) + 1e-3)
    check_uniform(top / (1 - tall), -1e-4, 1 + 1e-4)
    check_uniform(left / (1 - wide), -1e-4, 1 + 1e-4)


def test_crop_cuts_a_side_longer_than_the_image_to_it():
    drawn = views(random_crop(scale=(1.0, 1.0), aspect=(4.0, 4.0)), coordinates(24, 24), 20)
    top, left, tall, wide = np.array(list(parts(drawn, 24, 24))).T
    np.testing.assert_allclose(tall, 0.5, atol=1e-4)
    np.testing.assert_allclose(wide, 1, atol=1e-4)
    np.testing.assert_allclose(left, 0, atol=1e-4)
    assert np.ptp(top) > 0.2


def test_crop_of_the_whole_is_the_identity():
    for image in (IMAGE, (IMAGE * 255).astype("uint8")):
        np.testing.assert_array_equal(random_crop(scale=(1, 1), aspect=(1.25, 1.25))(image, (3, 4)), image)


@pytest.mark.parametrize("turns", [-1, 1, 2, 3])
@pytest.mark.parametrize("side", [5, 6])
def test_quarter_turns_are_those_of_numpy(turns, side):
    image = RNG.uniform(size=(side, side, 3)).astype("float32")
    rotated = _rotated(tf.constant(image), tf.constant(turns * math.pi / 2))
    np.testing.assert_allclose(rotated, np.rot90(image, turns), atol=1e-5)


@pytest.mark.parametrize("degrees", [-50, 10, 135])
def test_rotation_is_that_of_scipy(degrees):
    image = RNG.uniform(size=(9, 14, 2)).astype("float32")
    rotated = _rotated(tf.constant(image), tf.constant(math.radians(degrees)))
    expected = ndimage.rotate(image.astype("float64"), degrees, reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(rotated, expected, atol=1e-5)


def test_angles_are_uniform():
    angles = []
    for view in views(random_rotation(40), coordinates(21, 21), 400):
        down, right = view[11, 10] - view[10, 10], view[10, 11] - view[10, 10]
        np.testing.assert_allclose([*down, *right], [right[1], down[1], -down[1], down[0]], atol=1e-4)
        angles.append(math.degrees(math.atan2(-right[0], right[1])))
    # Counter-clockwise, as the columns of the image come to stand where its rows were.
    check_uniform(angles, -40, 40)
    assert min(angles) < -38


def test_no_rotation_is_the_identity():
    np.testing.assert_allclose(random_rotation(0)(IMAGE, (3, 4)), IMAGE, atol=1e-7)


def test_brightness_and_contrast_are_a_line_and_uniform():
    x = RNG.uniform(0.4, 0.6, (6, 7, 3)).astype("float32")
    added, times = [], []
    for view in views(random_colour(brightness=0.1, contrast=0.5), x, 400):
        slope, intercept = np.polyfit(x.ravel().astype("float64"), view.ravel(), 1)
        np.testing.assert_allclose(view, slope * x + intercept, atol=1e-5)
        added.append(slope * x.mean() + intercept - x.mean())
        times.append(slope)
    check_uniform(added, -0.1, 0.1)
    check_uniform(times, 0.5, 1.5)


def test_colours_are_clipped():
    x = np.array([[[0.0], [0.5], [1.0]]], "float32")
    for view in views(random_colour(brightness=0, contrast=1), x, 20):
        (low,), (middle,), (high,) = view[0]
        assert middle == 0.5
        assert low == 1 - high >= 0
    assert min(view.min() for view in views(random_colour(brightness=0.5, contrast=0), x, 20)) == 0


def in_hsv(image):
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3).astype("float64")])


def test_saturation_is_multiplied():
    x = RNG.uniform(0.4, 0.7, (4, 5, 3)).astype("float32")
    hue, saturation, value = in_hsv(x).T
    factors = []
    for view in views(random_colour(brightness=0, contrast=0, saturation=0.5), x, 200):
        new_hue, new_saturation, new_value = in_hsv(view).T
        np.testing.assert_allclose(new_hue, hue, atol=1e-4)
        np.testing.assert_allclose(new_value, value, atol=1e-5)
        factors.append(new_saturation.sum() / saturation.sum())
        np.testing.assert_allclose(new_saturation, saturation * factors[-1], atol=1e-5)
    check_uniform(factors, 0.5, 1.5)


def test_hue_is_turned():
    x = RNG.uniform(0, 1, (4, 5, 3)).astype("float32")
    hue, saturation, value = in_hsv(x).T
    turns = []
    for view in views(random_colour(brightness=0, contrast=0, hue=0.2), x, 200):
        new_hue, new_saturation, new_value = in_hsv(view).T
        np.testing.assert_allclose(new_saturation, saturation, atol=1e-5)
        np.testing.assert_allclose(new_value, value, atol=1e-5)
        turned = (new_hue - hue + 0.5) % 1 - 0.5
        np.testing.assert_allclose(turned, turned[0], atol=1e-4)
        turns.append(turned[0])
    check_uniform(turns, -0.2, 0.2)


def test_bytes_are_coloured_as_the_same_floats():
    x = RNG.integers(0, 256, (6, 7, 3)).astype("uint8")
    augment = random_colour(0.3, 0.3, 0.3, 0.1)
    as_floats = views(augment, x.astype("float32") * np.float32(1 / 255), 50)
    for view, floats in zip(views(augment, x, 50), as_floats, strict=True):
        np.testing.assert_array_equal(view, np.round(floats * np.float32(255)))


@pytest.mark.parametrize(
    ("made", "error", "text"),
    [
        (
            lambda: random_shift(-1),
            ValueError,
            "`random_shift`: `max_pixels` must be 0 or more. Received: max_pixels=-1.",
        ),
        (
            lambda: random_shift(1.5),
            TypeError,
            "`random_shift`: `max_pixels` must be an integer. Received: max_pixels=1.5.",
        ),
        (lambda: random_cutout(-2), ValueError, "`random_cutout`: `size` must be 0 or more. Received: size=-2."),
        (
            lambda: random_crop(scale=(0.5, 1.5)),
            ValueError,
            "`random_crop`: `scale` must be (low, high) with 0 < low <= high <= 1. Received: scale=(0.5, 1.5).",
        ),
        (
            lambda: random_crop(aspect=(2.0, 1.0)),
            ValueError,
            "`random_crop`: `aspect` must be (low, high) with 0 < low <= high, both finite. "
            "Received: aspect=(2.0, 1.0).",
        ),
        (
            lambda: random_crop(scale=(0.5,)),
            ValueError,
            "`random_crop`: `scale` must be (low, high) with 0 < low <= high <= 1. Received: scale=(0.5,).",
        ),
        (
            lambda: random_rotation(math.nan),
            ValueError,
            "`random_rotation`: `max_degrees` must be from 0 to 180. Received: max_degrees=nan.",
        ),
        (
            lambda: random_colour(hue=0.6),
            ValueError,
            "`random_colour`: `hue` must be from 0 to 0.5. Received: hue=0.6.",
        ),
        (
            lambda: random_colour(hue=0.1)(IMAGE, (0, 1)),
            ValueError,
            "`random_colour`: expected 3 channels, since grey has no saturation or hue; set both to 0. "
            "Received: shape=TensorShape([4, 5, 2]).",
        ),
        (
            lambda: random_colour()(IMAGE.astype("int32"), (0, 1)),
            ValueError,
            "`random_colour`: expected pixels of dtype uint8, or of a float dtype in [0, 1]. Received: dtype='int32'.",
        ),
    ],
)
def test_what_cannot_be_is_refused(made, error, text):
    check_text(error, made, text)
