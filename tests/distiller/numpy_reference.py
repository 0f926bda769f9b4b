"""The formulas in NumPy, float64, straight from the papers."""

import numpy as np
from scipy.special import log_softmax, softmax


def soft_target_values(teacher_logits, student_logits, temperature):
    teacher_logits, student_logits = np.float64(teacher_logits), np.float64(student_logits)
    log_p = log_softmax(teacher_logits / temperature, axis=-1)
    log_q = log_softmax(student_logits / temperature, axis=-1)
    return temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def soft_target_gradient(teacher_logits, student_logits, temperature):
    teacher_logits, student_logits = np.float64(teacher_logits), np.float64(student_logits)
    return temperature * (softmax(student_logits / temperature, -1) - softmax(teacher_logits / temperature, -1))


def cross_entropy_values(labels, logits):
    return -np.take_along_axis(log_softmax(np.float64(logits), axis=-1), np.asarray(labels)[..., None], -1)[..., 0]


def ensemble_logits(members, weights, temperature):
    mean = sum(w * softmax(np.float64(member) / temperature, -1) for member, w in zip(members, weights, strict=True))
    return temperature * np.log(mean)


def weighted_mean(values, weights=None, mask=None):
    """`Σ w v / n` over the n values that the mask keeps."""
    values = np.asarray(values)
    weights = np.ones_like(values) if weights is None else np.broadcast_to(weights, values.shape)
    mask = np.ones(values.shape, bool) if mask is None else mask
    return (weights * values)[mask].sum() / mask.sum()
