"""What a file says of itself, read by other readers: `zipfile`, TensorFlow's interpreter, plain LiteRT."""

import gzip
import hashlib
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_kd as kd
from keras_kd.export import export_student, read_labels, read_metadata
from keras_kd.export.tflite import convert

X = np.random.default_rng(2).normal(size=(20, 4)).astype("float32")
LABELS = ["cat", "dog", "Käfer"]
GIVEN = {"licence": "CC BY 4.0", "data": {"name": "animals", "year": 2024}}


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="scores")], name="small")


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory):
    teacher = keras.Sequential([keras.Input((4,)), layers.Dense(9), layers.Dense(3)], name="large")
    distiller = kd.Distiller(student, teacher, [kd.objectives.SoftTargets(), kd.objectives.LogitsMSE(name="raw")])
    folder = tmp_path_factory.mktemp("exported")
    y = np.asarray(student(X)).argmax(1)
    y[:5] = (y[:5] + 1) % 3
    return export_student(
        distiller,
        folder,
        quantize=("float32", "int8"),
        representative_data=X,
        evaluation_data=(X, y),
        labels=LABELS,
        metadata=GIVEN,
        quantized_io=True,
    ).files[1:]


def test_any_reader_of_zip_archives_finds_the_entries_as_they_are(exported):
    for file in exported:
        with zipfile.ZipFile(file.path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["metadata.json", "labels.txt"]
            assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            assert archive.read("labels.txt").decode() == "cat\ndog\nKäfer\n"
            assert json.loads(archive.read("metadata.json")) == read_metadata(file.path)
        assert read_labels(file.path) == LABELS
    assert (exported[0].path.parent / "labels.txt").read_text(encoding="utf-8") == "cat\ndog\nKäfer\n"


def test_the_block_says_what_the_file_is(exported):
    full, integer = (read_metadata(file.path) for file in exported)
    assert {key: full[key] for key in ("student", "parameters", "teacher", "objectives", "quantize", "flex")} == {
        "student": "small",
        "parameters": 4 * 3 + 3,
        "teacher": "large",
        "objectives": ["soft_targets", "raw"],
        "quantize": "float32",
        "flex": False,
    }
    assert full["versions"] == {
        "keras_kd": kd.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
    assert (full["accuracy"], integer["accuracy"]) == (0.75, exported[1].accuracy)
    assert full["inputs"] == [{"name": "x", "shape": [None, 4], "dtype": "float32"}]
    (taken,) = integer["inputs"]
    assert (taken["name"], taken["dtype"]) == ("x", "int8")
    assert taken["scale"] == pytest.approx((max(X.max(), 0) - min(X.min(), 0)) / 255, rel=1e-5)
    assert {key: full[key] for key in GIVEN} == GIVEN


def test_interpreters_load_the_file_and_the_model_in_front_is_what_was_measured(student, exported):
    content = exported[0].path.read_bytes()
    alone = convert(student, ["float32"]).files["float32"]
    assert content[: len(alone)] == alone
    assert content[len(alone) :].startswith(b"PK")
    for interpreter in (Interpreter, tf.lite.Interpreter):
        said = interpreter(model_path=str(exported[0].path)).get_signature_runner()(x=X)["scores"]
        np.testing.assert_allclose(said, np.asarray(student(X)), atol=1e-6)


def test_sizes_and_checksums_are_those_of_the_whole_file(exported):
    for file in exported:
        content = file.path.read_bytes()
        assert file.size_bytes == len(content)
        assert file.gzip_bytes == len(gzip.compress(content, 9, mtime=0))
        assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_equal_exports_are_equal_bytes_and_a_user_has_the_last_word(student, tmp_path):
    for name in ("one", "two"):
        export_student(student, tmp_path / name, formats="tflite", metadata={"student": "Otto", "accuracy": 1})
    one, two = (tmp_path / name / "student.tflite" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    told = read_metadata(one)
    assert (told["student"], told["accuracy"], told["teacher"], told["objectives"]) == ("Otto", 1, None, [])
    with pytest.raises(ValueError, match=r"`path` must be a TFLite file .* with labels.txt inside"):
        read_labels(one)
    one.write_bytes(b"TFL3")
    with pytest.raises(ValueError, match=r"wrote with metadata.json inside. Received: .*student.tflite"):
        read_metadata(one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["cat", "dog"]}, r"`labels` must name each of the student's 3 classes. Received: 2 labels"),
        ({"labels": "cat"}, r"`labels` must be one line of text for each class. Received: labels='cat'"),
        ({"labels": ["a", "b", "c\nd"]}, r"must be one line of text for each class"),
        ({"labels": ["a", "b", 3]}, r"must be one line of text for each class"),
        ({"metadata": {"x": np.ones(2)}}, r"`metadata` must be a dictionary of what JSON can hold.*not JSON serializ"),
        ({"metadata": {"x": float("nan")}}, r"`metadata` must be a dictionary of what JSON can hold"),
        ({"metadata": ["MIT"]}, r"`metadata` must be a dictionary.*Received: \['MIT'\]"),
        ({"metadata": {1: "MIT"}}, r"no dictionary with text as keys"),
    ],
)
def test_what_no_file_can_say_is_refused_before_anything_is_written(options, message, student, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_student(student, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_labels_of_a_subclassed_student_are_counted_too(tmp_path):
    class Small(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    student = Small()
    student(X)
    with pytest.raises(ValueError, match=r"each of the student's 3 classes. Received: 1 labels"):
        export_student(student, tmp_path / "new", labels=["cat"])
