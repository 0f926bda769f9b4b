"""Model files: `.keras`, `.tflite` and SavedModels that are broken, absurd or hold code."""

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.cli.models import load_model, load_teacher
from keras_kd.foreign import as_layer
from keras_kd.litert import LiteRTFile, try_out
from tests.hostile.bounds import outcome
from tests.hostile.damage import damaged, pickled

X = np.random.default_rng(0).random((3, 4), "float32")
TFLITE = r"`Teacher`: `model` must be a TFLite file .*Received: {path}.*\."
KERAS = r"cannot read the teacher file {path}: .*|the teacher file is damaged, or no `.keras` file at all: {path}"
SAVED = r"`Teacher`: `model` '{path}' cannot be loaded: [^\n]+|`Teacher`: `model`: the directory '{path}' holds no .*"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the same model in three forms, and what it answers."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(3)], name="small")
    model.save(folder / "model.keras")
    kd.export_student(model, folder / "out")
    os.replace(folder / "out" / "student.tflite", folder / "model.tflite")
    os.replace(folder / "out" / "saved_model", folder / "saved")
    np.save(folder / "answers.npy", model(X).numpy())
    return folder


def refuse_or_answer(read, models, path, told, what):
    """What is not refused must answer as before."""
    layer = outcome(read, path, told=told.format(path=re.escape(str(path))), what=what)
    if layer is not None:
        np.testing.assert_allclose(layer(X), np.load(models / "answers.npy"), rtol=1e-5, atol=1e-6, err_msg=what)
    return layer is not None


@pytest.mark.parametrize("read", [lambda path: load_model(path, "teacher"), load_teacher], ids=["model", "teacher"])
def test_a_keras_file_answers_as_before_or_is_refused(read, models, tmp_path):
    path, mark = tmp_path / "model.keras", tmp_path / "ran"
    for what, content in damaged((models / "model.keras").read_bytes(), mark).items():
        path.write_bytes(content)
        refuse_or_answer(read, models, path, KERAS, what)
    assert not mark.exists()


def test_a_keras_teacher_in_python_answers_as_before_or_is_refused(models, tmp_path):
    path, mark = tmp_path / "model.keras", tmp_path / "ran"
    told = r"`Teacher`: `model` '{path}' cannot be loaded: [^\n]+"
    for what, content in damaged((models / "model.keras").read_bytes(), mark).items():
        path.write_bytes(content)
        refuse_or_answer(as_layer, models, path, told, what)
    assert not mark.exists()


def rewritten(source: Path, target: Path, **contents):
    """The same archive with other entries, checksums and all."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w") as written:
        for name in read.namelist():
            written.writestr(name, contents.get(name.partition(".")[0], read.read(name)))
    return target


CONFIGS = {
    "deep": "[" * 200_000,
    "null": "null",
    "no class": "{}",
    "a function": '{"module": "os", "class_name": "mkdir", "config": {"path": "MARK"}, "registered_name": null}',
    "a function of Keras": json.dumps(
        {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "file:///etc/passwd"}}
    ),
    "a lie about a class": '{"module": "keras.src.models.sequential", "class_name": "Sequential", "config": [1]}',
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sound_archive_of_an_odd_configuration_is_refused(name, models, tmp_path):
    mark = tmp_path / "ran"
    config = CONFIGS[name].replace("MARK", str(mark))
    path = rewritten(models / "model.keras", tmp_path / "odd.keras", config=config)
    assert not refuse_or_answer(load_teacher, models, path, KERAS, name)
    assert not mark.exists()


@pytest.mark.parametrize("weights", [b"", b"\x80\x04N.", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_a_sound_archive_of_other_weights_is_refused(weights, models, tmp_path):
    path = rewritten(models / "model.keras", tmp_path / "odd.keras", model=weights)
    assert not refuse_or_answer(load_teacher, models, path, KERAS, repr(weights[:8]))


def code_that_leaves(mark):
    """A layer whose code, run, leaves a folder behind."""
    return layers.Lambda(eval(f"lambda x: (__import__('os').makedirs({os.fspath(mark)!r}, exist_ok=True), x)[1]"))


LAMBDA = r"it holds Python code \(a Lambda layer\), which is not run from a file\. Replace it by a Keras layer\."


def test_the_code_of_a_lambda_is_not_run(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "lambda.keras"
    keras.Sequential([keras.Input((4,)), code_that_leaves(mark), layers.Dense(3)]).save(path)
    assert mark.exists()  # it ran here, to build the model
    mark.rmdir()
    for read, told in (
        (lambda: load_model(path, "student"), rf"cannot read the student file {path}: {LAMBDA}"),
        (lambda: load_teacher(path), rf"cannot read the teacher file {path}: {LAMBDA}"),
        (lambda: kd.Teacher(path), rf"`Teacher`: `model` '{path}' cannot be loaded: {LAMBDA}"),
    ):
        assert outcome(read, told=told) is None
        assert not mark.exists()


def test_the_code_of_a_lambda_within_a_distiller_is_not_run(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "distiller.keras"

    def linear(*more):
        return keras.Sequential([keras.Input((4,)), *more, layers.Dense(3)])

    judge = keras.Sequential([keras.Input((3,)), code_that_leaves(mark), layers.Dense(4)])
    distiller = kd.AdversarialDistiller(linear(), linear(), judge)
    distiller.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(X, np.zeros(3), verbose=0)
    distiller.save(path)
    mark.rmdir()
    assert outcome(load_model, path, "student", told=rf"cannot read the student file {path}: {LAMBDA}") is None
    assert not mark.exists()


def test_a_tflite_file_answers_as_before_or_is_refused(models, tmp_path):
    path, sound = tmp_path / "model.tflite", (models / "model.tflite").read_bytes()
    told = TFLITE.format(path=re.escape(str(path)))
    cases = damaged(sound, tmp_path / "ran")
    # Each costs a process, and half of the bytes are what the file says of itself.
    for what in ("empty", "cut at 50", "flip 1", "pickle"):
        path.write_bytes(cases[what])
        layer = outcome(as_layer, path, told=told, what=what)
        assert layer is None or layer(X).shape == (3, 3), what
    assert not (tmp_path / "ran").exists()


def rebuilt(path, target, change):
    """A sound FlatBuffer of a model that was changed."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model, builder = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0), Builder(0)
    change(model)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def beyond_all_tensors(model):
    for operator in model.subgraphs[0].operators:
        operator.inputs = [index + 1000 for index in operator.inputs]


