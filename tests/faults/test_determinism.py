"""The same seed gives the same bits, twice in a row; another seed gives others. Commands: `test_broken_commands.py`."""

import keras
import numpy as np
import pytest

from tests.distiller.small_models import assert_same, values_of
from tests.faults.breaking_program import LABELS, SEEN, learner


def trained(seed):
    """What a run with Dropout, a projector and shuffled arrays leaves, all of it drawn from one seed."""
    made = learner(taught=True)
    keras.utils.set_random_seed(seed)
    for layer in made.student.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(keras.random.normal(layer.kernel.shape))
    made.fit(SEEN, LABELS, batch_size=6, epochs=2, verbose=0)
    return values_of([*made.student.weights, *made.optimizer.variables])


def test_a_student_is_bit_equal_under_the_same_seed():
    first, again, other = trained(7), trained(7), trained(8)
    assert_same(again, first)
    with pytest.raises(AssertionError):
        assert_same(other, first)
    assert all(np.isfinite(value).all() for value in first)
