"""What TFLite's product of two activations rounds twice, and how its graph is traced without that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from keras import ops

_EXPONENT = 0x7F800000  # the bits of a float32 that hold it
_for_the_converter = False


@contextmanager
def for_the_converter() -> Iterator[None]:
    """Lets models be traced as the operators that the converter is to read, which round twice by themselves."""
    global _for_the_converter
    before, _for_the_converter = _for_the_converter, True
    try:
        yield
    finally:
        _for_the_converter = before


def rounded_twice(product: Any, first: Any, second: Any, result: Any) -> Any:
    """Moves a product away from 0 by as much as its first rounding may, so that the second gives what TFLite gives.

    In int32 the product of values in steps of `first` and `second` is multiplied by `m · 2^-r = first · second /
    result`, with `m` in [1/2, 1), in two steps: times `m`, rounded, and shifted by `r` bits, rounded again. So halves
    of a step are rounded away from 0, and so is what lies less than `2^-(r + 1)` below them: several in a thousand of
    the products of attention.

    Args:
        product: Float32 tensor.
        first: Step of the one factor; 0 before it is known.
        second: Step of the other factor.
        result: Step of the product.

    Returns:
        Tensor of the same shape; the same tensor within `for_the_converter`.

    Example:
        >>> ops.convert_to_numpy(rounded_twice(ops.array([0.25, -3.0]), 0.5, 0.5, 1.0)).tolist()
        [0.5, -3.25]
    """
    if _for_the_converter:
        return product
    result = ops.convert_to_tensor(result, dtype="float32")
    factor = ops.where(result > 0, first * second / ops.where(result > 0, result, 1.0), 0.0)
    half_bit = tf.bitcast(tf.bitcast(factor, "int32") & _EXPONENT, "float32")
    return product + ops.stop_gradient(ops.sign(product) * result * half_bit)
