"""Losses of the relations between the examples of a batch, each beside its formula in NumPy."""

import math

import numpy as np
from scipy.spatial.distance import cosine, pdist, squareform

from keras_kd import losses
from tests.battery import Case


def vectors(feature):
    return feature.reshape(len(feature), -1)


def similarity_preserving(teacher, student):
    similarities = []
    for feature in (vectors(teacher), vectors(student)):
        rows = [[np.dot(x, y) for y in feature] for x in feature]
        similarities.append(np.array([row / np.linalg.norm(row) for row in rows]))
    return np.mean((similarities[0] - similarities[1]) ** 2, axis=1)


def huber(value):
    return value**2 / 2 if abs(value) < 1 else abs(value) - 0.5


def relational_distance(teacher, student):
    distances = []
    for feature in (vectors(teacher), vectors(student)):
        pairs = pdist(feature)
        distances.append(squareform(pairs / pairs.mean()))
    return np.mean(np.vectorize(huber)(distances[0] - distances[1]), axis=1)


def cosine_at(vertex, first, second):
    sides = np.linalg.norm(first - vertex) * np.linalg.norm(second - vertex)
    return 0.0 if sides == 0 else np.dot(first - vertex, second - vertex) / sides


def relational_angle(teacher, student):
    teacher, student = vectors(teacher), vectors(student)
    examples = range(len(teacher))
    values = np.zeros(len(teacher))
    for j in examples:
        for i in examples:
            for k in examples:
                values[j] += huber(
                    cosine_at(teacher[j], teacher[i], teacher[k]) - cosine_at(student[j], student[i], student[k])
                )
    return values / len(teacher) ** 2


def neighbours(feature):
    """Probabilities of the other examples, by example."""
    kernel = 1 - squareform(pdist(feature, "cosine")) / 2
    others = [np.delete(row, i) for i, row in enumerate(kernel)]
    return [np.maximum(row, 1e-7) / np.maximum(row, 1e-7).sum() for row in others]


def probabilistic_transfer(teacher, student):
    pairs = zip(neighbours(vectors(teacher)), neighbours(vectors(student)), strict=True)
    return np.array([np.sum(p * np.log(p / q)) for p, q in pairs])


def correlation(x, y, gamma, order):
    inner = 1 - cosine(x, y)
    return math.exp(-2 * gamma) * sum((2 * gamma * inner) ** n / math.factorial(n) for n in range(order + 1))


def correlation_congruence(teacher, student, gamma=0.4, order=2):
    teacher, student = (
        np.array([[correlation(x, y, gamma, order) for y in feature] for x in feature])
        for feature in (vectors(teacher), vectors(student))
    )
    return np.mean((teacher - student) ** 2, axis=1)


def contrastive(teacher, student, temperature=0.07, negatives=None, dataset_size=None):
    candidates = [*teacher, *([] if negatives is None else negatives)]
    count = len(candidates) - 1
    noise = math.log(count / (dataset_size or count + 1))
    values = np.zeros(len(student))
    for i, s in enumerate(student):
        for j, t in enumerate(candidates):
            score = (1 - cosine(t, s)) / temperature
            mine = score if i == j else noise
            values[i] += np.logaddexp(score, noise) - mine  # -log h of the example's own, -log(1 - h) of others
    return values


def noise_of_the_teacher_itself(teacher):
    return contrastive(teacher, teacher)


def relation_case(loss, oracle, **more):
    return Case(
        loss, oracle, **{"shape": (4, 2, 2, 3), "any_leading": False, "relational": True, "masked": True, **more}
    )


RELATIONS = {
    "contrastive": relation_case(
        losses.contrastive,
        contrastive,
        shape=(4, 5),
        floor=noise_of_the_teacher_itself,
        least_at_teacher=False,
        masked=False,
    ),
    "correlation_congruence": relation_case(
        losses.correlation_congruence, correlation_congruence, teacher_shape=(4, 2, 2, 5)
    ),
    "probabilistic_transfer": relation_case(
        losses.probabilistic_transfer, probabilistic_transfer, teacher_shape=(4, 2, 2, 5)
    ),
    "relational_angle": relation_case(losses.relational_angle, relational_angle, teacher_shape=(4, 2, 2, 5)),
    "relational_distance": relation_case(losses.relational_distance, relational_distance, teacher_shape=(4, 2, 2, 5)),
    "similarity_preserving": relation_case(
        losses.similarity_preserving, similarity_preserving, teacher_shape=(4, 2, 2, 5)
    ),
}
