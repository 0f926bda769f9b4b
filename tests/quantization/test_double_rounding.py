"""`rounded_twice` against TFLite's arithmetic in integers."""

import math

import numpy as np

from keras_kd.quantization import for_the_converter
from keras_kd.quantization.double_rounding import rounded_twice


def by_integers(accumulated, factor):
    """`m · 2^-r` in 31 bits: a rounded product, then a rounded shift, halves away from 0."""
    m, exponent = math.frexp(factor)
    product = np.floor(accumulated * round(m * 2**31) / 2**31 + 0.5).astype(np.int64)
    shift = -exponent
    return np.sign(product) * ((np.abs(product) + (1 << (shift - 1))) >> shift)


def test_it_is_what_two_roundings_give():
    rng = np.random.default_rng(0)
    first, second, result = 0.01, 0.02, 0.0713
    accumulated = rng.integers(-40_000, 40_000, size=200_000)
    expected = by_integers(accumulated, first * second / result)
    moved = np.asarray(rounded_twice((accumulated * first * second).astype("float32"), first, second, result))
    once = np.floor(accumulated * first * second / result + 0.5)
    assert np.mean(once != expected) > 1e-3
    assert np.mean(np.floor(moved / result + 0.5) != expected) < 1e-4


def test_the_converter_reads_the_product_alone():
    product = np.array([1.0, -2.0], "float32")
    with for_the_converter():
        assert rounded_twice(product, 0.5, 0.5, 1.0) is product
    np.testing.assert_array_equal(rounded_twice(product, 0.5, 0.5, 1.0), [1.25, -2.25])
    np.testing.assert_array_equal(rounded_twice(product, 0.0, 0.5, 0.0), product)
