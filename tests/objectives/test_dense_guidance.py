"""Several teachers that guide the student, each on its own, some dropped at random."""

import itertools
import re
from collections import Counter
from math import comb, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from keras_kd.objectives import (
    DecoupledKD,
    DenseGuidance,
    FromKeras,
    Hint,
    LogitsMSE,
    NormalizedKD,
    SimKD,
    SoftTargets,
    WeightedSoftLabels,
)
from keras_kd.signals import EnsembleSignals, Signals
from tests.losses.cases import labelled, logits

FIRST, SECOND, THIRD, FOURTH, STUDENT = np.random.default_rng(0).normal(scale=2, size=(5, 6, 4)).astype("float32")
TEACHERS = [FIRST, SECOND, THIRD, FOURTH]
LABELS = np.arange(6) % 4


def taught_by(*teachers, weights=None):
    return EnsembleSignals([Signals.of(one) for one in teachers], weights or [1 / len(teachers)] * len(teachers))


def kl_of(teacher, student=STUDENT, temperature=4.0):
    return logits.kl(np.float64(teacher), np.float64(student), temperature)


def sums_by_kept(values, drop):
    """The sums that may come out, by the teachers that were kept for them."""
    count = len(values)
    return {kept: sum(values[i] for i in kept) for kept in itertools.combinations(range(count), count - drop)}


def kept_in(value, sums):
    """The one sum that it is, all of it."""
    (fitting,) = (kept for kept, expected in sums.items() if np.allclose(value, expected, rtol=1e-4, atol=1e-5))
    return fitting


def values_of(objective, teacher, student=STUDENT, **context):
    context = {"temperature": 4.0, "labels": {"output_0": LABELS}, **context}
    return objective.values(teacher, Signals.of(student), **context)["output_0"]


