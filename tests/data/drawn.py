"""What the tests of augmentations share: many views, and whether they are distributed as they should be."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats


def over_seeds(function, count):
    """The values of a function of the seed, stacked."""
    seeds = tf.data.Dataset.range(count).map(lambda index: tf.stack([index, 1]))
    return np.stack(list(seeds.map(function).as_numpy_iterator()))


def views(augment, x, count):
    """As many views of `x`, from as many seeds."""
    return over_seeds(lambda seed: augment(x, seed), count)


def check_uniform(values, low, high):
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.001


def check_equally_often(outcomes, kinds):
    counts = [sum(outcome == kind for outcome in outcomes) for kind in kinds]
    assert sum(counts) == len(outcomes)
    assert stats.chisquare(counts).pvalue > 0.001


def check_text(error, made, text):
    with pytest.raises(error) as raised:
        made()
    assert str(raised.value) == text
