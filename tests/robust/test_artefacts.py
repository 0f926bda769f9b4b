"""What is saved goes on as if nothing had been; what is exported is the student; and it runs however Keras runs."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.robust import RobustDistiller
from tests.robust.by_hand import cross_entropy, examples, linear, mlp

X, Y = examples(16)
SETTINGS = {
    "method": "ard",
    "epsilon": 0.2,
    "step_size": 0.07,
    "steps": 3,
    "value_range": (-0.5, 1.5),
    "adversarial_weight": 0.75,
    "alpha": 0.25,
    "temperature": 3.0,
    "seed": 11,
}


def fresh(objectives=None):
    distiller = RobustDistiller(mlp(batch_norm=True), mlp(17, seed=1), objectives, **SETTINGS)
    optimizer = keras.optimizers.Adam(0.05)
    distiller.compile(optimizer, cross_entropy(), metrics=["accuracy", "pgd_accuracy"])
    return distiller


def fit(distiller, *callbacks, epochs=3, **settings):
    return distiller.fit(
        X, Y, batch_size=8, shuffle=False, epochs=epochs, callbacks=[*callbacks], verbose=0, **settings
    ).history


def state(distiller):
    return [np.asarray(variable).copy() for variable in (*distiller.variables, *distiller.optimizer.variables)]


def assert_same(received, expected):
    assert len(received) == len(expected)
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_saved_run_goes_on_with_the_starts_it_would_have_drawn(tmp_path):
    unbroken = fresh(kd.objectives.Hint("hidden", "hidden"))
    fit(unbroken)
    half = fresh(kd.objectives.Hint("hidden", "hidden"))
    fit(half, epochs=1)
    half.save(tmp_path / "half.keras")
    resumed = keras.models.load_model(tmp_path / "half.keras")
    resumed.teacher = mlp(17, seed=1)
    fit(resumed, initial_epoch=1)
    assert_same(state(resumed), state(unbroken))
    assert {key: resumed.get_config()[key] for key in SETTINGS} == {**SETTINGS, "value_range": [-0.5, 1.5]}
    expected = unbroken.evaluate(X, Y, verbose=0, return_dict=True)
    assert sorted(expected) == ["accuracy", "loss", "pgd_accuracy", "student_loss"]
    received = resumed.evaluate(X, Y, verbose=0, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=1e-5, err_msg=name)


def test_an_interrupted_run_ends_as_the_unbroken_one(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    unbroken, resumed = fresh(), fresh()
    history = fit(unbroken)
    with pytest.raises(KeyboardInterrupt):
        fit(fresh(), keras.callbacks.BackupAndRestore(tmp_path), Interrupt())
    rest = fit(resumed, keras.callbacks.BackupAndRestore(tmp_path))
    np.testing.assert_allclose(rest["adversarial_loss"], history["adversarial_loss"][1:], rtol=1e-5)
    assert_same(state(resumed), state(unbroken))


def test_the_export_is_the_student(tmp_path):
    distiller = fresh()
    fit(distiller, epochs=1)
    distiller.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(served.serve(X), distiller.student(X), rtol=1e-5, atol=1e-6)
    distiller.student.save(tmp_path / "student.keras")
    distiller.save(tmp_path / "distiller.keras")
    for name in ("student", "distiller"):
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            assert '"units": 17' not in archive.read("config.json").decode()
    loaded = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), distiller.predict(X, verbose=0))


def test_eager_and_compiled_steps_are_the_same():
    """Of a linear student of two classes, whose worst example is the same wherever the attack starts."""
    teacher, kernel = np.random.default_rng(3).normal(size=(2, 4, 2))
    results = []
    for compiling in ({}, {"run_eagerly": True}, {"jit_compile": True}):
        student = linear(kernel)
        distiller = RobustDistiller(student, linear(teacher), method="ard", epsilon=0.2, temperature=1.0)
        distiller.compile(keras.optimizers.SGD(0.5), metrics=["pgd_accuracy"], **compiling)
        history = distiller.fit(X, Y % 2, validation_data=(X, Y % 2), shuffle=False, epochs=2, verbose=0).history
        results.append({**history, "kernel": student.get_weights()[0]})
    for result in results[1:]:
        for name, values in results[0].items():
            np.testing.assert_allclose(result[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


REPLICAS = """
import json, keras, numpy as np, tensorflow as tf
from keras_kd.robust import RobustDistiller

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
draw = np.random.default_rng(0)
x, y = draw.random((16, 5)).astype("float32"), draw.integers(0, 2, 16)
kernels = draw.normal(size=(2, 5, 2))
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        teacher, student = (keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, use_bias=False)]) for _ in "ts")
        for model, kernel in zip((teacher, student), kernels):
            model.set_weights([kernel])
        distiller = RobustDistiller(student, teacher, method="ard", epsilon=0.1, temperature=1.0)
        distiller.compile(keras.optimizers.SGD(0.5), metrics=["pgd_accuracy"])
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    logs = distiller.fit(data, validation_data=data, epochs=2, verbose=0).history
    print("RESULT" + json.dumps([logs, student.get_weights()[0].tolist()]))
"""


def test_two_replicas_learn_what_one_device_does():
    """Of a linear student of two classes, whose worst example is the same wherever the attack starts."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True, env=environment, timeout=300
    )
    results = [line.removeprefix("RESULT") for line in finished.stdout.splitlines() if line.startswith("RESULT")]
    assert len(results) == 2, finished.stderr[-3000:]
    (logs, kernel), (mirrored_logs, mirrored_kernel) = map(json.loads, results)
    for name, values in logs.items():
        np.testing.assert_allclose(mirrored_logs[name], values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(mirrored_kernel, kernel, rtol=1e-5)
