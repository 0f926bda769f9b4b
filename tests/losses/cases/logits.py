"""Losses of logits, each beside its formula in NumPy."""

import numpy as np
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import zscore

from keras_kd import losses
from tests.battery import Case


def kl(teacher, student, temperature=4.0):
    return temperature**2 * rel_entr(softmax(teacher / temperature, -1), softmax(student / temperature, -1)).sum(-1)


def kl_of_any_size(teacher, student, temperature=4.0):
    # `rel_entr` is infinite where a probability underflows.
    log_p, log_q = log_softmax(teacher / temperature, -1), log_softmax(student / temperature, -1)
    return temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), -1)


def cross_entropy(teacher, student, temperature=4.0):
    p = softmax(teacher / temperature, -1)
    return -(temperature**2) * np.einsum("...k,...k", p, log_softmax(student / temperature, -1))


def scaled_entropy(teacher, temperature=4.0):
    log_p = log_softmax(teacher / temperature, -1)
    return -(temperature**2) * np.sum(np.exp(log_p) * log_p, -1)


def reverse_kl(teacher, student, temperature=1.0):
    return kl_of_any_size(student, teacher, temperature)


def jensen_shannon(teacher, student, temperature=1.0, beta=0.5):
    p, q = softmax(teacher / temperature, -1), softmax(student / temperature, -1)
    mixture = beta * p + (1 - beta) * q
    return temperature**2 * (beta * rel_entr(p, mixture) + (1 - beta) * rel_entr(q, mixture)).sum(-1)


def logits_mse(teacher, student):
    return np.linalg.norm(teacher - student, axis=-1) ** 2 / teacher.shape[-1]


def standardized_kl(teacher, student, temperature=2.0):
    return kl_of_any_size(zscore(teacher, -1), zscore(student, -1), temperature)


def hard_labels(teacher, student):
    decided = teacher.argmax(-1)[..., None]
    return -np.take_along_axis(log_softmax(student, -1), decided, -1)[..., 0]


def as_batch(logits, temperature):
    """Log-probabilities `(examples, classes)`."""
    return log_softmax(logits.reshape(-1, logits.shape[-1]) / temperature, -1)


def correlation(log_p, log_q):
    """By the greatest of each divided: no factor changes a correlation, and `e^-1000` would be no number."""
    p, q = np.exp(log_p - log_p.max()), np.exp(log_q - log_q.max())
    return 0.0 if np.ptp(p) == 0 or np.ptp(q) == 0 else np.corrcoef(p, q)[0, 1]


def dist(teacher, student, inter_weight=1.0, intra_weight=1.0, temperature=4.0):
    p, q = as_batch(teacher, temperature), as_batch(student, temperature)
    inter = np.array([1 - correlation(*rows) for rows in zip(p, q, strict=True)])
    intra = np.mean([1 - correlation(*columns) for columns in zip(p.T, q.T, strict=True)])
    return (temperature**2 * (inter_weight * inter + intra_weight * intra)).reshape(student.shape[:-1])


def multi_level(teacher, student, temperatures=(2, 3, 4, 5, 6)):
    total = 0.0
    for temperature in temperatures:
        p, q = (np.exp(as_batch(logits, temperature)) for logits in (teacher, student))
        instance = kl_of_any_size(teacher, student, temperature)
        batch = np.square(p @ p.T - q @ q.T).sum(1)
        classes = np.linalg.norm(p.T @ p - q.T @ q) ** 2 / p.shape[1]
        total = total + instance + batch.reshape(instance.shape) + classes
    return total


def hard_floor(teacher):
    return hard_labels(teacher, teacher)


LOGITS = {
    "dist": Case(
        losses.dist,
        dist,
        arguments={"inter_weight": 2.0, "intra_weight": 0.5, "temperature": 3.0},
        relational=True,
        masked=True,
    ),
    "hard_labels": Case(losses.hard_labels, hard_labels, floor=hard_floor, least_at_teacher=False),
    "jensen_shannon": Case(losses.jensen_shannon, jensen_shannon, arguments={"temperature": 2.0, "beta": 0.25}),
    "logits_mse": Case(losses.logits_mse, logits_mse),
    "multi_level": Case(losses.multi_level, multi_level, relational=True, masked=True),
    "reverse_kl": Case(losses.reverse_kl, reverse_kl, arguments={"temperature": 2.5}),
    "soft_target_cross_entropy": Case(losses.soft_target_cross_entropy, cross_entropy, floor=scaled_entropy),
    "soft_target_kl": Case(losses.soft_target_kl, kl_of_any_size, arguments={"temperature": 2.5}),
    "standardized_soft_target_kl": Case(losses.standardized_soft_target_kl, standardized_kl),
}
