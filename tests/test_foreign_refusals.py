"""Files and functions that cannot teach are refused, each in one line."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.teachers import Teacher

X = np.ones((5, 4), "float32")


def check_refused(make, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()


def linear():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


def test_a_path_of_nothing(tmp_path):
    path = tmp_path / "gone.tflite"
    check_refused(lambda: Teacher(path), f"`Teacher`: `model`: there is no file or directory '{path}'.")


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    check_refused(
        lambda: Teacher(str(path)),
        "`Teacher`: `model` as a path must be that of a SavedModel directory, of a `.keras` or of a `.tflite` file. "
        f"Received: '{path}'.",
    )


def test_a_directory_that_holds_no_saved_model(tmp_path):
    check_refused(
        lambda: Teacher(tmp_path),
        f"`Teacher`: `model`: the directory '{tmp_path}' holds no SavedModel. Write one with "
        "`model.export(directory)`.",
    )


def test_a_saved_model_without_the_signatures_that_are_looked_for(tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec((None, 4))])
    tf.saved_model.save(module, str(tmp_path / "odd"), {"double": module.double})
    check_refused(
        lambda: Teacher(tmp_path / "odd"),
        f"`Teacher`: `model`: the SavedModel '{tmp_path / 'odd'}' must have the endpoint 'serve' or the signature "
        "'serving_default'. Received the signatures ['double']. Give a function of NumPy arrays that calls the one "
        "that is meant.",
    )


@pytest.mark.parametrize("name", ["saved_model.pb", "model.keras"])
def test_damaged_files(name, tmp_path):
    (tmp_path / name).write_bytes(b"damaged")
    path = tmp_path if name.endswith("pb") else tmp_path / name
    with pytest.raises(ValueError, match=rf"^`Teacher`: `model` '{re.escape(str(path))}' cannot be loaded: [^\n]+$"):
        Teacher(path)


def test_a_damaged_tflite_file(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"damaged")
    start = (
        "`Teacher`: `model` must be a TFLite file with one signature that LiteRT can load with its built-in operators. "
        f"Received: {tmp_path / 'bad.tflite'} ("
    )
    with pytest.raises(ValueError, match=f"^{re.escape(start)}"):
        Teacher(tmp_path / "bad.tflite")


def test_a_keras_file_with_code_in_it_is_not_run(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: 2 * x)])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"^`Teacher`: `model` '.*lambda.keras' cannot be loaded: .*[Ll]ambda"):
        Teacher(tmp_path / "lambda.keras")


def test_a_class_is_no_function():
    check_refused(
        lambda: Teacher(keras.Sequential),
        "`Teacher`: `model` must be a Keras model, the path of a SavedModel directory, of a `.keras` or of a `.tflite` "
        f"file, or a function of NumPy arrays. Received: {keras.Sequential!r}.",
    )


@pytest.mark.parametrize(
    ("x", "received"),
    [
        (np.ones((5, 2), "float32"), "(5, 2)"),
        ([X, X], "[(5, 4), (5, 4)]"),
        ({"a": X, "b": X}, "{'a': (5, 4), 'b': (5, 4)}"),
    ],
)
def test_inputs_that_a_file_does_not_take(x, received, tmp_path):
    linear().export(tmp_path / "linear", verbose=False)
    teacher = Teacher(tmp_path / "linear")
    check_refused(
        lambda: teacher.signals(x),
        f"`Teacher`: `linear` takes inputs of the shapes (None, 4). Received: {received}. "
        "Select them with `keras_kd.Teacher(model, inputs=[...])`, or reshape them with `preprocess`.",
    )


def test_a_list_for_inputs_that_only_have_names(tmp_path):
    module = tf.Module()
    specs = {"a": tf.TensorSpec((None, 4)), "b": tf.TensorSpec((None, 4))}
    module.add = tf.function(lambda a, b: {"sum": a + b})
    tf.saved_model.save(module, str(tmp_path / "add"), module.add.get_concrete_function(**specs))
    check_refused(
        lambda: Teacher(tmp_path / "add").signals([X, X]),
        "`Teacher`: `add` takes inputs of the shapes {'a': (None, 4), 'b': (None, 4)}. "
        "Received: [(5, 4), (5, 4)]. "
        "Select them with `keras_kd.Teacher(model, inputs=[...])`, or reshape them with `preprocess`.",
    )
