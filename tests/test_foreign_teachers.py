"""Teachers that are no Keras models: what they say of a batch, next to the Keras model that they came from."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.teachers import Teacher

X = np.random.default_rng(0).normal(size=(13, 4)).astype("float32")
SOUND = np.random.default_rng(1).normal(size=(13, 2)).astype("float32")


def mlp(batch_size=None, name=None):
    keras.utils.set_random_seed(3)
    head = layers.Dense(3, bias_initializer="random_normal")
    return keras.Sequential([keras.Input((4,), batch_size), layers.Dense(8, "tanh"), head], name=name)


def mlp_by_hand(model, x):
    """The formula, in float64."""
    first, shift, second, bias = (np.float64(weight) for weight in model.get_weights())
    return np.tanh(x @ first + shift) @ second + bias


def two_inputs(structure, outputs=None):
    """Adds a linear map of each input; with `outputs`, gives the two maps apart."""
    image, sound = keras.Input((4,), name="zebra"), keras.Input((2,), name="ant")
    maps = layers.Dense(3)(image), layers.Dense(3)(sound)
    said = layers.Add()(maps) if outputs is None else outputs(*maps)
    return keras.Model({"zebra": image, "ant": sound} if structure is dict else [image, sound], said)


def maps_by_hand(model):
    kernels = {len(weight): np.float64(weight) for weight in model.get_weights() if weight.ndim == 2}
    return [X @ kernels[4], SOUND @ kernels[2]]


def exported(model, folder):
    model.export(folder / "exported", verbose=False)
    return folder / "exported"


def saved_by_tensorflow(model, folder):
    tf.saved_model.save(model, str(folder / "saved"))
    return folder / "saved"


def saved_with_signature(function, specs, owner, folder):
    """A SavedModel of one signature and no endpoint, as TensorFlow alone writes it."""
    module = tf.Module()
    module.variables_of_function = owner.variables
    module.function = tf.function(function)
    tf.saved_model.save(module, str(folder / "signed"), module.function.get_concrete_function(**specs))
    return folder / "signed"


def signed(model, folder):
    return saved_with_signature(
        lambda picture: {"scores": model(picture)}, {"picture": tf.TensorSpec((None, 4))}, model, folder
    )


def tflite(model, folder):
    return kd.export_student(model, folder / "lite", formats="tflite").files[0].path


def keras_file(model, folder):
    model.save(folder / "model.keras")
    return folder / "model.keras"


def on_arrays(model, folder):
    del folder
    return lambda x: model.predict(x, verbose=0)


KINDS = [exported, saved_by_tensorflow, signed, tflite, keras_file, on_arrays]
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def said_by(teacher, x, traced=False):
    ask = tf.function(lambda: teacher.signals(x).outputs) if traced else lambda: teacher.signals(x).outputs
    return {name: value.numpy() for name, value in ask().items()}


def only_answer(teacher, x, traced=False):
    ((name, value),) = said_by(teacher, x, traced).items()
    assert name == "output_0"
    return value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_every_kind_says_what_the_model_says(kind, traced, as_text, tmp_path):
    model = mlp()
    source = kind(model, tmp_path)
    teacher = Teacher(str(source) if as_text and not callable(source) else source)
    for x in (X, X[:1], np.tile(X, (11, 1))):
        np.testing.assert_allclose(only_answer(teacher, x, traced), mlp_by_hand(model, x), **TOLERANCE)


@pytest.mark.parametrize("kind", [exported, saved_by_tensorflow, signed, tflite])
def test_inputs_of_another_dtype_or_under_a_key_are_read(kind, tmp_path):
    model = mlp()
    teacher = Teacher(kind(model, tmp_path))
    whole = np.arange(8).reshape(2, 4)
    for x in (whole.astype("float64"), whole.astype("uint8"), {"picture": whole.astype("float32")}):
        np.testing.assert_allclose(only_answer(teacher, x), mlp_by_hand(model, whole), **TOLERANCE)
    preprocessed = Teacher(kind(model, tmp_path / "again"), inputs=["b"], preprocess=lambda x: x / 2.0)
    np.testing.assert_allclose(only_answer(preprocessed, {"a": SOUND, "b": X}), mlp_by_hand(model, X / 2), **TOLERANCE)


def test_a_signature_picks_its_one_input_by_name(tmp_path):
    model = mlp()
    np.testing.assert_allclose(
        only_answer(Teacher(signed(model, tmp_path)), {"picture": X, "sound": SOUND}),
        mlp_by_hand(model, X),
        **TOLERANCE,
    )


@pytest.mark.parametrize("kind", [exported, tflite, on_arrays])
def test_several_inputs_come_by_name(kind, tmp_path):
    model = two_inputs(dict)
    said = only_answer(Teacher(kind(model, tmp_path)), {"ant": SOUND, "zebra": X}, traced=True)
    np.testing.assert_allclose(said, sum(maps_by_hand(model)), **TOLERANCE)


def test_several_inputs_of_a_signature_come_by_name(tmp_path):
    model = two_inputs(list)
    specs = {"zebra": tf.TensorSpec((None, 4)), "ant": tf.TensorSpec((None, 2))}
    path = saved_with_signature(lambda zebra, ant: {"scores": model([zebra, ant])}, specs, model, tmp_path)
    said = only_answer(Teacher(path), {"ant": SOUND, "other": X, "zebra": X})
    np.testing.assert_allclose(said, sum(maps_by_hand(model)), **TOLERANCE)


@pytest.mark.parametrize("kind", [exported, on_arrays])
@pytest.mark.parametrize("x", [[X, SOUND], (X, SOUND)])
def test_several_inputs_come_in_the_order_of_the_model(kind, x, tmp_path):
    model = two_inputs(list)
    np.testing.assert_allclose(
        only_answer(Teacher(kind(model, tmp_path)), x, traced=True), sum(maps_by_hand(model)), **TOLERANCE
    )


def test_an_exported_model_of_a_list_picks_its_inputs_by_name_from_a_dict(tmp_path):
    model = two_inputs(list)
    said = only_answer(Teacher(exported(model, tmp_path)), {"ant": SOUND, "other": X, "zebra": X})
    np.testing.assert_allclose(said, sum(maps_by_hand(model)), **TOLERANCE)


@pytest.mark.parametrize("kind", [tflite, on_arrays])
def test_several_outputs_keep_their_names(kind, tmp_path):
    model = two_inputs(dict, outputs=lambda image, sound: {"of_image": image, "of_sound": sound})
    said = said_by(Teacher(kind(model, tmp_path)), {"ant": SOUND, "zebra": X}, traced=True)
    for name, expected in zip(("of_image", "of_sound"), maps_by_hand(model), strict=True):
        np.testing.assert_allclose(said.pop(name), expected, **TOLERANCE)
    assert said == {}


def test_several_outputs_of_an_exported_model_keep_their_order(tmp_path):
    model = two_inputs(dict, outputs=lambda image, sound: [sound, image])
    said = said_by(Teacher(exported(model, tmp_path)), {"ant": SOUND, "zebra": X})
    assert list(said) == ["output_0", "output_1"]
    for value, expected in zip(said.values(), reversed(maps_by_hand(model)), strict=True):
        np.testing.assert_allclose(value, expected, **TOLERANCE)


@pytest.mark.parametrize("rows", [1, 5, 13])
def test_a_file_of_a_fixed_batch_is_run_in_pieces(rows, tmp_path):
    model = mlp(batch_size=5)
    path = tflite(model, tmp_path)
    np.testing.assert_allclose(only_answer(Teacher(path), X[:rows], True), mlp_by_hand(model, X[:rows]), **TOLERANCE)


def test_a_quantised_file_is_asked_in_real_numbers(tmp_path):
    model = mlp()
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in X)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (tmp_path / "int8.tflite").write_bytes(converter.convert())
    expected = mlp_by_hand(model, X)
    # Eight bits: a few of the 255 steps between the least and the greatest logit.
    step = (expected.max() - expected.min()) / 255
    np.testing.assert_allclose(only_answer(Teacher(tmp_path / "int8.tflite"), X), expected, rtol=0, atol=5 * step)


@pytest.mark.parametrize("kind", [exported, signed, tflite, on_arrays])
def test_probabilities_may_be_declared(kind, tmp_path):
    model = keras.Sequential([mlp(), layers.Softmax()])
    said = only_answer(Teacher(kind(model, tmp_path), outputs="probabilities"), X, traced=True)
    logits = mlp_by_hand(model, X)
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(said, expected, **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_xla_is_told_what_it_cannot_compile(kind, tmp_path):
    distiller = kd.Distiller(mlp(), kind(mlp(), tmp_path))
    assert distiller.supports_jit is (kind is keras_file)


@pytest.mark.parametrize("kind", [exported, signed, tflite, on_arrays])
def test_taps_are_refused(kind, tmp_path):
    teacher = Teacher(kind(mlp(), tmp_path))
    text = (
        f"`Teacher`: `{teacher.name}` is no Keras model and has no layers to tap. Received: taps ['hidden', 'head']. "
        "Give the Keras model, or objectives that compare outputs alone."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        teacher.signals(X, ["hidden", "head"])


def test_a_keras_file_may_be_tapped(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="hidden"), layers.Dense(3)])
    kernel, bias = model.get_weights()[:2]
    hidden = Teacher(keras_file(model, tmp_path)).signals(X, ["hidden"]).taps["hidden"]
    np.testing.assert_allclose(hidden, X @ kernel + bias, **TOLERANCE)


def test_teachers_of_every_kind_are_named_and_make_an_ensemble(tmp_path):
    def oracle(x):
        return np.zeros((len(x), 3))

    model = mlp(name="own")
    ensemble = kd.Ensemble([model, exported(model, tmp_path), tflite(model, tmp_path), oracle])
    assert ensemble.name == "own+exported+student+oracle"
    logits = mlp_by_hand(model, X)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    said = np.float64(ensemble.signals(X).outputs["output_0"])
    np.testing.assert_allclose(np.exp(said), 0.75 * shares + 0.25 / 3, rtol=1e-5)