def without_weights(model):
    """LiteRT 2.3 ends with signal 11 of this: its delegate takes no operand for one that may be missing."""
    for operator in model.subgraphs[0].operators:
        operator.inputs = [operator.inputs[0], *[-1] * (len(operator.inputs) - 1)]


def of_huge_inputs(model):
    """Of 2³⁰ numbers each."""
    for index in model.subgraphs[0].inputs:
        tensor = model.subgraphs[0].tensors[index]
        tensor.shape, tensor.shapeSignature = [1, 2**30], [-1, 2**30]


@pytest.mark.parametrize("change", [beyond_all_tensors, without_weights, of_huge_inputs])
def test_a_sound_flatbuffer_of_an_absurd_model_is_refused(change, models, tmp_path):
    path = rebuilt(models / "model.tflite", tmp_path / "absurd.tflite", change)
    assert outcome(as_layer, path, told=TFLITE.format(path=re.escape(str(path)))) is None


def test_what_is_tried_out_may_end_the_process_that_tries_it(models, tmp_path):
    path = rebuilt(models / "model.tflite", tmp_path / "absurd.tflite", without_weights)
    told = rf"it must be a TFLite file that LiteRT can run\. Received: {path}, on which LiteRT .*\. Export it anew\."
    assert outcome(try_out, path, "it", told=told) is None
    assert try_out(models / "model.tflite", "it") is None


def deaf(model):
    model.signatureDefs[0].inputs = []


def test_a_file_without_inputs_is_refused(models, tmp_path):
    path = rebuilt(models / "model.tflite", tmp_path / "deaf.tflite", deaf)
    assert outcome(LiteRTFile, path, "it", told=rf"it must be a TFLite file .*Received: {path}.*\.") is None


SAVED_FILES = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]


@pytest.mark.parametrize("name", SAVED_FILES)
def test_a_saved_model_answers_or_is_refused(name, models, tmp_path):
    folder = shutil.copytree(models / "saved", tmp_path / "saved")
    cases = damaged((folder / name).read_bytes(), tmp_path / "ran")
    for what in ("cut at 75", "flip 0", "many flips", "pickle"):
        (folder / name).write_bytes(cases[what])
        layer = outcome(as_layer, folder, told=SAVED.format(path=re.escape(str(folder))), what=what)
        assert layer is None or layer(X).shape == (3, 3), what
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.keras", "model.tflite", "model.pkl", "model.h5", "model.pt"])
def test_a_pickle_is_not_read_whatever_it_is_called(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(pickled(tmp_path / "ran"))
    for read in (as_layer, load_teacher, lambda path: load_model(path, "student")):
        assert outcome(read, path, told=rf".*{re.escape(str(path))}.*") is None
    assert not (tmp_path / "ran").exists()
