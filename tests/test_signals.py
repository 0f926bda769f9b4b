import re

import numpy as np
import pytest
from scipy.special import softmax

from keras_kd.signals import EnsembleSignals, Signals, pair_outputs

A, B, C = (np.random.default_rng(seed).normal(scale=3, size=(4, 3)).astype("float32") for seed in range(3))


@pytest.mark.parametrize(
    ("outputs", "names", "expected", "keyed"),
    [
        (A, None, {"output_0": A}, False),
        (A, ["head"], {"head": A}, False),
        ([A, B], ["a", "b"], {"a": A, "b": B}, False),
        ((A, B), ["only_one"], {"output_0": A, "output_1": B}, False),
        ({"b": B, "a": A}, ["x", "y"], {"b": B, "a": A}, True),
    ],
)
def test_outputs_are_named_by_key_by_name_or_by_number(outputs, names, expected, keyed):
    signals = Signals.of(outputs, names)
    assert list(signals.outputs) == list(expected)
    assert signals.keyed is keyed
    for name, value in expected.items():
        assert signals.outputs[name] is value
    assert signals.structure is outputs
    assert signals.logits(7.0) is signals.outputs


def test_mapped_reaches_outputs_and_taps():
    signals = Signals.of({"a": A}, taps={"block": B}).mapped(lambda name, value: (name, value + 1))
    assert signals.outputs["a"][0] == "a"
    assert signals.taps["block"][0] == "block"
    np.testing.assert_array_equal(signals.outputs["a"][1], A + 1)
    np.testing.assert_array_equal(signals.taps["block"][1], B + 1)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weights", [[0.25, 0.75], [1.0, 0.0]])
def test_an_ensemble_averages_probabilities_at_the_temperature(temperature, weights):
    signals = EnsembleSignals([Signals.of(A), Signals.of(B)], weights)
    said = softmax(np.float64(signals.logits(temperature)["output_0"]) / temperature, -1)
    expected = weights[0] * softmax(A / temperature, -1) + weights[1] * softmax(B / temperature, -1)
    np.testing.assert_allclose(said, expected, rtol=1e-5)


def test_outputs_of_an_ensemble_are_log_probabilities():
    signals = EnsembleSignals([Signals.of({"x": A}), Signals.of({"x": B})], [0.5, 0.5])
    assert signals.keyed
    np.testing.assert_allclose(
        signals.outputs["x"], np.log((softmax(A, -1) + softmax(B, -1)) / 2), rtol=1e-4, atol=1e-6
    )


def test_members_of_an_ensemble_are_paired_by_key():
    signals = EnsembleSignals([Signals.of({"x": A, "y": B}), Signals.of({"y": C, "x": A})], [0.5, 0.5])
    expected = np.log((softmax(B, -1) + softmax(C, -1)) / 2)
    np.testing.assert_allclose(signals.logits(1.0)["y"], expected, rtol=1e-4, atol=1e-6)


def test_mapped_reaches_every_member():
    signals = EnsembleSignals([Signals.of(A), Signals.of(B)], [0.5, 0.5]).mapped(lambda name, value: -value)
    np.testing.assert_array_equal(signals.members[0].outputs["output_0"], -A)
    np.testing.assert_array_equal(signals.members[1].outputs["output_0"], -B)


@pytest.mark.parametrize(
    ("teacher", "student", "names", "expected"),
    [
        (A, B, None, {"output_0": (A, B)}),
        ({"y": A, "x": B}, {"x": C, "y": C}, None, {"x": (B, C), "y": (A, C)}),
        ({"y": A, "x": B}, {"x": C}, None, {"x": (B, C)}),
        ({"x": B}, {"x": C, "y": A}, ["x"], {"x": (B, C)}),
        ([A, B], {"x": B, "y": C}, None, {"x": (A, B), "y": (B, C)}),
        ([A, B], [B, C], ["output_1"], {"output_1": (B, C)}),
        (A, [B, C], ["output_1"], {"output_1": (A, C)}),
    ],
)
def test_outputs_are_paired_by_key_or_by_position(teacher, student, names, expected):
    pairs = pair_outputs(Signals.of(teacher), Signals.of(student), names)
    assert list(pairs) == list(expected)
    for name, (taught, learnt) in expected.items():
        assert pairs[name][0] is taught
        assert pairs[name][1] is learnt


@pytest.mark.parametrize(
    ("teacher", "student", "names", "text"),
    [
        ([A, B], C, None, "The teacher has 2 outputs, the student 1: ['output_0']. Name as many student outputs as"),
        (A, [B, C], None, "The teacher has 1 outputs, the student 2: ['output_0', 'output_1']."),
        ({"x": A}, {"x": B, "y": C}, None, "outputs ['y'] have no teacher output of that name. The teacher has ['x']."),
        (A, B, ["z"], "`outputs` must name outputs of the student: ['output_0']. Received: ['z']."),
    ],
)
def test_outputs_that_cannot_be_paired_are_refused(teacher, student, names, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        pair_outputs(Signals.of(teacher), Signals.of(student), names)


def test_an_ensemble_is_paired_at_the_temperature():
    teacher = EnsembleSignals([Signals.of(A), Signals.of(B)], [0.5, 0.5])
    taught, learnt = pair_outputs(teacher, Signals.of(C), temperature=3.0)["output_0"]
    assert learnt is C
    expected = (softmax(A / 3, -1) + softmax(B / 3, -1)) / 2
    np.testing.assert_allclose(softmax(np.float64(taught) / 3, -1), expected, rtol=1e-5)
