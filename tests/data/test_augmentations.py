import numpy as np
import pytest
import tensorflow as tf

from keras_kd.data import random_shift

IMAGE = np.random.default_rng(0).uniform(0.1, 1.0, (4, 5, 2)).astype("float32")


def numpy_shift(image, down, right):
    shifted = np.zeros_like(image)
    height, width, _ = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                shifted[row, column] = image[row - down, column - right]
    return shifted


def test_every_result_is_a_zero_padded_shift_and_all_occur_equally():
    augment = random_shift(1)
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    expected = [numpy_shift(IMAGE, *shift) for shift in shifts]
    seeds = tf.stack([tf.range(900), tf.ones(900, tf.int32)], axis=1)
    drawn = []
    for result in tf.map_fn(lambda seed: augment(IMAGE, seed), seeds, fn_output_signature=tf.float32).numpy():
        matches = [index for index, image in enumerate(expected) if np.array_equal(result, image)]
        assert len(matches) == 1
        drawn += matches
    counts = np.bincount(drawn, minlength=9)
    assert counts.sum() == 900
    assert counts.min() > 60  # 100 expected, standard deviation 9.4
    assert counts.max() < 140
    mean_shift = np.mean([shifts[index] for index in drawn], axis=0)
    assert np.abs(mean_shift).max() < 0.11  # 4 standard errors


def test_same_seed_same_bits_in_eager_and_graph():
    augment = random_shift(2)
    first = augment(IMAGE, (3, 4)).numpy()
    np.testing.assert_array_equal(first, augment(IMAGE, (3, 4)).numpy())
    np.testing.assert_array_equal(first, tf.function(augment)(IMAGE, tf.constant([3, 4], tf.int64)).numpy())


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_keeps_shape_and_dtype_in_a_dataset(dtype):
    images = tf.data.Dataset.from_tensors(tf.cast(IMAGE * 200, dtype))
    spec = images.map(lambda x: random_shift(3)(x, (0, 0))).element_spec
    assert spec == tf.TensorSpec((4, 5, 2), dtype)


def test_no_shift_is_the_identity():
    np.testing.assert_array_equal(random_shift(0)(IMAGE, (5, 6)).numpy(), IMAGE)


def test_negative_is_refused():
    with pytest.raises(ValueError, match=r"`random_shift`: `max_pixels` must be 0 or more. Received: max_pixels=-1\."):
        random_shift(-1)
