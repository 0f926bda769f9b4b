"""Losses of features, each beside its formula in NumPy."""

import itertools

import numpy as np
from scipy.stats import norm

from keras_kd import losses
from tests.battery import Case
from tests.losses.cases.logits import kl_of_any_size

MARGINS = np.array([-0.5, -1.5, -3.0])
VARIANCES = np.array([0.5, 1.25, 3.0])


def hint(teacher, student):
    return np.mean((teacher - student) ** 2, -1)


def by_example(value):
    """An oracle of one example for all of a batch."""

    def oracle(teacher, student, **arguments):
        return np.array([value(t, s, **arguments) for t, s in zip(teacher, student, strict=True)])

    return oracle


def rows_of_channels(feature):
    """One example's `(places..., channels)` as one row of places for each channel."""
    return feature.reshape(-1, feature.shape[-1]).T


@by_example
def activation_boundary(teacher, student, margin=1.0):
    total = 0.0
    for t, s in zip(teacher.ravel(), student.ravel(), strict=True):
        missing = margin - s if t > 0 else margin + s
        total += missing**2 if missing > 0 else 0.0
    return total


@by_example
def overhaul(teacher, student, margin):
    total = 0.0
    for c, lowest in enumerate(margin):
        for t, s in zip(teacher[..., c].ravel(), student[..., c].ravel(), strict=True):
            target = t if t > lowest else lowest
            total += 0.0 if s <= target <= 0 else (target - s) ** 2
    return total


@by_example
def factor_transfer(teacher, student, p=1):
    teacher, student = teacher.ravel() / np.linalg.norm(teacher), student.ravel() / np.linalg.norm(student)
    return np.linalg.norm(teacher - student, p)


@by_example
def variational_information(teacher, mean, variance):
    densities = norm.logpdf(teacher, loc=mean, scale=np.sqrt(variance))
    return -np.sum(densities + np.log(2 * np.pi) / 2)


def cells(length, size):
    return [range(int(np.floor(i * length / size)), int(np.ceil((i + 1) * length / size))) for i in range(size)]


def pooled(feature, sizes, reduce):
    """One example's `(places..., channels)`, cell by cell."""
    places, channels = feature.shape[:-1], feature.shape[-1]
    result = np.zeros((*sizes, channels))
    for index in np.ndindex(*sizes):
        cell = [cells(length, size)[i] for length, size, i in zip(places, sizes, index, strict=True)]
        result[index] = reduce([feature[place] for place in itertools.product(*cell)], axis=0)
    return result


@by_example
def hierarchical_context(teacher, student, levels=(4, 2, 1)):
    total, weights, weight = np.mean((teacher - student) ** 2), 1.0, 1.0
    for level in levels:
        if teacher.ndim > 1 and level < len(teacher):
            sizes = (level,) * (teacher.ndim - 1)
            weight /= 2
            weights += weight
            coarse = pooled(teacher, sizes, np.mean) - pooled(student, sizes, np.mean)
            total += weight * np.mean(coarse**2)
    return total / weights


@by_example
def attention_transfer(teacher, student, p=2):
    maps = [np.sum(np.abs(rows_of_channels(feature)) ** p, 0) for feature in (teacher, student)]
    teacher, student = (energy / np.linalg.norm(energy) for energy in maps)
    return np.mean((teacher - student) ** 2)


@by_example
def channel_wise(teacher, student, temperature=1.0):
    pairs = zip(rows_of_channels(teacher), rows_of_channels(student), strict=True)
    return np.mean([kl_of_any_size(t, s, temperature) for t, s in pairs])


def flow_of_solution(teacher_pair, student_pair):
    return np.array(
        [
            np.sum((flow(*teacher) - flow(*student)) ** 2)
            for teacher, student in zip(zip(*teacher_pair, strict=True), zip(*student_pair, strict=True), strict=True)
        ]
    )


def flow(first, second):
    grid = [min(sizes) for sizes in zip(first.shape[:-1], second.shape[:-1], strict=True)]
    first, second = pooled(first, grid, np.max), pooled(second, grid, np.max)
    return sum(np.outer(first[place], second[place]) for place in np.ndindex(*grid)) / np.prod(grid)


@by_example
def neuron_selectivity(teacher, student):
    # (x · y)² is the inner product of the squares x xᵀ and y yᵀ: the discrepancy is the distance of their means.
    means = []
    for feature in (teacher, student):
        maps = [row / np.linalg.norm(row) for row in rows_of_channels(feature)]
        means.append(np.mean([np.outer(row, row) for row in maps], axis=0))
    return np.sum((means[0] - means[1]) ** 2)


@by_example
def inter_channel_correlation(teacher, student):
    correlations = []
    for feature in (teacher, student):
        maps = rows_of_channels(feature)
        rows = np.array([[np.dot(one, other) for other in maps] for one in maps])
        correlations.append([row / np.linalg.norm(row) for row in rows])
    return np.sum(np.subtract(*correlations) ** 2) / len(correlations[0])


def with_itself_rectified(function, teacher, student, **arguments):
    """Pairs of two different features, exact in float16."""
    return function((teacher, abs(teacher)), (student, abs(student)), **arguments)


def distance_of_boundaries(teacher):
    return activation_boundary(teacher, teacher)


def least_surprise(teacher):
    return variational_information(teacher, teacher, variance=VARIANCES)


def feature_case(loss, oracle, shape=(4, 2, 3, 3), large=1e2, **more):
    return Case(loss, oracle, shape=shape, large=large, any_leading=False, **more)


FEATURES = {
    "activation_boundary": feature_case(
        losses.activation_boundary,
        activation_boundary,
        floor=distance_of_boundaries,
        least_at_teacher=False,
        masked=True,
    ),
    "attention_transfer": feature_case(
        losses.attention_transfer, attention_transfer, teacher_shape=(4, 2, 3, 5), large=1e4, masked=True
    ),
    "channel_wise": feature_case(
        losses.channel_wise, channel_wise, arguments={"temperature": 2.5}, large=1e4, masked=True
    ),
    "factor_transfer": feature_case(losses.factor_transfer, factor_transfer, large=1e4, masked=True),
    "flow_of_solution": feature_case(
        losses.flow_of_solution,
        flow_of_solution,
        call=with_itself_rectified,
        teacher_shape=(4, 3, 3, 3),
        scale=1.0,
        large=10.0,  # the gradient grows with the cube and must fit float16
        masked=True,
    ),
    "hierarchical_context": feature_case(losses.hierarchical_context, hierarchical_context, shape=(4, 5, 3, 2)),
    "hint": feature_case(losses.hint, hint, large=1e4),
    "inter_channel_correlation": feature_case(
        losses.inter_channel_correlation, inter_channel_correlation, teacher_shape=(4, 3, 4, 3), large=1e3, masked=True
    ),
    "neuron_selectivity": feature_case(
        losses.neuron_selectivity, neuron_selectivity, teacher_shape=(4, 2, 3, 5), large=1e4, masked=True
    ),
    "overhaul": feature_case(losses.overhaul, overhaul, arguments={"margin": MARGINS}, masked=True),
    "variational_information": feature_case(
        losses.variational_information,
        variational_information,
        arguments={"variance": VARIANCES},
        floor=least_surprise,
        masked=True,
    ),
}
