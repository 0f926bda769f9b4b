"""`finite` stops at what is no number, and at nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.finite import finite

LEAST, GREATEST = np.finfo("float32").min, np.finfo("float32").max


def _watched(traced):
    return tf.function(finite) if traced else finite


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("values", [[0.5, -2.0], [LEAST, LEAST], [GREATEST, GREATEST], [LEAST, GREATEST], []])
def test_finite_values_pass_as_they_are_also_where_their_sum_overflows(values, traced):
    given = tf.constant(values, "float32")
    np.testing.assert_array_equal(_watched(traced)(given, "unused"), given)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_one_value_that_is_none_stops_with_the_message(value, dtype, traced):
    given = tf.tensor_scatter_nd_update(tf.ones((3, 4, 5), dtype), [[1, 2, 3]], [tf.cast(value, dtype)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="the teacher broke"):
        _watched(traced)(given, "the teacher broke")


def test_infinities_that_would_cancel_stop_too():
    with pytest.raises(tf.errors.InvalidArgumentError, match="the teacher broke"):
        finite(tf.constant([np.inf, -np.inf]), "the teacher broke")
