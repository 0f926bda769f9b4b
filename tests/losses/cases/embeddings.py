"""Losses between pairs of embeddings, each beside its formula in NumPy."""

import numpy as np
from scipy.spatial.distance import cosine
from scipy.special import logsumexp, rel_entr

from keras_kd import losses
from tests.battery import Case


def matches(firsts, seconds, temperature):
    """Whom each of the first is matched with among the second, in probabilities."""
    scores = np.array([[(1 - cosine(first, second)) / temperature for second in seconds] for first in firsts])
    return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))


def batch_affinity(teacher_pair, student_pair, teacher_temperature=0.01, student_temperature=0.01):
    ways = [
        rel_entr(matches(*of_teacher, teacher_temperature), matches(*of_student, student_temperature)).sum(axis=1)
        for of_teacher, of_student in ((teacher_pair, student_pair), (teacher_pair[::-1], student_pair[::-1]))
    ]
    return np.mean(ways, axis=0)


def with_itself_reversed(function, teacher, student, **arguments):
    """Embeddings read backwards stand for those of a second modality."""
    return function(*((one, one[..., ::-1]) for one in (teacher, student)), **arguments)


EMBEDDINGS = {
    "batch_affinity": Case(
        losses.batch_affinity,
        batch_affinity,
        arguments={"teacher_temperature": 0.5, "student_temperature": 0.5},
        call=with_itself_reversed,
        any_leading=False,
        relational=True,
        masked=True,
        masks_examples=True,
        teacher_shape=(6, 7),
    ),
}
