"""Every argument survives the way from object to config and back."""

import keras
import pytest
from keras import layers
from small_models import compiled_distiller, cross_entropy, examples, mlp

import keras_kd as kd

X, Y = examples(24)


def test_config_round_trip_keeps_every_argument():
    objectives = [
        kd.objectives.SoftTargets(2.0, outputs=["output_0"], weight=0.5, name="cold"),
        kd.objectives.SoftCrossEntropy(),
        kd.objectives.Hint("squeezed", "hidden", weight=3.0),
        kd.objectives.Hint("squeezed", "hidden", projector=layers.Dense(16, "tanh"), name="own"),
        keras.distillation.FeatureDistillation("mse", "squeezed", "hidden"),
    ]
    distiller = kd.Distiller(mlp(), None, objectives, alpha=0.7, temperature=2.5, student_inputs=["image"], name="mine")
    config = distiller.get_config()
    again = kd.Distiller.from_config(config)
    assert again.get_config() == config
    assert (float(again.alpha), float(again.temperature), again.name) == (pytest.approx(0.7), 2.5, "mine")
    assert [type(one) for one in again.objectives] == [type(one) for one in distiller.objectives]
    assert again.objective_names == ["cold", "soft_cross_entropy", "hint", "own", "feature_distillation"]
    assert [float(one.weight) for one in again.objectives] == [0.5, 1.0, 3.0, 1.0, 1.0]
    assert float(again.objectives[0].temperature) == 2.0
    assert again.objectives[3].projector.activation is keras.activations.tanh


def test_moved_numbers_are_what_the_config_holds():
    distiller = kd.Distiller(mlp(), None)
    distiller.alpha, distiller.temperature, distiller.objectives[0].weight = 0.125, 7.0, 2.0
    again = kd.Distiller.from_config(distiller.get_config())
    assert (float(again.alpha), float(again.temperature), float(again.objectives[0].weight)) == (0.125, 7.0, 2.0)


def test_the_compile_config_is_kept_with_the_teachers_metrics(tmp_path):
    teacher, top = mlp(8, seed=1), keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
    distiller = compiled_distiller(
        mlp(),
        teacher,
        compile_with={
            "optimizer": keras.optimizers.Adam(0.01, beta_1=0.5),
            "loss": cross_entropy(),
            "metrics": ["accuracy", top, "agreement", "teacher_kl"],
            "weighted_metrics": ["accuracy"],
            "steps_per_execution": 2,
        },
    )  # fmt: skip
    distiller.fit(X, Y, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.teacher = teacher
    assert (loaded.optimizer.beta_1, loaded.steps_per_execution) == (0.5, 2)
    expected = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    received = loaded.evaluate(X, Y, verbose=0, return_dict=True)
    assert {"accuracy", "top", "agreement", "teacher_kl"} < set(received)
    assert received == pytest.approx(expected, rel=1e-6)
