"""`keras-kd export`: files of a student, held against a data set and its teacher; bad input in one line."""

import json

import keras
import numpy as np
import pytest

from keras_kd import data
from keras_kd.cli import main
from keras_kd.export import LiteRTModel, read_labels, read_metadata
from tests.cli.test_bad_input import check_refusal, found, options


def classes_of(path):
    _, (x_test, _) = data.digits()
    return keras.saving.load_model(path).predict(x_test, verbose=0).argmax(-1)


@pytest.fixture(scope="module")
def exported(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "out"
    given = {"student": files / "student.keras", "teacher": files / "teacher.keras", "dataset": "digits", "out": out}
    words = options(**given, quantize="float32, int8", licence="MIT", batch_size=1)
    assert main(["export", *words, "--quantized-io"]) == 0
    return out


def test_files_are_measured_on_the_test_part_beside_the_teacher(exported, files):
    _, (x_test, y_test) = data.digits()
    student, teacher = classes_of(files / "student.keras"), classes_of(files / "teacher.keras")
    report = json.loads((exported / "report.json").read_text())
    assert report["keras_accuracy"] == pytest.approx(np.mean(student == y_test))
    assert report["keras_teacher_agreement"] == pytest.approx(np.mean(student == teacher))
    assert report["teacher"]["accuracy"] == pytest.approx(np.mean(teacher == y_test))
    saved, full, integer = report["files"]
    assert (saved["file"], full["file"], integer["file"]) == ("saved_model", "student.tflite", "student_int8.tflite")
    assert (full["agreement"], full["examples"], full["batch_size"], integer["batch_size"]) == (1.0, 500, 1, 1)
    said = LiteRTModel(exported / "student_int8.tflite")(x_test).argmax(-1)
    assert integer["accuracy"] == pytest.approx(np.mean(said == y_test))


def test_files_say_what_they_are(exported):
    assert (exported / "labels.txt").read_text().split() == read_labels(exported / "student.tflite")
    assert read_labels(exported / "student.tflite") == list("0123456789")
    told = read_metadata(exported / "student_int8.tflite")
    assert (told["data"], told["licence"], told["quantize"]) == ("digits", "MIT", "int8")
    assert told["teacher"] == json.loads((exported / "report.json").read_text())["teacher"]["name"]
    assert [end["dtype"] for end in told["inputs"] + told["outputs"]] == ["int8", "int8"]


def test_without_a_data_set_files_are_not_measured_and_it_says_so(files, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("".join(f"digit {digit}\n" for digit in range(10)), encoding="utf-8")
    given = options(student=files / "student.keras", out=tmp_path / "out", labels=tmp_path / "names.txt")
    assert main(["export", *given, "--softmax", "--formats", "tflite"]) == 0
    assert "Not measured: pass --dataset" in capsys.readouterr().out
    (file,) = json.loads((tmp_path / "out" / "report.json").read_text())["files"]
    assert (file["file"], file["examples"], file["accuracy"]) == ("student.tflite", None, None)
    _, (x_test, _) = data.digits()
    scores = np.exp(keras.saving.load_model(files / "student.keras").predict(x_test, verbose=0))
    probabilities = LiteRTModel(tmp_path / "out" / "student.tflite")(x_test)
    np.testing.assert_allclose(probabilities, scores / scores.sum(-1, keepdims=True), rtol=1e-3, atol=1e-6)
    assert read_labels(tmp_path / "out" / "student.tflite")[9] == "digit 9"


def test_a_student_of_raw_pixels_is_found_out_and_calibrated_with_both_classes(raw_pixels, capsys):
    out = raw_pixels / "out"
    given = options(student=raw_pixels / "teacher.keras", dataset=raw_pixels / "images", out=out, quantize="int8")
    assert main(["export", *given, "--formats", "tflite"]) == 0
    assert "The student is right on" in (said := capsys.readouterr().out)
    assert "stored values it is.\n" in said
    (file,) = json.loads((out / "report.json").read_text())["files"]
    assert file["accuracy"] == 1.0
    assert read_labels(out / "student_int8.tflite") == ["dark", "light"]


CASES = {
    "missing file": ({"student": "no.keras"}, "the student file does not exist"),
    "code in a file": ({"student": "lambda.keras"}, "Python code (a Lambda layer), which is not run from a file"),
    "another file": ({"teacher": __file__, "dataset": "digits"}, "the teacher must be a `.keras` or `.tflite` file"),
    "teacher alone": ({"teacher": "teacher.keras"}, "--teacher needs --dataset, the examples to ask it about."),
    "class counts": (
        {"student": "seven_classes.keras", "dataset": "digits"},
        "has 7 classes, but the data set digits has 10",
    ),
    "unknown data set": ({"dataset": "mnits"}, "Near matches: mnist"),
    "integers unmeasured": ({"quantize": "dynamic,int8"}, "--quantize int8 needs --dataset, whose training part"),
    "unknown form": ({"quantize": "int4"}, "`quantize` must be one or more of 'float32'"),
    "unknown format": ({"formats": "onnx"}, "`formats` must be one or more of 'saved_model', 'tflite'"),
    "batch size": ({"batch_size": 0}, "`batch_size` must be a number of examples, 1 or more"),
    "no labels": ({"labels": "no.txt"}, "No such file or directory: 'no.txt'"),
    "labels of others": ({"labels": __file__}, "`labels` must be one line of text for each class"),
}


@pytest.mark.parametrize(("changes", "text"), CASES.values(), ids=CASES)
def test_bad_input_is_told_in_one_line(files, tmp_path, capsys, changes, text):
    given = {"student": files / "student.keras", "out": tmp_path / "out", **found(files, changes)}
    check_refusal("export", options(**given), tmp_path / "out", capsys, text)


@pytest.mark.parametrize(
    ("flag", "student", "text"),
    [
        ("--softmax", "softmax.keras", "`student` must give logits for softmax=True. Leave `softmax` out."),
        ("--quantized-io", "student.keras", "`quantize` must name 'int8' or 'int16x8' for quantized_io=True"),
    ],
)
def test_a_flag_that_does_not_fit_is_told_in_one_line(files, tmp_path, capsys, flag, student, text):
    given = options(student=files / student, out=tmp_path / "out")
    check_refusal("export", [*given, flag], tmp_path / "out", capsys, text)


def test_files_of_the_same_names_are_kept_unless_told_otherwise(files, tmp_path, capsys):
    kept = tmp_path / "student.tflite"
    kept.write_text("mine")
    (tmp_path / "notes.txt").write_text("mine too")
    given = options(student=files / "student.keras", out=tmp_path, formats="tflite")
    assert main(["export", *given]) == 2
    assert "has student.tflite. Choose another folder, or pass --overwrite." in capsys.readouterr().err
    assert kept.read_text() == "mine"
    assert main(["export", *given, "--overwrite"]) == 0
    assert read_metadata(kept)["quantize"] == "float32"
    assert (tmp_path / "notes.txt").read_text() == "mine too"
