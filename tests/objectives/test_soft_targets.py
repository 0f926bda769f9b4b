import re

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from keras_kd.objectives import SoftCrossEntropy, SoftTargets
from keras_kd.signals import EnsembleSignals, Signals
from tests.losses.cases.logits import cross_entropy, kl

A, B, C, D = np.random.default_rng(0).normal(scale=2, size=(4, 5, 3)).astype("float32")

both = pytest.mark.parametrize(("objective", "oracle"), [(SoftTargets, kl), (SoftCrossEntropy, cross_entropy)])


def check(values, expected):
    assert list(values) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=2e-5, atol=1e-5)


@both
def test_values_at_the_temperature_of_the_distiller(objective, oracle):
    values = objective().values(Signals.of(A), Signals.of(B), temperature=2.5)
    check(values, {"output_0": oracle(np.float64(A), np.float64(B), 2.5)})


@both
def test_values_at_its_own_temperature(objective, oracle):
    soft = objective(3.0)
    check(soft.values(Signals.of(A), Signals.of(B), temperature=9.0), {"output_0": oracle(A, B, 3.0)})
    soft.temperature = 1.5
    check(soft.values(Signals.of(A), Signals.of(B), temperature=9.0), {"output_0": oracle(A, B, 1.5)})
    assert soft.get_config()["temperature"] == 1.5


@both
def test_a_temperature_assigned_later_is_its_own(objective, oracle):
    soft = objective()
    soft.temperature = 2.0
    assert soft.get_config()["temperature"] == 2.0
    check(soft.values(Signals.of(A), Signals.of(B), temperature=9.0), {"output_0": oracle(A, B, 2.0)})


@both
def test_its_own_temperature_moves_in_a_traced_step(objective, oracle):
    soft = objective(3.0)
    traced = tf.function(lambda a, b: soft.values(Signals.of(a), Signals.of(b), temperature=9.0))
    for temperature in (3.0, 6.0):
        soft.temperature = temperature
        check(traced(A, B), {"output_0": oracle(A, B, temperature)})


@both
def test_values_per_output_by_key(objective, oracle):
    teacher, student = Signals.of({"y": A, "x": B}), Signals.of({"x": C, "y": D})
    expected = {"x": oracle(B, C), "y": oracle(A, D)}
    check(objective().values(teacher, student, temperature=4.0), expected)
    check(objective(outputs=["y"]).values(teacher, student, temperature=4.0), {"y": expected["y"]})
    check(objective(outputs="x").values(teacher, student, temperature=4.0), {"x": expected["x"]})


@both
def test_values_per_output_by_position(objective, oracle):
    teacher, student = Signals.of([A, B]), Signals.of([C, D], ["first", "second"])
    check(objective().values(teacher, student, temperature=4.0), {"first": oracle(A, C), "second": oracle(B, D)})


@both
def test_an_ensemble_is_averaged_at_the_temperature_that_counts(objective, oracle):
    teacher = EnsembleSignals([Signals.of(A), Signals.of(B)], [0.25, 0.75])
    for own in (None, 2.0):
        temperature = own or 5.0
        mean = 0.25 * softmax(A / temperature, -1) + 0.75 * softmax(B / temperature, -1)
        expected = oracle(temperature * np.log(mean), C, temperature)
        check(objective(own).values(teacher, Signals.of(C), temperature=5.0), {"output_0": expected})


@both
def test_the_student_output_hands_its_mask_on(objective, oracle):
    student = tf.reshape(tf.constant(B[:4]), (2, 2, 3))
    student._keras_mask = tf.constant([[True, False], [True, True]])
    values = objective().values(Signals.of(A[:4].reshape(2, 2, 3)), Signals.of(student), temperature=4.0)["output_0"]
    np.testing.assert_array_equal(values._keras_mask, [[True, False], [True, True]])
    np.testing.assert_allclose(values, oracle(A[:4], B[:4]).reshape(2, 2), rtol=2e-5)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "hot"])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(ValueError, match=r"`SoftTargets`: `temperature` must be > 0\. Received: temperature="):
        SoftTargets(temperature)


@pytest.mark.parametrize(
    ("teacher", "student", "text"),
    [
        (
            A,
            B[:, :2],
            "must name the same classes. Received for the student's output 'output_0': teacher logits of shape",
        ),
        (A, B[:, :1], "teacher logits of shape (5, 3), student logits of shape (5, 1)."),
        (A[:, :1], B[:, :1], "the student's output 'output_0' has shape (5, 1); one score alone has no softmax"),
        (A[:, 0], B[:, 0], "has shape (5,); one score alone has no softmax"),
        (A[0, 0], B[0, 0], "as in `outputs=['digit']`."),
        ([A, B], C, "The teacher has 2 outputs, the student 1"),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused(teacher, student, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        SoftTargets().prepare(Signals.of(teacher), Signals.of(student))


def test_only_the_outputs_asked_for_must_fit():
    teacher, student = Signals.of({"x": A, "y": B}), Signals.of({"x": C, "y": D[:, :1]})
    SoftTargets(outputs=["x"]).prepare(teacher, student)
    with pytest.raises(ValueError, match="student's output 'y'"):
        SoftTargets().prepare(teacher, student)
