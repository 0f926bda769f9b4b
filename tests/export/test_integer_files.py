"""Files that compute in integers: their scales, their ends, and the data that they are calibrated with."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_kd as kd
from keras_kd.export import LiteRTModel, export_student
from tests.export import architectures as kinds

RNG = np.random.default_rng(4)
IMAGES = RNG.normal(size=(40, 6, 6, 2)).astype("float32")


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(2)
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(5, 3, activation="relu", name="conv")(image)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    return keras.Model(image, layers.Dense(3, name="out")(layers.Flatten()(x)))


def scales_by_shape(path):
    """Number of scales, and the axis that they are of, of every weight of 8 bits."""
    found = {}
    for tensor in Interpreter(model_path=str(path)).get_tensor_details():
        told = tensor["quantization_parameters"]
        if tensor["dtype"] is np.int8 and len(told["scales"]) and not (tensor["shape_signature"] < 0).any():
            found[tuple(tensor["shape"])] = (len(told["scales"]), int(told["quantized_dimension"]))
    return found


def test_weights_have_a_scale_for_each_channel(student, tmp_path):
    forms = ["int8", "int16x8"]
    report = export_student(student, tmp_path, formats="tflite", quantize=forms, representative_data=IMAGES)
    for file in report.files:
        scales = scales_by_shape(file.path)
        assert scales[5, 3, 3, 2] == (5, 0)  # convolution: by output channel
        assert scales[1, 3, 3, 5] == (5, 3)  # depthwise
        assert scales[3, 20] == (3, 0)  # dense: by unit
    kernel = student.get_layer("conv").get_weights()[0]
    details = Interpreter(model_path=str(report.files[0].path)).get_tensor_details()
    (told,) = [tensor for tensor in details if tuple(tensor["shape"]) == (5, 3, 3, 2)]
    steps = np.abs(kernel).max((0, 1, 2)) / 127
    np.testing.assert_allclose(told["quantization_parameters"]["scales"], steps, rtol=1e-5)


@pytest.mark.parametrize(("form", "dtype"), [("int8", np.int8), ("int16x8", np.int16)])
def test_integer_ends_keep_their_names_and_stand_for_real_numbers(form, dtype, student, tmp_path):
    given = {"quantize": form, "representative_data": IMAGES, "evaluation_data": IMAGES, "formats": "tflite"}
    (file,) = export_student(student, tmp_path, quantized_io=True, **given).files
    runner = Interpreter(model_path=str(file.path)).get_signature_runner()
    taken, said = runner.get_input_details()["image"], runner.get_output_details()["out"]
    assert (taken["dtype"], said["dtype"]) == (dtype, dtype)
    (scale, zero), limits = taken["quantization"], np.iinfo(dtype)
    levels = np.clip(np.round(IMAGES / scale) + zero, limits.min, limits.max).astype(dtype)
    scale, zero = said["quantization"]
    by_hand = scale * (runner(image=levels)["out"].astype("float64") - zero)
    found = LiteRTModel(file.path)(IMAGES)
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    expected = np.asarray(student(IMAGES))
    assert np.abs(found - expected).max() < 6 * np.ptp(expected) / 255
    assert file.max_abs_difference == pytest.approx(np.abs(found - expected).max(), rel=1e-4)
    assert (found.dtype, file.batch_size, file.examples) == (np.float32, None, 40)


def test_ids_stay_ids_beside_integer_ends(tmp_path):
    kinds.restart()
    student, x = kinds.fusion(), {"image": kinds.numbers(20, 8, 8, 2), "text": kinds.words(20, 6)}
    given = {"quantize": "int8", "representative_data": x, "evaluation_data": x, "formats": "tflite"}
    (file,) = export_student(student, tmp_path, quantized_io=True, **given).files
    runner = Interpreter(model_path=str(file.path)).get_signature_runner()
    ends = runner.get_input_details() | runner.get_output_details()
    assert {name: end["dtype"] for name, end in ends.items()} == {"image": np.int8, "text": np.int32, "kind": np.int8}
    found, expected = LiteRTModel(file.path)(x), np.asarray(student(x))
    assert np.abs(found - expected).max() < 4 * np.ptp(expected) / 255


def endless_examples():
    while True:
        yield from IMAGES


def test_the_same_examples_in_any_form_give_the_same_file(student, tmp_path):
    y = np.zeros(40)
    single = tf.data.Dataset.from_tensor_slices((IMAGES, y))
    forms = {
        "arrays": IMAGES,
        "labelled": (IMAGES, y, np.ones(40)),
        "single": single,
        "batched": single.batch(7),
        "weighted": single.map(lambda x, y: (x, y, 1.0)).batch(16),
        "dictionary": single.map(lambda x, y: {"image": x, "label": y}),
        "endless": single.repeat(),
        "generator": tf.data.Dataset.from_generator(endless_examples, output_signature=tf.TensorSpec((6, 6, 2))),
    }
    sums = {}
    for name, data in forms.items():
        (file,) = export_student(student, tmp_path, formats="tflite", quantize="int8", representative_data=data).files
        sums[name] = file.sha256
    assert set(sums.values()) == {sums["arrays"]}


def test_no_more_than_300_examples_are_read(student, tmp_path):
    read = []

    def examples():
        for index in range(10_000):
            read.append(index)
            yield IMAGES[index % 40]

    data = tf.data.Dataset.from_generator(examples, output_signature=tf.TensorSpec((6, 6, 2)))
    export_student(student, tmp_path, formats="tflite", quantize="int8", representative_data=data)
    assert 300 <= len(read) < 1000  # whole batches, and what `tf.data` reads ahead


def test_evaluation_data_may_come_one_by_one(student, tmp_path):
    y = np.asarray(student(IMAGES)).argmax(1)
    data = tf.data.Dataset.from_tensor_slices(({"image": IMAGES, "more": y}, y))
    (file,) = export_student(student, tmp_path, formats="tflite", evaluation_data=data).files
    assert (file.examples, file.accuracy) == (40, 1.0)
    teacher = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    distiller = kd.Distiller(student, kd.Teacher(teacher, inputs=["more"]), student_inputs=["picture"])
    data = tf.data.Dataset.from_tensor_slices(({"picture": IMAGES, "more": IMAGES[:, 0, 0]}, y))
    report = export_student(distiller, tmp_path, formats="tflite", evaluation_data=data)
    said = IMAGES[:, 0, 0] @ teacher.get_weights()[0]
    assert report.keras_teacher_agreement == pytest.approx(np.mean(said.argmax(1) == y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int16x8"}, r"finite examples when `quantize` names 'int16x8'.*representative_data=None"),
        (
            {"quantize": "int16x8", "representative_data": np.full((2, 6, 6, 2), np.nan)},
            r"names 'int16x8'.*NaN or infinity among",
        ),
        ({"quantized_io": True}, r"`quantize` must name 'int8' or 'int16x8' for quantized_io=True.*\['float32'\]"),
        ({"batch_size": 0}, r"`batch_size` must be a number of examples, 1 or more.*Received: batch_size=0"),
        ({"batch_size": 2.0}, r"Received: batch_size=2.0"),
        ({"batch_size": True}, r"Received: batch_size=True"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(options, message, student, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_student(student, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_weights_that_keras_has_quantized_are_refused_however_deep(mode, tmp_path):
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="deep")])
    inputs = keras.Input((4, 8))
    student = keras.Model(inputs, layers.TimeDistributed(inner)(inputs))
    inner.quantize(mode)
    with pytest.raises(ValueError, match=r"before `model.quantize\(...\)`.*quantize='int8'.*Received: .*'deep'"):
        export_student(student, tmp_path / "new")
    assert not (tmp_path / "new").exists()
