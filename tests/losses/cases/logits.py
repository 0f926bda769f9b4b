"""Losses of logits, each beside its formula in NumPy."""

import numpy as np
from scipy.special import log_softmax, rel_entr, softmax

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


LOGITS = {
    "soft_target_cross_entropy": Case(losses.soft_target_cross_entropy, cross_entropy, floor=scaled_entropy),
    "soft_target_kl": Case(losses.soft_target_kl, kl_of_any_size, arguments={"temperature": 2.5}),
}
