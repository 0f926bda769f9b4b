import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_kd.losses import hint

features = arrays("float32", (2, 3, 4), elements=st.floats(-10, 10, width=32))


def test_hint_by_hand():
    np.testing.assert_allclose(hint([[1.0, 2.0], [0.0, 0.0]], [[1.0, 4.0], [3.0, -1.0]]), [2.0, 5.0])


@settings(deadline=None, max_examples=25, derandomize=True)
@given(features, features)
def test_the_mean_of_hint_is_the_mean_squared_error_of_keras(teacher, student):
    expected = keras.losses.MeanSquaredError()(teacher, student)
    np.testing.assert_allclose(np.mean(hint(teacher, student)), expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(features, features, st.floats(-3, 3, width=32))
def test_hint_is_symmetric_and_grows_with_the_square(teacher, student, factor):
    value = np.asarray(hint(teacher, student))
    np.testing.assert_allclose(hint(student, teacher), value, rtol=1e-6)
    np.testing.assert_allclose(hint(factor * teacher, factor * student), factor**2 * value, rtol=1e-3, atol=1e-4)
