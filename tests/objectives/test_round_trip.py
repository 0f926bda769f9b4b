import json

import keras
import numpy as np
import pytest

from keras_kd import objectives
from keras_kd import objectives as o
from keras_kd.objectives import FromKeras, Hint, Objective, SoftCrossEntropy, SoftTargets
from keras_kd.signals import Signals

TEACHER, STUDENT = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
MAPS, SMALL_MAPS = (np.random.default_rng(1).normal(size=(2, n, n, c)).astype("float32") for n, c in ((4, 3), (2, 5)))
SIGNALS = (
    Signals.of(TEACHER, taps={"t": TEACHER, "u": TEACHER[:, ::-1], "m": MAPS, "n": SMALL_MAPS}),
    Signals.of(STUDENT, taps={"s": STUDENT, "m": MAPS[..., :2], "n": SMALL_MAPS[..., :4]}),
)
FEATURES, MAP, TWO_MAPS = (
    {"teacher_tap": teacher, "student_tap": student}
    for teacher, student in (("t", "s"), ("m", "n"), (["m", "n"], ["m", "n"]))
)

MADE = {
    "SoftTargets": [
        (SoftTargets, {}),
        (SoftTargets, {"temperature": 2.0, "outputs": ["output_0"], "weight": 0.5, "name": "soft"}),
    ],
    "SoftCrossEntropy": [(SoftCrossEntropy, {"temperature": 3.0, "weight": 2.0}), (SoftCrossEntropy, {})],
    "Hint": [
        (Hint, {"teacher_tap": "t", "student_tap": "s", "weight": 0.25, "name": "low"}),
        (Hint, {"teacher_tap": "t", "student_tap": "s", "projector": None}),
        (Hint, {"teacher_tap": "t", "student_tap": "s", "projector": keras.layers.Dense(3, "tanh")}),
    ],
    "ReverseKL": [(o.ReverseKL, {}), (o.ReverseKL, {"temperature": 2.0, "outputs": ["output_0"]})],
    "JensenShannon": [(o.JensenShannon, {"beta": 0.9, "temperature": None})],
    "LogitsMSE": [(o.LogitsMSE, {"weight": 0.5})],
    "HardLabels": [(o.HardLabels, {"outputs": ["output_0"]})],
    "StandardizedSoftTargets": [(o.StandardizedSoftTargets, {"temperature": 3.0})],
    "DecoupledKD": [(o.DecoupledKD, {}), (o.DecoupledKD, {"target_weight": 2.0, "non_target_weight": 3.0})],
    "NormalizedKD": [(o.NormalizedKD, {"gamma": 0.5, "temperature": 2.0})],
    "WeightedSoftLabels": [(o.WeightedSoftLabels, {"temperature": 4.0})],
    "DIST": [(o.DIST, {"inter_weight": 2.0, "intra_weight": 3.0, "temperature": 1.0})],
    "MultiLevel": [(o.MultiLevel, {"temperatures": (1.0, 2.0)})],
    "DenseGuidance": [
        (o.DenseGuidance, {}),
        (o.DenseGuidance, {"objective": o.DecoupledKD(2.0), "drop": 2, "seed": 7, "name": "dense"}),
    ],
    "CurriculumTemperature": [(o.CurriculumTemperature, {"low": 2.0, "high": 5.0, "reversal": 0.5})],
    "BatchAffinity": [
        (o.BatchAffinity, FEATURES),
        (o.BatchAffinity, {"teacher_tap": ["t", "u"], "student_tap": ["s", "s"], "teacher_temperature": 0.5}),
        (o.BatchAffinity, {**FEATURES, "student_temperature": 0.07, "weight": 0.7, "name": "matches"}),
    ],
    "AttentionTransfer": [(o.AttentionTransfer, FEATURES), (o.AttentionTransfer, {**MAP, "p": 1.0, "weight": 2.0})],
    "ChannelWise": [(o.ChannelWise, MAP), (o.ChannelWise, {**FEATURES, "temperature": 4.0, "name": "channels"})],
    "InterChannelCorrelation": [(o.InterChannelCorrelation, MAP), (o.InterChannelCorrelation, FEATURES)],
    "NeuronSelectivity": [(o.NeuronSelectivity, MAP)],
    "FlowOfSolution": [(o.FlowOfSolution, TWO_MAPS), (o.FlowOfSolution, {**TWO_MAPS, "weight": 0.1})],
    "ActivationBoundary": [(o.ActivationBoundary, {**MAP, "margin": 0.5})],
    "VariationalInformation": [
        (o.VariationalInformation, MAP),
        (o.VariationalInformation, {**FEATURES, "variance": 1.0}),
    ],
    "Overhaul": [(o.Overhaul, MAP), (o.Overhaul, {**FEATURES, "projector": None})],
    "FactorTransfer": [(o.FactorTransfer, MAP), (o.FactorTransfer, {**FEATURES, "rate": 0.75, "p": 2.0})],
    "SimilarityPreserving": [(o.SimilarityPreserving, MAP)],
    "Relational": [(o.Relational, FEATURES), (o.Relational, {**MAP, "distance_weight": 1.0, "angle_weight": 2.0})],
    "ProbabilisticTransfer": [(o.ProbabilisticTransfer, FEATURES)],
    "CorrelationCongruence": [(o.CorrelationCongruence, {**MAP, "gamma": 0.8, "order": 3})],
    "Contrastive": [
        (o.Contrastive, MAP),
        (o.Contrastive, {**FEATURES, "dim": 4, "temperature": 0.1, "bank_size": 3, "dataset_size": 50}),
    ],
    "Review": [(o.Review, TWO_MAPS), (o.Review, {**TWO_MAPS, "channels": 7})],
    "SimKD": [(o.SimKD, MAP), (o.SimKD, {**FEATURES, "reduction": 3.0})],
    "FromKeras": [
        (FromKeras, {"loss": keras.distillation.LogitsDistillation(2.0, keras.losses.KLDivergence()), "weight": 0.5}),
        (FromKeras, {"loss": keras.distillation.LogitsDistillation(3.0), "name": "theirs"}),
        (FromKeras, {"loss": keras.distillation.FeatureDistillation("mse", "t", "s")}),
        (FromKeras, {"loss": keras.distillation.FeatureDistillation(keras.losses.MeanAbsoluteError())}),
    ],
}
CASES = [pytest.param(*case, id=f"{name}-{i}") for name, cases in MADE.items() for i, case in enumerate(cases)]


