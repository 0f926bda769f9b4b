"""How often each network runs, and what `evaluate` leaves alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_reference import soft_target_values
from small_models import (
    CLASSES,
    FEATURES,
    answers,
    assert_same,
    compiled_distiller,
    cross_entropy,
    examples,
    twin,
    values_of,
)

import keras_kd as kd

BATCH = 4


class Counting(keras.layers.Layer):
    """Notes each eager run on real numbers: whether it trains, and whether a tape was open."""

    def __init__(self, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.runs = []

    def call(self, inputs, training=None):
        if hasattr(inputs, "numpy"):
            self.runs.append({"training": bool(training), "taped": OpenTapes.count > 0})
        return inputs


class OpenTapes(tf.GradientTape):
    count = 0

    def __enter__(self):
        type(self).count += 1
        return super().__enter__()

    def __exit__(self, *arguments):
        type(self).count -= 1
        return super().__exit__(*arguments)


def counting_model(width, *, name=None, l2=0.0):
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            Counting("counting"),
            keras.layers.Dense(width, "relu", kernel_regularizer=keras.regularizers.L2(l2), name="hidden"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.25, seed=3),
            keras.layers.Dense(CLASSES, name="head"),
        ],
        name=name,
    )


OBJECTIVES = {
    "default": lambda: None,
    "hint": lambda: [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")],
    "two hints": lambda: [kd.objectives.Hint("hidden", "hidden"), kd.objectives.Hint("head:input", "hidden", name="b")],
    "keras": lambda: keras.distillation.FeatureDistillation("mse", "head", "head"),
}


@pytest.mark.parametrize("objectives", OBJECTIVES)
def test_one_forward_of_each_network_per_step_and_the_teacher_outside_the_tape(objectives, monkeypatch):
    monkeypatch.setattr(tf, "GradientTape", OpenTapes)
    x, y = examples(3 * BATCH)
    teacher, student = counting_model(8), counting_model(5)
    distiller = compiled_distiller(student, teacher, OBJECTIVES[objectives](), compile_with={"run_eagerly": True})
    distiller.train_on_batch(x[:BATCH], y[:BATCH])
    teacher.get_layer("counting").runs.clear()
    student.get_layer("counting").runs.clear()

    distiller.fit(x, y, batch_size=BATCH, verbose=0)

    assert student.get_layer("counting").runs == [{"training": True, "taped": True}] * 3
    assert teacher.get_layer("counting").runs == [{"training": False, "taped": False}] * 3


@pytest.mark.parametrize(
    ("metrics", "teacher_runs"),
    [(None, 0), (["accuracy"], 0), (["agreement"], 3), (["teacher_kl"], 3), (["soft_targets"], 3), (["hint"], 3),
     (["accuracy", "agreement", "teacher_kl", "soft_targets", "hint"], 3)],
)  # fmt: skip
def test_evaluate_runs_the_teacher_only_when_asked(metrics, teacher_runs):
    x, y = examples(3 * BATCH)
    teacher, student = counting_model(8), counting_model(5)
    distiller = compiled_distiller(
        student, teacher, OBJECTIVES["hint"](), compile_with={"run_eagerly": True, "metrics": metrics}
    )
    distiller.fit(x, y, batch_size=BATCH, verbose=0)
    teacher.get_layer("counting").runs.clear()
    student.get_layer("counting").runs.clear()

    logged = distiller.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)

    assert student.get_layer("counting").runs == [{"training": False, "taped": False}] * 3
    assert teacher.get_layer("counting").runs == [{"training": False, "taped": False}] * teacher_runs
    assert set(logged) == {"loss", "student_loss", *(metrics or ())}
    if "soft_targets" in logged:
        soft = soft_target_values(answers(teacher, x), answers(student, x), 4.0)
        np.testing.assert_allclose(logged["soft_targets"], soft.mean(), rtol=1e-5)


@pytest.mark.parametrize("metrics", [None, ["accuracy", "agreement", "teacher_kl", "soft_targets", "hint"]])
def test_evaluate_changes_nothing(metrics):
    x, y = examples(10)
    teacher, student = counting_model(8), counting_model(5)
    distiller = compiled_distiller(
        student, teacher, OBJECTIVES["hint"](), compile_with={"optimizer": "adam", "metrics": metrics}
    )
    distiller.fit(x, y, verbose=0)

    def state():
        objectives = [variable for objective in distiller.objectives for variable in objective.variables]
        numbers = [distiller.alpha, distiller.temperature]
        return values_of(
            [*student.variables, *teacher.variables, *distiller.optimizer.variables, *objectives, *numbers]
        )

    before = state()
    distiller.evaluate(x, y, batch_size=BATCH, verbose=0)
    distiller.test_on_batch(x, y)
    distiller.predict(x, verbose=0)
    assert_same(state(), before)


def test_evaluate_and_val_loss_equal_plain_keras_with_regularisation():
    x, y = examples(10)
    student = counting_model(5, l2=0.3)
    distiller = compiled_distiller(student, counting_model(8), compile_with={"metrics": ["accuracy"]})
    history = distiller.fit(x, y, validation_data=(x, y), batch_size=BATCH, verbose=0).history

    plain = twin(student)
    plain.compile(loss=cross_entropy(), metrics=["accuracy"])
    expected = plain.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    logged = distiller.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)

    assert logged["loss"] > logged["student_loss"] + 0.1
    for key, value in expected.items():
        np.testing.assert_allclose(logged[key], value, rtol=1e-6)
        np.testing.assert_allclose(history[f"val_{key}"], [value], rtol=1e-6)


def test_evaluate_before_fit_equals_plain_keras():
    x, y = examples(10)
    student = keras.Sequential([keras.layers.Dense(5, "relu"), keras.layers.Dense(CLASSES)])
    distiller = compiled_distiller(student, counting_model(8))
    logged = distiller.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    plain = twin(student)
    plain.compile(loss=cross_entropy())
    np.testing.assert_allclose(logged["loss"], plain.evaluate(x, y, batch_size=BATCH, verbose=0), rtol=1e-6)


def test_a_second_fit_traces_neither_network():
    x, y = examples(3 * BATCH)
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, inputs):
            traces.append(self.name)
            return inputs

    def traced(name):
        layers = [keras.Input((FEATURES,)), Traced(name=name), keras.layers.Dense(CLASSES)]
        return keras.Sequential(layers)

    distiller = compiled_distiller(traced("student"), traced("teacher"))
    distiller.fit(x, y, batch_size=BATCH, verbose=0)
    traces.clear()
    distiller.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    assert traces == []
