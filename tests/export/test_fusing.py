"""Raw inputs in front of a student and probabilities behind it, inside the files: against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.export import LiteRTModel, export_student, read_metadata
from keras_kd.quantization import fake_quantize

RNG = np.random.default_rng(5)


def softmax(logits):
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def of_bytes():
    """From 8-bit images to [-1, 1]."""
    return keras.Sequential([keras.Input((4, 4, 1), dtype="uint8", name="pixels"), layers.Rescaling(1 / 127.5, -1.0)])


def flat():
    return keras.Sequential(
        [keras.Input((4, 4, 1), name="image"), layers.Flatten(), layers.Dense(3, name="logits")], name="flat"
    )


def test_bytes_in_and_probabilities_out_in_every_form(tmp_path):
    student, pixels = flat(), RNG.integers(0, 256, size=(40, 4, 4, 1)).astype("uint8")
    forms = ("float32", "float16", "dynamic", "int8")
    options = {"preprocess": of_bytes(), "softmax": True, "batch_size": 4}
    report = export_student(
        student, tmp_path, quantize=forms, representative_data=pixels, evaluation_data=pixels, **options
    )
    kernel, bias = student.get_weights()
    expected = softmax((pixels / 127.5 - 1.0).reshape(40, 16) @ kernel + bias)
    saved = tf.saved_model.load(tmp_path / "saved_model")
    np.testing.assert_allclose(saved.serve(pixels), expected, atol=1e-5)
    for file, allowed in zip(report.files[1:], (1e-5, 2e-3, 2e-3, 2e-2), strict=True):
        np.testing.assert_allclose(LiteRTModel(file.path)(pixels), expected, atol=allowed)
        told = read_metadata(file.path)
        assert told["inputs"] == [{"name": "pixels", "shape": [4, 4, 4, 1], "dtype": "uint8"}]
        assert [end["name"] for end in told["outputs"]] == ["logits"]
        assert file.examples == 40
    assert (report.student, report.parameters) == ("flat", 16 * 3 + 3)


class Towers(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, use_bias=False)

    def call(self, inputs):
        return {"kind": self.dense(inputs["a"] + inputs["b"]), "size": inputs["a"][:, :1]}


def test_a_subclassed_student_with_dictionaries_and_a_function(tmp_path):
    student, x = Towers(), {name: RNG.normal(size=(5, 2)).astype("float32") for name in ("b", "a")}
    student(x)
    export_student(
        student,
        tmp_path,
        evaluation_data=x,
        softmax=True,
        preprocess=lambda x: {"a": 2.0 * x["a"], "b": x["b"] - keras.ops.abs(x["a"])},
    )
    kind = softmax((2 * x["a"] + x["b"] - np.abs(x["a"])) @ student.get_weights()[0])
    saved = tf.saved_model.load(tmp_path / "saved_model")
    for said in (LiteRTModel(tmp_path / "student.tflite")(x), saved.serve(x)):
        np.testing.assert_allclose(said["kind"], kind, atol=1e-5)
        np.testing.assert_allclose(said["size"], 2 * x["a"][:, :1], rtol=1e-6)  # of one class: no softmax


def test_lists_keep_their_order_and_names(tmp_path):
    zebra, apple = keras.Input((2,), name="zebra"), keras.Input((2,), name="apple")
    heads = [layers.Dense(2, name="first")(zebra), layers.Dense(2, name="second")(apple)]
    student = keras.Model([zebra, apple], heads)
    x = [RNG.normal(size=(6, 2)).astype("float32") for _ in range(2)]
    report = export_student(
        student, tmp_path, formats="tflite", evaluation_data=x, preprocess=lambda x: [x[0], 3.0 * x[1]]
    )
    said = LiteRTModel(tmp_path / "student.tflite")({"zebra": x[0], "apple": x[1]})
    np.testing.assert_allclose(said["first"], x[0] @ student.get_layer("first").kernel.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(said["second"], 3 * x[1] @ student.get_layer("second").kernel.numpy(), atol=1e-5)
    assert report.files[0].examples == 6


def test_a_layer_with_weights_and_a_half_precision_student(tmp_path):
    x = RNG.normal(loc=4.0, scale=3.0, size=(50, 6)).astype("float32")
    student = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="logits", dtype="mixed_float16")])
    standard = layers.Normalization()
    standard.adapt(x)
    export_student(student, tmp_path, evaluation_data=x, softmax=True, preprocess=standard)
    expected = softmax(((x - x.mean(0)) / x.std(0)) @ student.get_weights()[0])
    np.testing.assert_allclose(LiteRTModel(tmp_path / "student.tflite")(x), expected, atol=1e-4)
    assert student.layers[-1].compute_dtype == "float16"


def test_a_student_with_ranges_of_its_own_takes_bytes_too(tmp_path):
    pixels = RNG.integers(0, 256, size=(60, 4, 4, 1)).astype("uint8")
    student, scaled = fake_quantize(flat()), (pixels / 127.5 - 1.0).astype("float32")
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    student.fit(scaled, np.arange(60) % 3, verbose=0)
    options = {"quantize": "int8", "evaluation_data": pixels, "preprocess": of_bytes(), "softmax": True}
    export_student(student, tmp_path, formats="tflite", **options)
    expected = softmax(student.predict(scaled, verbose=0))
    found = LiteRTModel(tmp_path / "student_int8.tflite")(pixels)
    np.testing.assert_allclose(found, expected, atol=3 / 256)  # the softmax of 8 bits has steps of 1 / 256


def headed(activation, units=3):
    return keras.Sequential([keras.Input((2,), name="x"), layers.Dense(units, activation=activation)], name="headed")


@pytest.mark.parametrize(
    ("student", "options", "message"),
    [
        (headed("softmax"), {"softmax": True}, r"must give logits for softmax=True. Leave .*'headed'.* is a softmax"),
        (headed("sigmoid"), {"softmax": True}, r"Received: 'headed', whose output is a sigmoid"),
        (headed(None, 1), {"softmax": True}, r"output of two or more classes for softmax=True.*'headed'.*\(None, 1\)"),
        (headed(None), {"preprocess": 3}, r"`preprocess` must be a Keras layer, a model or a function.*Received: 3"),
        (
            headed(None),
            {"preprocess": lambda x: x[:, :1]},
            r"must give what the student takes: x \(None, 2\). Received: .*\(None, 1\)",
        ),
        (
            headed(None),
            {"preprocess": lambda x: np.sqrt(x)},
            r"function of `keras.ops` of x \(None, 2\). .*which says: ",
        ),
    ],
)
def test_what_cannot_be_fused_is_refused_before_anything_is_written(student, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_student(student, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