def through_config(objective):
    return type(objective).from_config(objective.get_config())


def through_keras(objective):
    return keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(objective))), safe_mode=True
    )


def values(objective, signals=SIGNALS):
    objective.prepare(*signals)
    context = {"temperature": 4.0, "labels": {"output_0": np.arange(5) % 3}}
    return {name: np.asarray(value) for name, value in objective.values(*signals, **context).items()}


def test_every_objective_is_here():
    public = (getattr(objectives, name) for name in objectives.__all__)
    assert set(MADE) == {cls.__name__ for cls in public if isinstance(cls, type)} - {"Objective"}


@pytest.mark.parametrize("trip", [through_config, through_keras])
@pytest.mark.parametrize(("cls", "arguments"), CASES)
def test_config_makes_the_same_objective(cls, arguments, trip):
    made = cls(**arguments)
    again = trip(made)
    assert type(again) is cls
    assert again.get_config() == made.get_config()
    assert (again.teacher_taps, again.student_taps) == (made.teacher_taps, made.student_taps)
    assert again.compares_logits == made.compares_logits
    assert {name: getattr(made, name) for name in arguments if name in ("name", "outputs")} == {
        name: value for name, value in arguments.items() if name in ("name", "outputs")
    }


@pytest.mark.parametrize(("cls", "arguments"), CASES)
def test_an_objective_in_use_comes_back_with_its_weights(cls, arguments):
    arguments = {**arguments}
    if isinstance(arguments.get("projector"), keras.Layer):
        arguments["projector"] = keras.layers.Dense(3, "tanh")
    made = cls(**arguments)
    expected = values(made)
    again = through_keras(made)
    again.prepare(*SIGNALS)
    assert [tuple(w.shape) for w in again.weights] == [tuple(w.shape) for w in made.weights]
    again.set_weights(made.get_weights())
    for name, value in values(again).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6)


