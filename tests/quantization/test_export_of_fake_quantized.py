"""The int8 file of a student that has learnt its ranges: integers throughout, and the numbers of Keras."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_kd as kd
from keras_kd.export import LiteRTModel
from keras_kd.quantization import FakeQuantize, fake_quantize
from tests.quantization.students import attentive, cnn, depthwise, images, residual


def learnt(student):
    """After three steps of distillation, so that weights, shifts and ranges have moved."""
    keras.utils.set_random_seed(6)
    quantized, x = fake_quantize(student), images(96)
    teacher = keras.Sequential([keras.Input((8, 8, 2)), layers.Flatten(), layers.Dense(10)])
    outputs = "probabilities" if student.name == "depthwise" else "logits"
    learner = quantized
    if outputs == "logits":
        learner = kd.Distiller(quantized, teacher, alpha=0)
        learner.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
        learner.fit(x, batch_size=32, verbose=0)
    else:
        learner.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", run_eagerly=True)
        learner.fit(x, np.arange(96) % 10, batch_size=32, verbose=0)
    return quantized


@pytest.fixture(scope="module", params=[cnn, depthwise, attentive, residual], ids=lambda build: build.__name__)
def exported(request, tmp_path_factory):
    quantized = learnt(request.param())
    folder = tmp_path_factory.mktemp("exported")
    report = kd.export_student(quantized, folder, formats="tflite", quantize="int8", evaluation_data=images(1000))
    return quantized, folder / "student_int8.tflite", report


def test_the_file_gives_the_numbers_of_keras(exported):
    quantized, path, report = exported
    x = images(1000)
    found, expected = LiteRTModel(path)(x), np.asarray(quantized(x))
    step = float(quantized.layers[-1].scale)
    assert np.abs(found - expected).max() < 2.01 * step
    # One value in a thousand that is rounded to the other side spreads over a row of attention; without the second
    # rounding of its products it is one in twenty.
    assert np.mean(np.abs(found - expected) < step / 4) > (0.975 if quantized.name == "attentive" else 0.99)
    assert report.files[0].agreement > 0.99
    assert report.files[0].max_abs_difference == pytest.approx(np.abs(found - expected).max(), abs=1e-6)


def test_all_between_its_float_ends_is_integer(exported):
    _, path, _ = exported
    interpreter = Interpreter(model_path=str(path))
    types = {tensor["name"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    ends = {end["name"] for end in interpreter.get_input_details() + interpreter.get_output_details()}
    assert {types.pop(name) for name in ends} == {np.float32}
    assert set(types.values()) <= {np.int8, np.int32}


def test_the_ranges_in_the_file_are_the_learnt_ones(exported):
    quantized, path, _ = exported
    scales = [tensor["quantization"][0] for tensor in Interpreter(model_path=str(path)).get_tensor_details()]
    entering = next(layer for layer in quantized.layers if isinstance(layer, FakeQuantize))
    for layer in (entering, quantized.layers[-1]):
        assert np.min(np.abs(np.array(scales) / float(layer.scale) - 1)) < 1e-6


def test_weights_have_a_scale_for_each_channel(exported):
    quantized, path, _ = exported
    kernel = quantized.get_layer("logits_kernel" if quantized.name != "depthwise" else "shares_kernel").layer.kernel
    expected = np.abs(np.asarray(kernel)).max(0) / 127
    parameters = [
        tensor["quantization_parameters"]["scales"] for tensor in Interpreter(model_path=str(path)).get_tensor_details()
    ]
    assert any(len(scales) == 10 and np.allclose(scales, expected, rtol=1e-5) for scales in parameters)


def test_a_saved_student_is_the_same_student(exported, tmp_path):
    quantized, _, _ = exported
    x = images(50)
    quantized.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(loaded(x), quantized(x))
    assert [layer.range for layer in loaded.layers if isinstance(layer, FakeQuantize)] == [
        layer.range for layer in quantized.layers if isinstance(layer, FakeQuantize)
    ]


def test_integer_ends(tmp_path):
    quantized = learnt(cnn())
    kd.export_student(quantized, tmp_path, formats="tflite", quantize="int8", quantized_io=True)
    details = Interpreter(model_path=str(tmp_path / "student_int8.tflite"))
    (entering,), (leaving,) = details.get_input_details(), details.get_output_details()
    assert entering["dtype"] == leaving["dtype"] == np.int8
    assert entering["quantization"][0] == pytest.approx(float(quantized.get_layer("image_quantized").scale))
    assert leaving["quantization"][0] == pytest.approx(float(quantized.get_layer("logits").scale))


def test_bytes_are_rescaled_before_the_first_range(tmp_path):
    student = keras.Sequential(
        [
            keras.Input((8, 8, 2), dtype="uint8", name="image"),
            layers.Rescaling(1 / 127.5, offset=-1.0),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )
    quantized = fake_quantize(student)
    x = np.round(255 * images(300)).astype("uint8")
    quantized(x, training=True)
    report = kd.export_student(quantized, tmp_path, formats="tflite", quantize="int8", evaluation_data=x)
    found = LiteRTModel(tmp_path / "student_int8.tflite")(x)
    np.testing.assert_allclose(found, quantized(x), atol=1.01 * float(quantized.layers[-1].scale))
    assert report.parameters == 8 * 8 * 2 * 10 + 10


class Several(layers.Layer):
    """More than one operator of TFLite."""

    def call(self, x):
        return keras.ops.exp(keras.ops.sin(x))


def test_what_cannot_be_done_in_int8_is_named(tmp_path):
    student = keras.Sequential([keras.Input((4,)), Several(name="odd"), layers.Dense(2)])
    quantized = fake_quantize(student)
    quantized(np.ones((2, 4)), training=True)
    with pytest.raises(ValueError, match=r"or export the float student with 'dynamic'.* as int8 needs SIN at '.*odd"):
        kd.export_student(quantized, tmp_path, formats="tflite", quantize="int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("trained", "quantize", "message"),
    [
        (False, "int8", "must have learnt the ranges.*Received: 'cnn', without a range in image_quantized, "),
        (True, ("int8", "float16"), "must be 'int8' for a student of `fake_quantize`.*Received: quantize='float16'"),
    ],
)
def test_refusals(trained, quantize, message, tmp_path):
    quantized = fake_quantize(cnn())
    quantized(images(2), training=trained)
    with pytest.raises(ValueError, match=f"`export_student`: .*{message}"):
        kd.export_student(quantized, tmp_path, formats="tflite", quantize=quantize)
    assert list(tmp_path.iterdir()) == []
