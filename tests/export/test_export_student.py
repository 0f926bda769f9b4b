"""What `export_student` writes, reports and refuses."""

import hashlib
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.export import LiteRTModel, export_student
from keras_kd.export import student as student_module

QUANTIZE = ("float32", "float16", "dynamic", "int8")


def blobs(count=150):
    """Three well separated classes in 8 dimensions."""
    rng = np.random.default_rng(1)
    y = np.arange(count) % 3
    return (rng.normal(size=(count, 8)) * 0.3 + 2 * np.eye(3, 8)[y]).astype("float32"), y


@pytest.fixture
def student():
    """An MLP that reads the class off the first three dimensions, wide enough for the converter to quantize."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((8,), name="x"), layers.Dense(200, activation="relu", name="hidden"), layers.Dense(3, name="out")]
    )
    x, y = blobs()
    kernel, bias = model.get_layer("hidden").get_weights()
    features = np.maximum(x @ kernel + bias, 0)
    model.get_layer("out").set_weights([np.linalg.lstsq(features, np.eye(3)[y], rcond=None)[0], np.zeros(3)])
    return model


def logits(student, x):
    (w1, b1), (w2, b2) = (layer.get_weights() for layer in student.layers)
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def test_report_equals_numbers_computed_by_hand(student, tmp_path):
    x, y = blobs()
    y = np.where(np.arange(len(y)) < 15, (y + 1) % 3, y)  # 10 % of the labels wrong
    report = export_student(student, tmp_path, quantize=QUANTIZE, representative_data=x, evaluation_data=(x, y))
    expected = logits(student, x)
    assert report.parameters == 8 * 200 + 200 + 200 * 3 + 3
    assert report.keras_accuracy == pytest.approx(0.9)
    names = ["saved_model", "student.tflite", "student_float16.tflite", "student_dynamic.tflite", "student_int8.tflite"]
    assert [file.path for file in report.files] == [tmp_path / name for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "evaluation.json", "report.json"])
    for file in report.files[1:]:
        found = LiteRTModel(file.path)(x)
        assert file.examples == 150
        assert file.size_bytes == file.path.stat().st_size
        assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
        assert file.agreement == np.mean(found.argmax(1) == expected.argmax(1))
        assert file.accuracy == pytest.approx(np.mean(found.argmax(1) == y))
        assert file.max_abs_difference == pytest.approx(np.abs(found - expected).max(), abs=1e-5)
        assert 0 < file.latency_ms_median <= file.latency_ms_p95
    saved = tmp_path / "saved_model"
    assert report.files[0].size_bytes == sum(path.stat().st_size for path in saved.rglob("*") if path.is_file())


def test_quantized_files_are_smaller_and_close(student, tmp_path):
    x, _ = blobs()
    report = export_student(
        student, tmp_path, formats=["tflite"], quantize=QUANTIZE, representative_data=x, evaluation_data=x
    )
    full, half, dynamic, integer = report.files
    assert full.max_abs_difference < 1e-5
    assert 1e-5 < half.max_abs_difference < 5e-3
    assert 1e-3 < dynamic.max_abs_difference < 0.1
    assert 1e-3 < integer.max_abs_difference < 0.3
    assert half.size_bytes < full.size_bytes - 2000
    assert integer.size_bytes < full.size_bytes - 2000
    assert dynamic.size_bytes < full.size_bytes - 2000
    assert [file.agreement for file in report.files] == [1.0] * 4


def test_int8_computes_in_integers_between_float_ends(student, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    x, _ = blobs()
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(16)
    export_student(student, tmp_path, formats="tflite", quantize="int8", representative_data=dataset)
    interpreter = Interpreter(model_path=str(tmp_path / "student_int8.tflite"))
    dtypes = {tensor["name"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    ends = {end["name"] for end in interpreter.get_input_details() + interpreter.get_output_details()}
    assert {dtypes[name] for name in ends} == {np.float32}
    assert {dtype for name, dtype in dtypes.items() if name not in ends} <= {np.int8, np.int32}


@pytest.mark.parametrize("labels", ["sparse", "column", "one_hot", "dataset", "weighted"])
def test_accuracy_reads_every_form_of_label(labels, student, tmp_path):
    x, y = blobs(90)
    y = np.where(np.arange(90) < 9, (y + 1) % 3, y)
    data = {
        "sparse": (x, y),
        "column": (x, y[:, None]),
        "one_hot": (x, np.eye(3)[y]),
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(40),
        "weighted": (x, y, np.zeros(90)),
    }[labels]
    report = export_student(student, tmp_path, formats="tflite", evaluation_data=data)
    assert report.keras_accuracy == pytest.approx(0.9)
    assert report.files[0].accuracy == pytest.approx(0.9)
    assert report.files[0].examples == 90


def test_unlabelled_and_regression_data_have_no_accuracy(student, tmp_path):
    x, _ = blobs(20)
    for data in (x, (x, np.random.default_rng(0).normal(size=(20, 3)))):
        report = export_student(student, tmp_path, formats="tflite", evaluation_data=data)
        assert report.keras_accuracy is None
        assert report.files[0].accuracy is None
        assert report.files[0].agreement == 1.0
    one = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
    report = export_student(one, tmp_path, formats="tflite", evaluation_data=(x, np.zeros(20)))
    assert (report.keras_accuracy, report.files[0].agreement, report.files[0].examples) == (None, None, 20)


def test_report_as_table_and_json(student, tmp_path):
    x, y = blobs(30)
    report = export_student(student, tmp_path, evaluation_data=(x, y))
    assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()
    assert str(tmp_path) not in (tmp_path / "report.json").read_text()
    title, header, saved, tflite, remark, _ = str(report).splitlines()
    assert title == "sequential: 2,403 parameters, accuracy in Keras 1.0000".replace("sequential", student.name)
    assert header.split("  ")[0] == "file"
    assert saved.split()[0] == "saved_model"
    size, packed = report.files[1].size_bytes, report.files[1].gzip_bytes
    assert tflite.split()[:6] == ["student.tflite", f"{size:,}", f"{packed:,}", "any", "30", "1.0000"]
    assert "adb push student.tflite /data/local/tmp" in remark
    column = header.index("agreement") + len("agreement")
    assert (tflite[column - 6 : column], saved[column - 2 : column]) == ("1.0000", " -")


def test_saved_model_holds_the_student_alone_and_predicts_alike(student, tmp_path):
    x, _ = blobs(10)
    distiller = SimpleNamespace(student=student, teacher=keras.Sequential([keras.Input((8,)), layers.Dense(999)]))
    export_student(distiller, tmp_path, formats=["saved_model"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "saved_model"]
    reloaded = tf.saved_model.load(tmp_path / "saved_model")
    np.testing.assert_allclose(reloaded.serve(x), logits(student, x), atol=1e-5)
    layer = keras.layers.TFSMLayer(tmp_path / "saved_model", call_endpoint="serve")
    np.testing.assert_allclose(layer(x), logits(student, x), atol=1e-5)
    stored = dict(tf.train.list_variables(str(tmp_path / "saved_model" / "variables" / "variables")))
    # Keras 3.15 lists, and stores, every variable a second time under `_all_variables`.
    shapes = sorted(shape for name, shape in stored.items() if name.startswith("variables/"))
    assert shapes == [[3], [8, 200], [200], [200, 3]]
    assert not any(999 in shape for shape in stored.values())


def test_export_replaces_an_older_export(student, tmp_path):
    x, _ = blobs(6)
    export_student(student, tmp_path)
    student.get_layer("out").set_weights([np.ones((200, 3)), np.ones(3)])
    export_student(student, tmp_path, evaluation_data=x)
    reloaded = tf.saved_model.load(tmp_path / "saved_model")
    np.testing.assert_allclose(reloaded.serve(x), logits(student, x), rtol=1e-4)
    np.testing.assert_allclose(LiteRTModel(tmp_path / "student.tflite")(x), logits(student, x), rtol=1e-4)
    names = ["evaluation.json", "report.json", "saved_model", "student.tflite"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def convert_another(perturb):
    """Stand in for the converter: convert a copy of the student whose weights went through `perturb`."""
    convert = student_module.convert

    def wrong(student, quantize, calibration, **options):
        copy = keras.models.clone_model(student)
        copy.set_weights([perturb(weight) for weight in student.get_weights()])
        return convert(copy, quantize, calibration, **options)

    return wrong


@pytest.mark.parametrize(
    "perturb",
    [lambda w: np.random.default_rng(9).normal(size=w.shape) * 0.1, lambda w: w * 1.01, lambda w: w * np.nan],
    ids=["other weights", "one percent", "nan"],
)
def test_a_wrong_conversion_is_caught_and_leaves_no_file(perturb, student, tmp_path, monkeypatch):
    monkeypatch.setattr(student_module, "convert", convert_another(perturb))
    with pytest.raises(RuntimeError, match=r"output 'out' of the float32 TFLite file must be within .* No file"):
        export_student(student, tmp_path, evaluation_data=blobs(30))
    assert list(tmp_path.iterdir()) == []


def test_a_quantized_file_with_nan_is_caught(student, tmp_path, monkeypatch):
    monkeypatch.setattr(student_module, "convert", convert_another(lambda w: w * np.nan))
    with pytest.raises(RuntimeError, match="output 'out' of the float16 TFLite file"):
        export_student(student, tmp_path, quantize="float16", evaluation_data=blobs(30))


def test_rounding_of_large_outputs_is_no_fault(student, tmp_path):
    kernel, bias = student.get_layer("out").get_weights()
    student.get_layer("out").set_weights([kernel, bias + 1e4])
    report = export_student(student, tmp_path, formats="tflite", evaluation_data=blobs(30))
    # One unit in the last place of 1e4 is 1e-3: a tolerance from the range of the outputs alone would be too strict.
    assert 1e-3 < report.files[0].max_abs_difference < 2e-2


def test_a_failure_at_the_end_keeps_the_older_export(student, tmp_path, monkeypatch):
    export_student(student, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(student_module, "convert", convert_another(lambda w: w + 1))
    with pytest.raises(RuntimeError, match="must be within"):
        export_student(student, tmp_path, evaluation_data=blobs(30))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"formats": ["onnx"]},
            r"`export_student`: `formats` must be one or more of 'saved_model', 'tflite'. Received: formats=\['onnx'\]",
        ),
        ({"formats": []}, r"`formats` must be .* Received: formats=\[\]"),
        (
            {"quantize": ["float32", "int4"]},
            r"`quantize` must be .*'int8', 'int16x8'. Received: quantize=\['float32', 'int4'\]",
        ),
        (
            {"quantize": "int8"},
            r"`representative_data` must hold finite examples .* Received: representative_data=None",
        ),
        (
            {"quantize": "int8", "representative_data": np.zeros((4, 5))[:0]},
            r"must hold finite examples .* Received: no examples",
        ),
        ({"quantize": "int8", "representative_data": np.full((2, 8), np.inf)}, "Received: NaN or infinity among"),
        ({"quantize": "int8", "representative_data": np.zeros(8)}, r"x \(None, 8\).*Received: x of shape \(8,\)"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(arguments, message, student, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_student(student, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_bad_students_are_refused_before_anything_is_written(tmp_path):
    quantized = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="head")])
    quantized.quantize("int8")
    for student, message in [
        ("student.keras", "`student` must be a built `keras.Model`.* Received: 'student.keras'"),
        (keras.Sequential([layers.Dense(3)]), "`student` must be built.*Received: 'sequential.*built=False"),
        (quantized, r"before `model.quantize\(...\)`.*Received: quantized layers .*'head'"),
    ]:
        with pytest.raises(ValueError, match=message):
            export_student(student, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_bad_evaluation_data_is_refused_and_leaves_no_file(student, tmp_path):
    x, y = blobs(8)
    for data, message in [
        (
            tf.data.Dataset.from_tensor_slices(x).batch(4).batch(2),
            r"dataset.batch\(64\)`. Received: x of shape \(2, 4, 8\)",
        ),
        (
            tf.data.Dataset.from_tensor_slices(x).repeat(),
            r"Received: an infinite data set.*`evaluation_data.take\(n\)`",
        ),
        ((x, y[:-1]), r"same number of examples.* Received: arrays of lengths \[\(7,\), \(8,\)\]"),
        ({"image": x, "text": x}, r"inputs x \(None, 8\). Received: 2 arrays under the keys \['image', 'text'\]"),
        (x[:0], "must hold at least one example"),
    ]:
        with pytest.raises(ValueError, match=message):
            export_student(student, tmp_path, evaluation_data=data)
    assert list(tmp_path.iterdir()) == []


def test_litert_model_refuses_what_it_cannot_run(student, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"`LiteRTModel`: `path` must be a TFLite file .*bad.tflite"):
        LiteRTModel(tmp_path / "bad.tflite")
    export_student(student, tmp_path, formats="tflite")
    other = keras.Sequential([keras.Input((8,), name="y"), layers.Dense(3, name="out")])
    with pytest.raises(ValueError, match=r"`student` must have the file's inputs \['x'\].*with \['y'\]"):
        LiteRTModel(tmp_path / "student.tflite", other)
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    export_student(keras.Model([a, b], layers.Add()([a, b])), tmp_path, formats="tflite")
    with pytest.raises(ValueError, match=r"`x` must be a dictionary by input name.*Received: list for \['a', 'b'\]"):
        LiteRTModel(tmp_path / "student.tflite")([np.ones((1, 2)), np.ones((1, 2))])
