import numpy as np
from sklearn.datasets import load_digits

from keras_kd.data import digits


def test_is_the_scikit_learn_set_and_nothing_else():
    (x_train, y_train), (x_test, y_test) = digits()
    embedded = np.column_stack([np.concatenate([x_train, x_test]).reshape(-1, 64), np.concatenate([y_train, y_test])])
    original = load_digits()
    expected = np.column_stack([original.data / 16, original.target])
    np.testing.assert_array_equal(_sorted_rows(embedded), _sorted_rows(expected))


def test_split_is_stratified_and_shuffled():
    (x_train, y_train), (x_test, y_test) = digits()
    assert x_train.shape == (1297, 8, 8, 1)
    assert x_test.shape == (500, 8, 8, 1)
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.dtype == y_test.dtype == np.int64
    total = np.bincount(load_digits().target)
    assert np.abs(np.bincount(y_test) - total * 500 / 1797).max() < 1
    np.testing.assert_array_equal(np.bincount(y_train) + np.bincount(y_test), total)
    for labels in (y_train, y_test):
        same_as_next = np.mean(labels[1:] == labels[:-1])
        assert 0.05 < same_as_next < 0.15  # a shuffled order gives 0.1, a sorted one 0.99


def _sorted_rows(rows):
    return rows[np.lexsort(rows.T)]
