"""Every objective between class logits: on vectors, sequences with padding, maps, heads and ensembles."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import softmax

import keras_kd as kd
from keras_kd.objectives.class_logits import LogitsObjective
from keras_kd.objectives.labelled import DecoupledKD, NormalizedKD, WeightedSoftLabels
from keras_kd.objectives.logits import (
    HardLabels,
    JensenShannon,
    LogitsMSE,
    ReverseKL,
    SoftCrossEntropy,
    SoftTargets,
    StandardizedSoftTargets,
)
from keras_kd.objectives.predictions import DIST, MultiLevel
from keras_kd.objectives.temperatures import CurriculumTemperature
from keras_kd.signals import EnsembleSignals, Signals
from tests.losses.cases import labelled, logits

START = 1 + 4 / (1 + np.exp(-1))  # where a learned temperature between 1 and 5 starts

# How each is made, the formula of what is made, at which temperature, and what else the formula is given.
METHODS = {
    "soft_targets": (lambda: SoftTargets(3.0), logits.kl, 3.0, {}),
    "soft_targets_of_the_distiller": (SoftTargets, logits.kl, 5.0, {}),
    "soft_cross_entropy": (SoftCrossEntropy, logits.cross_entropy, 5.0, {}),
    "reverse_kl": (ReverseKL, logits.reverse_kl, 1.0, {}),
    "reverse_kl_of_the_distiller": (lambda: ReverseKL(None), logits.reverse_kl, 5.0, {}),
    "jensen_shannon": (lambda: JensenShannon(beta=0.25), logits.jensen_shannon, 1.0, {"beta": 0.25}),
    "logits_mse": (LogitsMSE, logits.logits_mse, None, {}),
    "standardized": (StandardizedSoftTargets, logits.standardized_kl, 2.0, {}),
    "hard_labels": (HardLabels, logits.hard_labels, None, {}),
    "decoupled": (
        lambda: DecoupledKD(target_weight=2.0, non_target_weight=3.0),
        labelled.decoupled,
        5.0,
        {"target_weight": 2.0, "non_target_weight": 3.0},
    ),
    "normalized": (lambda: NormalizedKD(gamma=0.5), labelled.normalized, 1.0, {"gamma": 0.5}),
    "weighted_soft_labels": (WeightedSoftLabels, labelled.weighted_soft_labels, 2.0, {}),
    "dist": (
        lambda: DIST(inter_weight=2.0, intra_weight=3.0),
        logits.dist,
        5.0,
        {"inter_weight": 2.0, "intra_weight": 3.0},
    ),
    "multi_level": (lambda: MultiLevel([2, 4]), logits.multi_level, None, {"temperatures": (2, 4)}),
    "curriculum_temperature": (lambda: CurriculumTemperature(high=5.0), logits.kl, START, {}),
}
every = pytest.mark.parametrize("method", METHODS)
DISTILLERS = 5.0  # temperature


def expected_values(method, teacher, student, labels):
    _, oracle, temperature, arguments = METHODS[method]
    arguments = {**arguments, **({} if temperature is None else {"temperature": temperature})}
    if METHODS[method][0]().needs_labels:
        arguments["labels"] = labels
    return oracle(np.float64(teacher), np.float64(student), **arguments)


def drawn(*shape, seed=0):
    """Logits of teacher and student, and labels."""
    draw = np.random.default_rng(seed)
    teacher, student = draw.normal(scale=2, size=(2, *shape)).astype("float32")
    return teacher, student, draw.integers(0, shape[-1], shape[:-1])


def assert_close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=5e-5, atol=2e-5)


def test_every_objective_of_logits_is_here():
    made = {type(make()) for make, *_ in METHODS.values()}
    public = {getattr(kd.objectives, name) for name in kd.objectives.__all__}
    assert {one for one in public if isinstance(one, type) and issubclass(one, LogitsObjective)} <= made


@every
@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4), (2, 3, 5, 4)], ids=["vectors", "sequences", "maps"])
def test_values_are_those_of_the_formula(method, shape):
    teacher, student, labels = drawn(*shape)
    objective = METHODS[method][0]()
    signals = Signals.of(teacher), Signals.of(student)
    objective.prepare(*signals)
    values = objective.values(*signals, temperature=DISTILLERS, labels={"output_0": labels})
    assert list(values) == ["output_0"]
    assert_close(values["output_0"], expected_values(method, teacher, student, labels))


@every
def test_values_of_what_a_mask_keeps_are_those_of_the_rest_alone(method):
    teacher, student, labels = drawn(3, 4, 5)
    mask = np.arange(4) < np.array([[4], [2], [3]])
    expected = expected_values(method, teacher[mask], student[mask], labels[mask])
    student[~mask] = 50.0
    student = tf.constant(student)
    student._keras_mask = tf.constant(mask)
    values = METHODS[method][0]().values(
        Signals.of(teacher), Signals.of(student), temperature=DISTILLERS, labels={"output_0": labels}
    )["output_0"]
    np.testing.assert_array_equal(values._keras_mask, mask)
    assert_close(np.asarray(values)[mask], expected)


@every
def test_values_per_output_by_key(method):
    (t_x, s_x, y_x), (t_y, s_y, y_y) = drawn(6, 4), drawn(6, 3, seed=1)
    signals = Signals.of({"y": t_y, "x": t_x}), Signals.of({"x": s_x, "y": s_y})
    objective, given = METHODS[method][0](), {"temperature": DISTILLERS, "labels": {"x": y_x, "y": y_y}}
    values = objective.values(*signals, **given)
    assert_close(values["x"], expected_values(method, t_x, s_x, y_x))
    assert_close(values["y"], expected_values(method, t_y, s_y, y_y))
    objective.outputs = ["y"]
    assert list(objective.values(*signals, **given)) == ["y"]


@every
def test_an_ensemble_is_asked_at_the_temperature_of_the_method(method):
    first, student, labels = drawn(6, 4)
    second = drawn(6, 4, seed=1)[0]
    at = METHODS[method][2] or 1.0
    mean = at * np.log(0.25 * softmax(first / at, -1) + 0.75 * softmax(second / at, -1))
    ensemble = EnsembleSignals([Signals.of(first), Signals.of(second)], [0.25, 0.75])
    values = METHODS[method][0]().values(
        ensemble, Signals.of(student), temperature=DISTILLERS, labels={"output_0": labels}
    )
    assert_close(values["output_0"], expected_values(method, mean, student, labels))


def still(student, teacher, objective, loss=None, **kwargs):
    """A distiller under which nothing moves."""
    distiller = kd.Distiller(student, teacher, objective, temperature=DISTILLERS, **kwargs)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.0), loss)
    return distiller


def said(*models, x):
    return [keras.tree.map_structure(np.asarray, model(x, training=False)) for model in models]


def tagger(seed):
    keras.utils.set_random_seed(seed)
    normal = keras.initializers.RandomNormal(stddev=2.0)
    embedding = layers.Embedding(9, 4, embeddings_initializer=normal, mask_zero=True)
    return keras.Sequential(
        [keras.Input((None,), dtype="int32"), embedding, layers.Dense(3, kernel_initializer=normal)]
    )


@every
def test_the_metric_of_a_tagger_is_of_its_tokens_alone(method):
    teacher, student = tagger(1), tagger(2)
    x = np.random.default_rng(5).integers(1, 9, (4, 6))
    x[np.arange(6) >= np.array([6, 2, 4, 3])[:, None]] = 0
    tokens, y = x != 0, x % 3
    objective = METHODS[method][0]()
    distiller = still(student, teacher, objective)
    taught, learnt = said(teacher, student, x=x)
    expected = expected_values(method, taught[tokens], learnt[tokens], y[tokens]).mean()
    assert_close(distiller.train_on_batch(x, y, return_dict=True)[objective.name], expected)
    assert_close(distiller.fit(x, y, batch_size=4, verbose=0).history[objective.name], [expected])


def segmenter(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4, 5, 2)), layers.Conv2D(3, 3, padding="same")])


LABELLED = ("decoupled", "normalized", "weighted_soft_labels")


@pytest.mark.parametrize(("method", "labels_of_rank"), [*((m, 3) for m in METHODS), *((m, 4) for m in LABELLED)])
def test_the_metric_of_a_segmenter_is_the_mean_over_all_places(method, labels_of_rank):
    teacher, student = segmenter(1), segmenter(2)
    x = np.random.default_rng(5).normal(size=(2, 4, 5, 2)).astype("float32")
    y = np.random.default_rng(6).integers(0, 3, (2, 4, 5))
    objective = METHODS[method][0]()
    distiller = still(student, teacher, objective)
    given = y if labels_of_rank == 3 else y[..., None]
    expected = expected_values(method, *said(teacher, student, x=x), y).mean()
    assert_close(distiller.train_on_batch(x, given, return_dict=True)[objective.name], expected)
    assert_close(distiller.fit(x, given, batch_size=2, verbose=0).history[objective.name], [expected])
