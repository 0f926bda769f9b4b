"""A run that was interrupted and resumed ends where the unbroken run ends."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_models import assert_same, cross_entropy, examples, mlp, values_of

import keras_kd as kd

X, Y = examples(24)
EPOCHS = 5


class Interrupt(keras.callbacks.Callback):
    """Raises at the start of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def student_of(kind):
    parts = [layers.Dense(5, "tanh", name="hidden"), layers.BatchNormalization()]
    if "dropout" in kind:
        parts.append(layers.Dropout(0.4, seed=13))
    parts.append(layers.Dense(3))
    return keras.Sequential(parts if "unbuilt" in kind else [keras.Input((4,)), *parts])


def fresh(kind):
    """All that a new process would make; the same each time."""
    teacher = mlp(8, seed=1)
    keras.utils.set_random_seed(2)
    objectives = [kd.objectives.SoftTargets()]
    if "hint" in kind:
        objectives.append(kd.objectives.Hint("hidden", "hidden"))
    distiller = kd.Distiller(student_of(kind), teacher, objectives)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.8))
    distiller.compile(optimizer, cross_entropy(), metrics=["accuracy"])
    return distiller


def data_of(kind):
    if "dataset" in kind:
        return {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)}
    if "generator" in kind:
        return {"x": ((X[i : i + 8], Y[i : i + 8]) for _ in range(EPOCHS) for i in (0, 8, 16)), "steps_per_epoch": 3}
    return {"x": X, "y": Y, "batch_size": 8, "shuffle": False}


def schedules():
    return [
        kd.schedules.Linear("alpha", 0.9, 0.1, epochs=EPOCHS),
        kd.schedules.Cosine("temperature", 8, 1, epochs=4),
    ]


def fit(distiller, kind, *callbacks):
    return distiller.fit(**data_of(kind), epochs=EPOCHS, callbacks=[*schedules(), *callbacks], verbose=0).history


def state(distiller):
    objectives = [variable for objective in distiller.objectives for variable in objective.variables]
    return values_of([*distiller.student.weights, *objectives, *distiller.optimizer.variables])


@functools.cache
def unbroken(kind):
    """What a run that nothing stops logs and leaves."""
    distiller = fresh(kind)
    return fit(distiller, kind), state(distiller)


@pytest.mark.parametrize(
    ("kind", "epoch"),
    [
        ("hint, dropout", 3),
        ("hint, dataset", 3),
        ("soft, generator", 3),
        ("hint, generator", 3),
        ("unbuilt, hint", 2),
    ],
)
def test_backup_and_restore_ends_as_the_unbroken_run(kind, epoch, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(fresh(kind), kind, keras.callbacks.BackupAndRestore(tmp_path), Interrupt(epoch))
    resumed = fresh(kind)
    rest = fit(resumed, kind, keras.callbacks.BackupAndRestore(tmp_path))

    history, weights = unbroken(kind)
    assert len(rest["loss"]) == EPOCHS - epoch
    for key, values in history.items():
        np.testing.assert_allclose(rest[key], values[epoch:], rtol=1e-5, err_msg=key)
    assert_same(state(resumed), weights, rtol=1e-5, atol=1e-6)


def test_a_saved_run_goes_on_by_initial_epoch(tmp_path):
    kind = "hint, dropout"
    first = fresh(kind)
    with pytest.raises(KeyboardInterrupt):
        fit(first, kind, Interrupt(3))
    first.save(tmp_path / "half.keras")
    resumed = keras.models.load_model(tmp_path / "half.keras")
    resumed.teacher = mlp(8, seed=1)
    resumed.fit(**data_of(kind), initial_epoch=3, epochs=EPOCHS, callbacks=schedules(), verbose=0)
    assert_same(state(resumed), unbroken(kind)[1], rtol=1e-5, atol=1e-6)