def test_a_batch_by_hand():
    # KL between (3/4, 1/4) or (1/4, 3/4) and (1/2, 1/2) is ln 2 - H = 0.6931 - 0.5623; that of the student's own is 0.
    teachers = [np.log([[0.75, 0.25]]), np.log([[0.25, 0.75]]), np.zeros((1, 2))]
    value = values_of(DenseGuidance(drop=0), taught_by(*teachers), np.zeros((1, 2)), temperature=1.0)
    np.testing.assert_allclose(value, [2 * (np.log(2) - np.log(4) + 0.75 * np.log(3))], rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_without_dropping_the_values_of_all_teachers_add_up(training):
    value = values_of(DenseGuidance(drop=0), taught_by(*TEACHERS[:3]), temperature=2.5, training=training)
    expected = [
        sum(
            2.5**2
            * sum(p * np.log(p / q) for p, q in zip(softmax(one[i] / 2.5), softmax(STUDENT[i] / 2.5), strict=True))
            for one in np.float64(TEACHERS[:3])
        )
        for i in range(len(STUDENT))
    ]
    np.testing.assert_allclose(value, expected, rtol=5e-5)


@pytest.mark.parametrize(
    ("objective", "oracle"),
    [
        (lambda: SoftTargets(), lambda t, s: logits.kl(t, s, 3.0)),
        (lambda: SoftTargets(2.0), lambda t, s: logits.kl(t, s, 2.0)),
        (lambda: LogitsMSE(), logits.logits_mse),
        (lambda: DecoupledKD(), lambda t, s: labelled.decoupled(t, s, labels=LABELS, temperature=3.0)),
        (lambda: NormalizedKD(gamma=0.5), lambda t, s: labelled.normalized(t, s, labels=LABELS, gamma=0.5)),
        (
            lambda: FromKeras(keras.distillation.LogitsDistillation(2.0, keras.losses.MeanSquaredError())),
            lambda t, s: np.full(6, np.mean((t / 2 - s / 2) ** 2)),
        ),
    ],
    ids=["soft", "own temperature", "mse", "decoupled", "normalized", "keras"],
)
def test_any_objective_of_logits_compares(objective, oracle):
    dense, teacher, student = DenseGuidance(objective(), drop=0), taught_by(*TEACHERS[:2]), Signals.of(STUDENT)
    dense.prepare(teacher, student)
    (value,) = dense.values(teacher, student, temperature=3.0, labels={"output_0": LABELS}).values()
    expected = sum(oracle(np.float64(one), np.float64(STUDENT)) for one in TEACHERS[:2])
    np.testing.assert_allclose(value, expected, rtol=5e-5, atol=2e-5)


def test_weights_of_an_ensemble_count_beside_their_mean():
    teacher = taught_by(*TEACHERS[:3], weights=[0.5, 0.25, 0.25])
    expected = 1.5 * kl_of(FIRST) + 0.75 * kl_of(SECOND) + 0.75 * kl_of(THIRD)
    np.testing.assert_allclose(values_of(DenseGuidance(drop=0), teacher), expected, rtol=5e-5)
    weighted = [1.5 * kl_of(FIRST), 0.75 * kl_of(SECOND), 0.75 * kl_of(THIRD)]
    assert len(kept_in(values_of(DenseGuidance(), teacher, training=True), sums_by_kept(weighted, 1))) == 2


DRAWS = 1200


@pytest.mark.parametrize(("count", "drop"), [(2, 1), (3, 1), (3, 2), (4, 2)])
def test_each_choice_of_teachers_is_dropped_as_often_as_any_other(count, drop):
    dense = DenseGuidance(drop=drop, seed=11)
    drawn = tf.function(lambda: values_of(dense, taught_by(*TEACHERS[:count]), training=True))
    received = np.array([drawn() for _ in range(DRAWS)])
    each = [kl_of(one) for one in TEACHERS[:count]]
    sums = sums_by_kept(each, drop)
    # Every value of a batch fits the same sum: the batch has one draw.
    times = Counter(kept_in(value, sums) for value in received)
    share = 1 / comb(count, drop)
    assert set(times) == set(sums)
    bound = 4 * sqrt(DRAWS * share * (1 - share))
    assert max(abs(n - DRAWS * share) for n in times.values()) < bound
    spread = np.std(list(sums.values()), axis=0) / sqrt(DRAWS)
    assert (abs(received.mean(0) - (count - drop) / count * sum(each)) < 4 * spread + 1e-4).all()


def test_one_draw_is_for_all_outputs_and_places_of_a_batch():
    teachers = [Signals.of({"a": one.reshape(2, 3, 4), "b": one[:, :3]}) for one in TEACHERS[:3]]
    student = Signals.of({"a": STUDENT.reshape(2, 3, 4), "b": STUDENT[:, :3]})
    of_a = sums_by_kept([kl_of(one).reshape(2, 3) for one in TEACHERS[:3]], 1)
    of_b = sums_by_kept([kl_of(one[:, :3], STUDENT[:, :3]) for one in TEACHERS[:3]], 1)
    dense, seen = DenseGuidance(seed=1), set()
    for _ in range(12):
        values = dense.values(EnsembleSignals(teachers, [1 / 3] * 3), student, temperature=4.0, training=True)
        assert list(values) == ["a", "b"]
        assert kept_in(values["a"], of_a) == kept_in(values["b"], of_b)
        seen.add(kept_in(values["a"], of_a))
    assert len(seen) == 3


def test_outside_of_training_none_is_dropped_and_nothing_is_drawn():
    dense = DenseGuidance(seed=3)
    with_breaks, without = [], DenseGuidance(seed=3)
    for _ in range(8):
        with_breaks.append(np.asarray(values_of(dense, taught_by(*TEACHERS[:3]), training=True)))
        whole = values_of(dense, taught_by(*TEACHERS[:3]), training=False)
        np.testing.assert_allclose(whole, sum(kl_of(one) for one in TEACHERS[:3]), rtol=5e-5)
    straight = [np.asarray(values_of(without, taught_by(*TEACHERS[:3]), training=True)) for _ in range(8)]
    np.testing.assert_array_equal(with_breaks, straight)


@pytest.mark.parametrize("teacher", [Signals.of(FIRST), taught_by(FIRST)], ids=["alone", "ensemble of one"])
def test_a_single_teacher_is_never_dropped(teacher):
    dense = DenseGuidance(drop=2, seed=0)
    dense.prepare(teacher, Signals.of(STUDENT))
    for _ in range(8):
        np.testing.assert_allclose(values_of(dense, teacher, training=True), kl_of(FIRST), rtol=5e-5)


def test_the_students_mask_is_handed_on():
    student = tf.constant(STUDENT.reshape(2, 3, 4))
    student._keras_mask = tf.constant([[True, False, True], [True, True, False]])
    teacher = taught_by(*(one.reshape(2, 3, 4) for one in TEACHERS[:2]))
    values = DenseGuidance(drop=0).values(teacher, Signals.of(student), temperature=4.0)["output_0"]
    np.testing.assert_array_equal(values._keras_mask, student._keras_mask)
    np.testing.assert_allclose(values, (kl_of(FIRST) + kl_of(SECOND)).reshape(2, 3), rtol=5e-5)


def gradient_of(objective, teacher, training=False):
    student = tf.Variable(STUDENT)
    with tf.GradientTape() as tape:
        values = values_of(objective, teacher, student, training=training)
        total = tf.reduce_sum(values)
    return np.asarray(values), np.asarray(tape.gradient(total, student))


def test_the_gradient_is_the_sum_of_those_of_the_teachers_that_were_kept():
    dense, seen = DenseGuidance(seed=0), set()
    sums = sums_by_kept([kl_of(one) for one in TEACHERS[:3]], 1)
    for _ in range(12):
        values, gradient = gradient_of(dense, taught_by(*TEACHERS[:3]), training=True)
        kept = kept_in(values, sums)
        expected = sum(4 * (softmax(STUDENT / 4, -1) - softmax(TEACHERS[i] / 4, -1)) for i in kept)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
        seen.add(kept)
    assert len(seen) == 3


@pytest.mark.parametrize("weights", [None, [0.5, 0.375, 0.125]])
def test_without_dropping_the_gradient_is_n_times_that_of_the_mean(weights):
    teacher = taught_by(*TEACHERS[:3], weights=weights)
    _, dense = gradient_of(DenseGuidance(drop=0), teacher)
    _, mean = gradient_of(SoftTargets(), teacher)
    np.testing.assert_allclose(dense, 3 * mean, rtol=1e-4, atol=1e-5)


def test_no_gradient_to_the_teachers_and_none_from_those_dropped():
    teachers, student = [tf.Variable(one) for one in TEACHERS[:2]], tf.Variable(np.float32(1e4) * STUDENT)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(values_of(DenseGuidance(seed=0), taught_by(*teachers), student, training=True))
    *of_teachers, of_student = tape.gradient(total, [*teachers, student])
    assert of_teachers == [None, None]
    one_hot = np.eye(4)[STUDENT.argmax(-1)]
    expected = [4 * (one_hot - softmax(one / 4, -1)) for one in TEACHERS[:2]]
    assert any(np.allclose(of_student, one, atol=1e-4) for one in expected)


def test_the_configuration_holds_the_objective_that_compares():
    made = DenseGuidance(DecoupledKD(2.0, outputs=["digit"]), drop=2, seed=7, weight=0.5, name="dense")
    config = made.get_config()
    assert {key: config[key] for key in ("name", "weight", "drop", "seed")} == {
        "name": "dense",
        "weight": 0.5,
        "drop": 2,
        "seed": 7,
    }
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == config
    assert isinstance(again.objective, DecoupledKD)
    assert again.objective.get_config() == made.objective.get_config()


def test_it_says_of_itself_what_its_objective_says():
    assert DenseGuidance().get_config()["drop"] == 1
    told = ("needs_labels", "hears", "outputs", "paper_weight", "compares_logits", "teacher_taps", "student_taps")
    for objective in (SoftTargets(outputs="a"), DecoupledKD(), WeightedSoftLabels()):
        dense = DenseGuidance(objective)
        assert {name: getattr(dense, name) for name in told} == {name: getattr(objective, name) for name in told}
    assert not DenseGuidance().finishes_student


@pytest.mark.parametrize(
    "objective",
    [
        lambda: Hint("a", "b"),
        lambda: SimKD("a", "b"),
        lambda: DenseGuidance(),
        lambda: FromKeras(keras.distillation.FeatureDistillation("mse", "a")),
        lambda: "soft_targets",
    ],
    ids=["hint", "simkd", "dense", "keras", "name"],
)
def test_what_does_not_compare_logits_alone_is_refused(objective):
    objective = objective()
    text = (
        "`DenseGuidance`: `objective` must compare logits alone: without taps, without an end of its own for the "
        f"student, and no `DenseGuidance`. Received: objective={objective!r}. Give one such as `SoftTargets()`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        DenseGuidance(objective)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: DenseGuidance(SoftTargets(weight=0.5)),
            "`DenseGuidance`: `objective` must have weight 1. Received: objective.weight=0.5. Give the weight to "
            "`DenseGuidance(weight=...)`.",
        ),
        (lambda: DenseGuidance(drop=-1), "`DenseGuidance`: `drop` must be an integer >= 0. Received: drop=-1."),
        (lambda: DenseGuidance(drop=0.5), "`DenseGuidance`: `drop` must be an integer >= 0. Received: drop=0.5."),
        (lambda: DenseGuidance(drop=True), "`DenseGuidance`: `drop` must be an integer >= 0. Received: drop=True."),
        (lambda: DenseGuidance(seed="a"), "`DenseGuidance`: `seed` must be an integer >= 0. Received: seed='a'."),
        (lambda: DenseGuidance(weight=-1), "`DenseGuidance`: `weight` must be >= 0. Received: weight=-1."),
    ],
)
def test_arguments_out_of_range_are_refused(make, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()


def test_each_teacher_must_name_the_students_classes():
    text = (
        "`SoftTargets`: teacher and student must name the same classes. Received for the student's output 'output_0': "
        "teacher logits of shape (6, 3), student logits of shape (6, 4)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        DenseGuidance().prepare(taught_by(FIRST, SECOND[:, :3]), Signals.of(STUDENT))
