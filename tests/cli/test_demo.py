"""`keras-kd demo`: the README's first command, with one seed."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd import data
from keras_kd.cli import demo, main
from keras_kd.export import LiteRTModel


@pytest.fixture(scope="module")
def done(keras_kd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    done = keras_kd("demo", "--seeds", "1", cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "saved_models" / "digits", done.stdout


def test_keras_saved_model_and_tflite_are_one_student(done):
    out, _ = done
    _, (x_test, y_test) = data.digits()
    student = keras.saving.load_model(out / "student.keras")
    logits = student.predict(x_test, verbose=0)
    saved = tf.saved_model.load(out / "saved_model")
    np.testing.assert_allclose(saved.serve(x_test), logits, atol=1e-4)
    np.testing.assert_allclose(LiteRTModel(out / "student.tflite")(x_test), logits, atol=1e-4)
    result = json.loads((out / "demo.json").read_text())
    assert result["runs"]["distilled"][0]["accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == y_test))
    assert result["student"]["parameters"] == student.count_params() == 3818
    assert result["student"]["bytes"] == (out / "student.tflite").stat().st_size


def test_distillation_has_real_work_to_do(done):
    result = json.loads((done[0] / "demo.json").read_text())
    assert result["teacher"]["accuracy"] > 0.97
    assert result["runs"]["distilled"][0]["accuracy"] > result["runs"]["alone"][0]["accuracy"] + 0.03


def test_table_and_picture(done):
    out, printed = done
    assert "student distilled" in printed
    assert "Distillation gained" in printed
    assert (out / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_spread_is_the_sample_standard_deviation():
    size = {"parameters": 10, "bytes": 100}
    runs = [{"accuracy": accuracy, "agreement": 0.5} for accuracy in (0.8, 0.9)]
    result = {
        "teacher": {**size, "accuracy": 1.0, "agreement": 1.0},
        "student": {**size},
        "runs": {"alone": runs, "distilled": runs},
    }
    spread = 100 * np.std([0.8, 0.9], ddof=1)
    assert f"85.0 % ± {spread:.1f}" in demo.table(result)
    assert demo.verdict(result) == (
        "Distillation did not help here: +0.0 points of test accuracy, better on 0 of 2 seeds."
    )


def test_no_seeds_is_refused(capsys):
    assert main(["demo", "--seeds", "0"]) == 2
    assert capsys.readouterr().err == "keras-kd demo: --seeds must be at least 1. Received: 0\n"
