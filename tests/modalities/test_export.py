"""Models of several modalities as files: names kept, from the raw waveform to the answer in one call of LiteRT."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.export import LiteRTModel
from keras_kd.litert import LiteRTFile
from keras_kd.modalities import LogMel, fusion_model
from keras_kd.modalities.fusion import FUSIONS
from tests.modalities.three import CLASSES, THREE, batch, with_presence

FORMS = ("float32", "float16", "dynamic", "int8")
TRAIN, LABELS = batch(60)
TEST, TEST_LABELS = batch(30, seed=1)


def trained(x=TRAIN, **kwargs):
    keras.utils.set_random_seed(0)
    model = fusion_model(THREE, CLASSES, width=4, **kwargs)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # the default takes hundreds of steps
    model.compile(keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)  # or the step that builds it is traced a second time
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-2 if epoch < 12 else 1e-3)
    model.fit(x, LABELS, epochs=16, batch_size=20, callbacks=[rates], verbose=0)
    return model


@functools.cache
def trained_once(fusion):
    """Only to be read."""
    return trained(fusion=fusion)


@pytest.fixture(scope="module", params=FUSIONS)
def exported(request, tmp_path_factory):
    model = trained_once(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    report = kd.export_student(
        model,
        folder,
        quantize=FORMS,
        representative_data=TRAIN,
        evaluation_data=(TEST, TEST_LABELS),
        tolerances={"int8": 0},  # with the mel inside
    )
    return model, {file.quantize or "saved_model": file for file in report.files}


def test_names_are_kept(exported):
    _, files = exported
    signature = tf.saved_model.load(files["saved_model"].path).signatures["serving_default"]
    assert set(signature.structured_input_signature[1]) == set(THREE)
    for form in FORMS:
        file = LiteRTFile(files[form].path, "test")
        assert {name: (spec.shape[1:], spec.dtype.name) for name, spec in file.specs.items()} == {
            "image": ((8, 8, 1), "float32"),
            "audio": ((1024,), "float32"),
            "text": ((6,), "int32"),
        }
        assert file.output_names == ["logits"]
        assert file.batch_size is None


def test_from_the_waveform_to_the_answer_in_one_call(exported):
    model, files = exported
    expected = np.asarray(model(TEST))
    assert (expected.argmax(axis=1) == TEST_LABELS).all()
    span = np.ptp(expected)
    # "float16" rounds the weights of six layers in a row by up to 2^-11 each.
    for form, share in {"float32": 1e-5, "float16": 6 * 2**-11, "dynamic": 1e-5}.items():
        for count in (1, 30):
            logits = LiteRTModel(files[form].path)({name: value[:count] for name, value in TEST.items()})
            np.testing.assert_allclose(logits, expected[:count], atol=share * span)
        assert files[form].accuracy == 1.0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_presence_is_an_input_of_the_file(fusion, tmp_path):
    model = trained(with_presence(TRAIN, THREE), fusion=fusion, present=True, dropout_rates=0.3, seed=0)
    kd.export_student(
        model, tmp_path, formats="tflite", quantize=("float32", "int8"), representative_data=with_presence(TRAIN, THREE)
    )
    file, int8 = (LiteRTModel(tmp_path / name) for name in ("student.tflite", "student_int8.tflite"))
    for subset in ({"image"}, {"audio", "text"}, set(THREE)):
        x = with_presence(TEST, subset)
        expected = np.asarray(model(x))
        np.testing.assert_allclose(file(x), expected, atol=1e-4)
        # Rubbish for what is absent, through the file as through Keras.
        rubbish = {name: value if name in subset or name not in TEST else TEST[name][::-1] for name, value in x.items()}
        np.testing.assert_allclose(file(rubbish), expected, atol=1e-4)
        np.testing.assert_array_equal(int8(rubbish), int8(x))


def test_int8_keeps_the_answer_with_the_front_end_outside(tmp_path):
    """The front end in the pipeline: 8 bits are then those of the logarithm, and not of the power spectrum."""
    inside = trained_once("gated")
    model = fusion_model(THREE, CLASSES, fusion="gated", width=4, mel=False)
    model.set_weights(inside.get_weights())
    mel = inside.get_layer("audio_log_mel")
    train, test = ({**x, "audio": np.asarray(mel(x["audio"]))} for x in (TRAIN, TEST))
    kd.export_student(model, tmp_path, formats="tflite", quantize="int8", representative_data=train)
    expected = np.asarray(model(test))
    np.testing.assert_allclose(expected, inside(TEST), rtol=1e-4, atol=1e-4)
    errors = np.abs(LiteRTModel(tmp_path / "student_int8.tflite")(test) - expected)
    assert errors.max() < 0.02 * np.ptp(expected)


def test_int8_with_the_front_end_inside_is_refused(tmp_path):
    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization(momentum=0.5)  # the default takes hundreds of steps
    ear = [keras.Input((1024,), name="audio"), LogMel(), layers.GlobalAveragePooling1D(), norm, layers.Dense(CLASSES)]
    student = keras.Sequential(ear)
    student.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    student.fit(TRAIN["audio"], LABELS, epochs=20, batch_size=20, verbose=0)
    heard = {"representative_data": TRAIN["audio"], "evaluation_data": (TEST["audio"], TEST_LABELS)}
    with pytest.raises(RuntimeError, match=r"the int8 file must name the class that Keras names on at least 80\.00%"):
        kd.export_student(student, tmp_path, quantize=("float32", "dynamic", "int8"), **heard)
    assert list(tmp_path.iterdir()) == []
    report = kd.export_student(student, tmp_path, formats="tflite", quantize="int8", tolerances={"int8": 0.1}, **heard)
    assert 0.1 <= report.files[0].agreement < 0.8
