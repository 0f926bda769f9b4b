"""`keras-kd distill`: what it writes, and that it can be interrupted."""

import json

import keras
import numpy as np
import pytest

from keras_kd import data
from keras_kd.cli import main
from keras_kd.export import LiteRTModel
from keras_kd.plots import read_history
from tests.cli.test_bad_input import words


def weights(folder):
    return keras.saving.load_model(folder / "student.keras").get_weights()


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    assert main(["distill", *words(files, out, epochs=3)]) == 0
    return out


def test_tflite_file_says_what_the_keras_file_says(run):
    (_, _), (x_test, y_test) = data.digits()
    logits = keras.saving.load_model(run / "student.keras").predict(x_test, verbose=0)
    np.testing.assert_allclose(LiteRTModel(run / "student.tflite")(x_test), logits, atol=1e-4)
    report = json.loads((run / "report.json").read_text())
    tflite = next(file for file in report["files"] if file["file"] == "student.tflite")
    assert tflite["agreement"] == 1.0
    assert tflite["accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == y_test))


def test_history_holds_every_epoch_and_agreement_with_the_teacher(run):
    history = read_history(run / "history.csv")
    assert len(history["loss"]) == 3
    assert history["val_agreement"][-1] > history["val_agreement"][0]
    np.testing.assert_allclose(
        history["loss"], 0.3 * np.array(history["student_loss"]) + 0.7 * np.array(history["soft_targets"]), rtol=1e-5
    )


def test_settings_and_teacher_are_on_record(run, files):
    record = json.loads((run / "run.json").read_text())
    _, (x_test, y_test) = data.digits()
    teacher = keras.saving.load_model(files / "teacher.keras")
    assert (record["alpha"], record["temperature"], record["epochs"], record["seed"]) == (0.3, 4.0, 3, 0)
    assert record["teacher_accuracy"] == pytest.approx(np.mean(teacher.predict(x_test, verbose=0).argmax(-1) == y_test))


def test_same_seed_same_student(run, files, tmp_path):
    assert main(["distill", *words(files, tmp_path / "again", epochs=3)]) == 0
    for first, second in zip(weights(run), weights(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(first, second)


def test_interrupted_run_leaves_a_student_and_resumes_to_the_same_weights(run, files, tmp_path, interrupted):
    out = tmp_path / "out"
    code, error = interrupted("distill", *words(files, out, epochs=3), at=b"Epoch 2/3")
    assert code == 130
    assert "--resume goes on after the last whole epoch" in error
    _, (x_test, _) = data.digits()
    assert keras.saving.load_model(out / "student.keras").predict(x_test, verbose=0).shape == (500, 10)

    assert main(["distill", *words(files, out, epochs=3), "--resume"]) == 0
    for unbroken, resumed in zip(weights(run), weights(out), strict=True):
        np.testing.assert_array_equal(unbroken, resumed)


def test_resuming_with_other_settings_is_refused(run, files, capsys):
    assert main(["distill", *words(files, run, epochs=3, alpha=0.9), "--resume"]) == 2
    assert "was begun with alpha=0.3" in capsys.readouterr().err


def test_softmax_teacher_of_another_image_size_is_declared_and_fitted(files, tmp_path):
    out = tmp_path / "out"
    assert main(["distill", *words(files, out, teacher=files / "large_softmax.keras", epochs=1)]) == 0
    record = json.loads((out / "run.json").read_text())
    assert record["teacher_parameters"] == 12 * 12 * 3 * 10 + 10


def test_folder_of_images_whose_teacher_was_trained_on_raw_pixels(raw_pixels, capsys):
    out = raw_pixels / "out"
    assert main(["distill", *words(raw_pixels, out, dataset=raw_pixels / "images", epochs=1)]) == 0
    assert "100.0% as stored: stored values it is" in capsys.readouterr().out
    assert json.loads((out / "run.json").read_text())["teacher_accuracy"] == 1.0
