"""The loss of a student that learns without data, beside its formula in NumPy."""

import numpy as np

from keras_kd import losses
from tests.battery import Case


def logits_mae(teacher, student):
    return np.linalg.norm(teacher - student, ord=1, axis=-1) / teacher.shape[-1]


DATA_FREE = {"logits_mae": Case(losses.logits_mae, logits_mae, scale=3.0)}
