"""Callbacks and ways of running steps do what they do for a plain model, and give the same weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import assert_same, assert_same_history, compiled_distiller, cross_entropy, examples, mlp, twin

import keras_kd as kd

X, Y = examples(24)
MODES = {
    "steps_per_execution": {"steps_per_execution": 2},
    "jit_compile": {"jit_compile": True},
    "run_eagerly": {"run_eagerly": True},
}


def student_with_everything():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, "tanh", kernel_regularizer="l2", name="hidden"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )


def run(compile_with=None, callbacks=()):
    """History, weights and projector weights of a run over three epochs, in which alpha and temperature move."""
    keras.utils.set_random_seed(4)
    student = student_with_everything()
    objectives = [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")]
    distiller = compiled_distiller(
        student,
        mlp(7, seed=1),
        objectives,
        compile_with={
            "optimizer": keras.optimizers.Adam(0.05),
            "metrics": ["accuracy", "agreement", "teacher_kl"],
            **(compile_with or {}),
        },
    )
    schedules = [kd.schedules.Linear("alpha", 0.1, 0.9, epochs=3), kd.schedules.Linear("temperature", 8, 1, epochs=3)]
    history = distiller.fit(
        X,
        Y,
        batch_size=5,
        epochs=3,
        validation_data=(X, Y),
        callbacks=[*schedules, *callbacks],
        shuffle=False,
        verbose=0,
    ).history
    return history, [*student.get_weights(), *objectives[1].get_weights()]


@pytest.fixture(scope="module")
def csv_log(tmp_path_factory):
    return tmp_path_factory.mktemp("default") / "log.csv"


@pytest.fixture(scope="module")
def default_run(csv_log):
    return run(callbacks=[keras.callbacks.CSVLogger(csv_log)])


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_history_and_weights(mode, default_run):
    history, weights = run(MODES[mode])
    assert set(history) == set(default_run[0])
    assert_same_history(history, default_run[0], rtol=1e-4)
    assert_same(weights, default_run[1], rtol=1e-4, atol=1e-5)


def test_a_seed_repeats_a_run_to_the_bit(default_run):
    history, weights = run()
    assert history == default_run[0]
    assert_same(weights, default_run[1])


def test_early_stopping_restores_the_best_epoch():
    student = mlp()
    distiller = compiled_distiller(student, mlp(8), compile_with={"optimizer": keras.optimizers.SGD(1.0)})
    kept = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept.append(student.get_weights())

    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 if epoch < 2 else -1.0)
    history = distiller.fit(X, Y, validation_data=(X, Y), epochs=9, callbacks=[Keep(), rates, stop], verbose=0).history
    best = int(np.argmin(history["val_loss"]))
    assert (best, len(kept)) == (1, 3)
    assert_same(student.get_weights(), kept[best])
    plain = twin(student)
    plain.compile(loss=cross_entropy())
    np.testing.assert_allclose(plain.evaluate(X, Y, verbose=0), history["val_loss"][best], rtol=1e-6)


@pytest.mark.parametrize("weights_only", [True, False])
def test_model_checkpoint_keeps_the_best(tmp_path, weights_only):
    teacher, student = mlp(8), mlp()
    path = tmp_path / ("best.weights.h5" if weights_only else "best.keras")
    distiller = compiled_distiller(student, teacher, compile_with={"optimizer": keras.optimizers.SGD(0.1)})
    save = keras.callbacks.ModelCheckpoint(path, "val_loss", save_best_only=True, save_weights_only=weights_only)
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 if epoch < 2 else -1.0)
    history = distiller.fit(X, Y, validation_data=(X, Y), epochs=4, callbacks=[save, rates], verbose=0).history
    assert int(np.argmin(history["val_loss"])) == 1
    if weights_only:
        distiller.load_weights(path)
        restored = distiller
    else:
        restored = keras.models.load_model(path)
    np.testing.assert_allclose(
        restored.evaluate(X, Y, verbose=0, return_dict=True)["loss"], history["val_loss"][1], rtol=1e-6
    )


def test_a_learning_rate_schedule_is_the_plain_models():
    student, teacher = mlp(), mlp(8)
    plain = twin(student)
    plain.compile(keras.optimizers.SGD(0.5, momentum=0.9), cross_entropy())
    distiller = compiled_distiller(
        student, teacher, alpha=1.0, compile_with={"optimizer": keras.optimizers.SGD(0.5, momentum=0.9)}
    )
    histories = []
    for model in (plain, distiller):
        callbacks = [
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1)),
            keras.callbacks.ReduceLROnPlateau("loss", patience=1),
            keras.callbacks.TerminateOnNaN(),
        ]
        histories.append(model.fit(X, Y, epochs=3, shuffle=False, callbacks=callbacks, verbose=0).history)
    assert_same_history(histories[1], histories[0], rtol=1e-6)
    assert_same(student.get_weights(), plain.get_weights(), rtol=1e-6, atol=1e-7)


def test_a_csv_log_holds_what_history_holds(default_run, csv_log):
    history, _ = default_run
    header, *rows = csv_log.read_text().splitlines()
    columns = dict(zip(header.split(","), zip(*(map(float, row.split(",")) for row in rows), strict=True), strict=True))
    assert set(columns) == {"epoch", *history}
    for key, values in history.items():
        np.testing.assert_allclose(columns[key], values, rtol=1e-6)


class NotForXla(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("whose", ["nobody's", "teacher's", "student's"])
def test_where_keras_would_choose_xla_the_teachers_layers_have_a_say(whose, monkeypatch):
    models = {"teacher's": mlp(8), "student's": mlp()}
    if whose in models:
        models[whose].add(NotForXla())

    class Gpu:
        device_type = "GPU"

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [Gpu])
    distiller = compiled_distiller(models["student's"], models["teacher's"])
    assert distiller.jit_compile is (whose == "nobody's")
