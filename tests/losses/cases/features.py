"""Losses of features, each beside its formula in NumPy."""

import numpy as np

from keras_kd import losses
from tests.battery import Case


def hint(teacher, student):
    return np.mean((teacher - student) ** 2, -1)


FEATURES = {
    "hint": Case(losses.hint, hint, shape=(4, 2, 3, 3), any_leading=False),
}
