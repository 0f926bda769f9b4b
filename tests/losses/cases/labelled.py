"""Losses of logits that look at the labels too, each beside its formula in NumPy."""

from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from scipy.special import log_softmax, logsumexp, softmax

from keras_kd import losses
from tests.battery import Case


def by_example(formula):
    """The formula of one example, for logits with any leading dimensions and their labels."""

    def of_all(teacher, student, labels, **arguments):
        values = np.zeros(student.shape[:-1])
        for place in np.ndindex(values.shape):
            values[place] = formula(teacher[place], student[place], int(labels[place]), **arguments)
        return values

    return of_all


def split(logits, label):
    """Log-probability of the label, of all else together, and of the rest among itself."""
    rest = np.delete(logits, label)
    whole = logsumexp(logits)
    return logits[label] - whole, logsumexp(rest) - whole, log_softmax(rest)


def kl_terms(log_p, log_q):
    return np.sum(np.exp(log_p) * (log_p - log_q))


@by_example
def decoupled(teacher, student, label, temperature=4.0, target_weight=1.0, non_target_weight=8.0):
    taught, learnt = split(teacher / temperature, label), split(student / temperature, label)
    target = kl_terms(np.array(taught[:2]), np.array(learnt[:2]))
    return temperature**2 * (target_weight * target + non_target_weight * kl_terms(taught[2], learnt[2]))


@by_example
def normalized(teacher, student, label, gamma=1.5, temperature=1.0):
    target = np.exp(split(teacher, label)[0]) * split(student, label)[0]
    rest = softmax(np.delete(teacher, label) / temperature) @ log_softmax(np.delete(student, label) / temperature)
    return -target - gamma * temperature**2 * rest


@by_example
def weight_of_example(teacher, student, label):
    """`1 - exp(-CE_student / CE_teacher)`, with what `log_softmax` rounds away."""
    taught, learnt = (np.logaddexp(0, logsumexp(np.delete(row, label)) - row[label]) for row in (teacher, student))
    if taught == 0:
        return float(learnt > 0)
    return 1 - np.exp(-learnt / taught)


@by_example
def unweighted(teacher, student, label, temperature=2.0):
    return -(temperature**2) * softmax(teacher / temperature) @ log_softmax(student / temperature)


def weighted_soft_labels(teacher, student, labels, temperature=2.0, weights_of=None):
    """`weights_of` is the student whose weights count, for differences to which they are constant."""
    weights = weight_of_example(teacher, student if weights_of is None else weights_of, labels)
    return weights * unweighted(teacher, student, labels, temperature=temperature)


@dataclass(frozen=True)
class WeightsWithoutGradient(Case):
    """Finite differences around a student keep its weights: the student that a gradient was last asked for."""

    around: list = field(default_factory=list)

    def value(self, teacher, student, **more):
        if isinstance(student, tf.Variable):
            self.around[:] = [np.float64(student.numpy())]
        return super().value(teacher, student, **more)

    def expected(self, teacher, student, **more):
        if any(one.shape == student.shape and np.abs(one - student).max() < 1e-2 for one in self.around):
            more = {**more, "weights_of": self.around[0]}
        return super().expected(teacher, student, **more)


def at_the_teacher(oracle):
    """What the oracle gives where the student equals the teacher."""
    return lambda teacher: oracle(teacher, teacher, **Case(None, oracle, labels=True).labels_for(teacher))


LABELLED = {
    "decoupled": Case(losses.decoupled, decoupled, labels=True),
    "normalized": Case(
        losses.normalized, normalized, labels=True, floor=at_the_teacher(normalized), least_at_teacher=False
    ),
    "weighted_soft_labels": WeightsWithoutGradient(
        losses.weighted_soft_labels,
        weighted_soft_labels,
        labels=True,
        floor=at_the_teacher(weighted_soft_labels),
    ),
}
