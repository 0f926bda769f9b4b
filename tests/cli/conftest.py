"""Model files on disk, and `keras-kd` as a user starts it: a process of its own."""

import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_kd.cli.demo import build_student

layers = keras.layers


@pytest.fixture(scope="session")
def keras_kd():
    def run(*words, **options):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-u", "-m", "keras_kd.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, **options)

    return run


@pytest.fixture(scope="session")
def interrupted():
    """Runs `keras-kd` up to a word that it prints, and presses Ctrl-C; exit code and stderr."""

    def run(*words, at):
        # Behind everything else, so that the signal comes before its work is over, however busy the machine is.
        command = ["nice", "-n", "19", sys.executable, "-u", "-m", "keras_kd.cli", *map(str, words)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as process:
            printed = b""
            while at not in printed and (chunk := process.stdout.read1()):
                printed += chunk
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=120)[1]
        return process.returncode, error.decode()

    return run


@pytest.fixture
def raw_pixels(tmp_path):
    """A folder with `images` of two classes, a `teacher.keras` that was trained on their bytes, and a student."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(40):
            pixels = rng.integers(0, 100, (6, 6), "uint8") + np.uint8(120 * label)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    teacher = keras.Sequential([keras.Input((6, 6, 1)), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    teacher.set_weights([np.array([[-1.0, 1.0]]), np.array([110.0, -110.0])])  # splits the two at a mean of 110
    teacher.save(tmp_path / "teacher.keras")
    _flat((6, 6, 1), 2).save(tmp_path / "student.keras")
    return tmp_path


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
