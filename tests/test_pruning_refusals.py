"""What `MagnitudePruning` cannot do, it refuses before the first step, or in the first where no sooner it is known."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.pruning import MagnitudePruning, sparsity


def fit(pruning, x, y=None):
    layered = [layers.Dense(7, name="hidden"), layers.Dense(3, name="head")]
    model = keras.Sequential([keras.Input((6,)), *layered, layers.LayerNormalization(name="norm")])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(x, y, batch_size=None if y is None else 3, callbacks=[pruning], verbose=0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"final_sparsity": 1.0}, "`final_sparsity` must be in [0, 1). Received: final_sparsity=1.0."),
        ({"final_sparsity": -0.1}, "`final_sparsity` must be in [0, 1). Received: final_sparsity=-0.1."),
        (
            {"initial_sparsity": 0.9},
            "`initial_sparsity` must be in [0, final_sparsity=0.8]. Received: initial_sparsity=0.9.",
        ),
        ({"begin_step": -1}, "`begin_step` must be a whole number >= 0. Received: begin_step=-1."),
        ({"begin_step": 9, "end_step": 8}, "`end_step` must be a whole number >= begin_step=9. Received: end_step=8."),
        ({"every": 0}, "`every` must be a whole number >= 1. Received: every=0."),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=f"^`MagnitudePruning`: {re.escape(text)}$"):
        MagnitudePruning(**arguments)


@pytest.mark.parametrize(
    ("pruning", "text"),
    [
        (
            lambda: MagnitudePruning(layers=["hidden", "haed"]),
            "`layers` must name layers with kernels that the training moves, of ['hidden', 'head']. "
            "Received: layers=['hidden', 'haed'].",
        ),
        (
            lambda: MagnitudePruning(layers="norm"),
            "`layers` must name layers with kernels that the training moves, of ['hidden', 'head']. "
            "Received: layers=['norm'].",
        ),
        (
            lambda: MagnitudePruning(begin_step=9),
            "`begin_step` must be <= the 8 steps of the training. Received: begin_step=9.",
        ),
    ],
)
def test_what_the_model_or_the_training_does_not_hold_is_refused(pruning, text):
    with pytest.raises(ValueError, match=f"^`MagnitudePruning`: {re.escape(text)}$"):
        fit(pruning(), np.ones((24, 6)), np.ones((24, 3)))


def test_data_of_unknown_length_need_an_end_step():
    spec = tf.TensorSpec((3, 6)), tf.TensorSpec((3, 3))
    data = tf.data.Dataset.from_generator(lambda: [(np.ones((3, 6)), np.ones((3, 3)))], output_signature=spec)
    text = "`end_step` must be given where `fit` does not know the steps of an epoch. Received: end_step=None."
    with pytest.raises(ValueError, match=f"^`MagnitudePruning`: {re.escape(text)}$"):
        fit(MagnitudePruning(), data)


def test_a_model_without_kernels_has_no_sparsity():
    text = (
        "`sparsity`: `model` must be built and hold kernels that can be pruned. Received a model with the layers ['a']."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        sparsity(keras.Sequential([layers.Dense(2, name="a")]))
