"""Formulas: (teacher, student) -> one value per example. `keras.ops` only; no models, no state."""

from keras_kd.losses.features import hint
from keras_kd.losses.logits import soft_target_cross_entropy, soft_target_kl

__all__ = ["hint", "soft_target_cross_entropy", "soft_target_kl"]