@pytest.mark.parametrize(("cls", "arguments"), CASES)
def test_the_weight_is_a_variable_that_is_saved(cls, arguments):
    objective = cls(**{**arguments, "weight": 0.75})
    variable = objective.weight
    assert float(variable) == 0.75
    objective.weight = 3.0
    assert objective.weight is variable
    assert float(variable) == objective.get_config()["weight"] == float(through_keras(objective).weight) == 3.0
    assert any(variable is weight for weight in objective.non_trainable_weights)


@pytest.mark.parametrize(("cls", "arguments"), [(Hint, FEATURES), (o.Review, TWO_MAPS), (o.Overhaul, MAP)])
def test_an_objective_that_waits_for_its_first_fit_is_built_by_what_was_saved(cls, arguments):
    made, fresh = cls(**arguments), cls(**arguments)
    made.prepare(*SIGNALS)
    saved = {}
    made.save_own_variables(saved)
    assert not fresh.built
    fresh.load_own_variables(saved)
    assert [tuple(weight.shape) for weight in fresh.weights] == [tuple(weight.shape) for weight in made.weights]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), "much", None])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(ValueError, match=r"`SoftTargets`: `weight` must be >= 0\. Received: weight="):
        SoftTargets(weight=weight)
    objective = SoftTargets(weight=2.0)
    with pytest.raises(ValueError, match=r"`SoftTargets`: `weight` must be >= 0\."):
        objective.weight = weight
    assert float(objective.weight) == 2.0


def test_default_names_are_the_metric_keys():
    names = [SoftTargets().name, SoftCrossEntropy().name, Hint("t", "s").name]
    names.append(FromKeras(keras.distillation.FeatureDistillation("mse")).name)
    assert names == ["soft_targets", "soft_cross_entropy", "hint", "feature_distillation"]


def test_the_base_leaves_the_values_to_its_subclasses():
    class Twice(Objective):
        def values(self, teacher, student, *, temperature, labels=None, training=False):
            return {None: 2.0 * student.outputs["output_0"][:, 0]}

    objective = Twice()
    assert objective.prepare(*SIGNALS) is None
    np.testing.assert_allclose(objective.values(*SIGNALS, temperature=1.0)[None], 2.0 * STUDENT[:, 0])
    with pytest.raises(NotImplementedError):
        Objective().values(*SIGNALS, temperature=1.0)


@pytest.mark.parametrize(("cls", "arguments"), [case for case in CASES if "FromKeras" not in case.id])
def test_objectives_compute_in_float32_under_a_half_precision_policy(cls, arguments):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = tuple(signals.mapped(lambda name, value: value.astype("float16")) for signals in SIGNALS)
        full = tuple(signals.mapped(lambda name, value: value.astype("float32")) for signals in half)
        if isinstance(arguments.get("projector"), keras.Layer):
            arguments = {**arguments, "projector": keras.layers.Dense(3, "tanh", dtype="float32")}
        objective = cls(**arguments)
        for (name, value), expected in zip(
            values(objective, half).items(), values(objective, full).values(), strict=True
        ):
            assert value.dtype == "float32", name
            np.testing.assert_allclose(value, expected, rtol=1e-6)
    finally:
        keras.config.set_dtype_policy(policy)
