"""The page of what `export_student` really writes."""

import json

import keras
import numpy as np

from keras_kd.export import export_student
from keras_kd.page import write_report
from tests.page.folders import by_id, headline, read, rows_of


def model(name, *widths):
    layers = [keras.layers.Dense(width, activation="relu") for width in widths]
    return keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), *layers, keras.layers.Dense(3)],
        name=name,
    )


def test_every_figure_of_an_export_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.random((60, 4, 4, 1), "float32"), rng.integers(0, 3, 60)
    teacher, labels = model("master", 40), ["shirt", "coat", "<bag>"]
    export_student(model("pupil"), tmp_path, formats="tflite", evaluation_data=data, teacher=teacher, labels=labels)
    report, evaluation = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("report", "evaluation"))
    tree = read(write_report(tmp_path))
    assert headline(tree).startswith("pupil was distilled from master: 16 times fewer parameters (51 against 803), ")
    row, of_teacher = rows_of(by_id(tree, "files"), "files")
    keys = ("size_bytes", "gzip_bytes", "agreement", "teacher_agreement", "accuracy", "latency_ms_median")
    assert row[0] == "student.tflitefloat32"
    assert row[1:7] == [report["files"][0][key] for key in keys]
    assert of_teacher[1] == report["teacher"]["file"]["size_bytes"]
    keys = ("class", "examples", "student_accuracy", "teacher_accuracy", "agreement")
    assert rows_of(by_id(tree, "classes"), "classes") == [[row[key] for key in keys] for row in evaluation["per_class"]]
    images = [image.get("src") for image in by_id(tree, "differences").iter("img")]
    assert images == [each["image"] for each in evaluation["differences"]]
    assert len(images) == 24
