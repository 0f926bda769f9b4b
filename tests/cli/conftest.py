"""Model files on disk, and `keras-kd` as a user starts it: a process of its own."""

import os
import subprocess
import sys

import keras
import pytest

from keras_kd.cli.demo import build_student

layers = keras.layers


@pytest.fixture(scope="session")
def keras_kd():
    def run(*words, **options):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-u", "-m", "keras_kd.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, **options)

    return run


def _flat(shape, classes, activation=None):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(classes, activation=activation)])


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with `teacher.keras`, `student.keras` and the kinds of file that must be refused."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    _flat((8, 8, 1), 10).save(folder / "teacher.keras")
    build_student().save(folder / "student.keras")
    _flat((8, 8, 1), 10, "softmax").save(folder / "softmax.keras")
    _flat((12, 12, 3), 10, "softmax").save(folder / "large_softmax.keras")
    _flat((8, 8, 1), 7).save(folder / "seven_classes.keras")
    keras.Sequential([keras.Input((8, 8, 1)), layers.Lambda(lambda x: x), layers.Flatten(), layers.Dense(10)]).save(
        folder / "lambda.keras"
    )
    whole = (folder / "teacher.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.keras").write_bytes(whole.replace(b"CONTROL", b"").replace(b"model.weights", b"model.weighty"))
    (folder / "text.keras").write_text("no model")
    return folder
