"""A teacher that is a file or a function teaches what the Keras model teaches that it came from."""

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    assert_same,
    assert_same_history,
    compiled_distiller,
    cross_entropy,
    examples,
    mlp,
    values_of,
)

import keras_kd as kd

X, Y = examples()
BATCH = 6
TWO_STEPS = {"batch_size": BATCH, "epochs": 1, "shuffle": False, "verbose": 0}


def exported(model, folder):
    model.export(folder / "exported", verbose=False)
    return folder / "exported"


def saved_by_tensorflow(model, folder):
    tf.saved_model.save(model, str(folder / "saved"))
    return str(folder / "saved")


def tflite(model, folder):
    return kd.export_student(model, folder / "lite", formats="tflite").files[0].path


def keras_file(model, folder):
    model.save(folder / "model.keras")
    return folder / "model.keras"


def predicting(model, folder):
    del folder
    return lambda x: model.predict(x, verbose=0)


def multiplying(model, folder):
    """As an API would: no Keras, no TensorFlow."""
    del folder
    first, shift, second, bias = model.get_weights()
    return lambda x: np.tanh(x @ first + shift) @ second + bias


KINDS = {kind: {"atol": 1e-6} for kind in (exported, saved_by_tensorflow, keras_file, predicting, multiplying)}
KINDS[tflite] = {"atol": 1e-5}


def trained(teacher, x=X, y=Y, compile_with=None, **kwargs):
    student = mlp(seed=1)
    distiller = compiled_distiller(student, teacher, compile_with=compile_with, **kwargs)
    return distiller, distiller.fit(x, y, **TWO_STEPS).history


@functools.cache
def model():
    """Of which each file and function here is made; only to be read."""
    return mlp(8, seed=5)


@functools.cache
def unsure():
    return keras.Sequential([model(), keras.layers.Softmax()])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model as a teacher of the kind, made once."""
    return functools.cache(lambda kind, of=model: kind(of(), tmp_path_factory.mktemp(kind.__name__)))


@functools.cache
def taught_by_the_model(run_eagerly=False, count=12):
    return trained(model(), X[:count], Y[:count], compile_with={"run_eagerly": run_eagerly})


@functools.cache
def taught_by_its_probabilities():
    return trained(kd.Teacher(unsure(), outputs="probabilities"))


def assert_taught_alike(one, other, atol):
    (received, history), (expected, expected_history) = one, other
    assert set(history) == set(expected_history)
    assert_same_history(history, expected_history, rtol=0, atol=atol)
    assert_same(values_of(received.student.weights), values_of(expected.student.weights), rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_two_steps_equal_those_of_the_keras_model(kind, run_eagerly, made):
    found = trained(made(kind), compile_with={"run_eagerly": run_eagerly})
    assert_taught_alike(found, taught_by_the_model(run_eagerly), **KINDS[kind])


@pytest.mark.parametrize("kind", [exported, tflite, multiplying])
def test_the_last_batch_may_be_smaller(kind, made):
    assert_taught_alike(trained(made(kind), X[:10], Y[:10]), taught_by_the_model(count=10), **KINDS[kind])


@pytest.mark.parametrize("kind", [exported, tflite, multiplying])
def test_a_generator_is_taught_from(kind, made):
    batches = ((X[start : start + BATCH], Y[start : start + BATCH]) for start in (0, BATCH))
    distiller = compiled_distiller(mlp(seed=1), made(kind))
    history = distiller.fit(batches, verbose=0).history
    assert_taught_alike((distiller, history), taught_by_the_model(), **KINDS[kind])


@pytest.mark.parametrize("kind", [exported, tflite, predicting])
def test_a_teacher_of_probabilities_is_declared(kind, made):
    found = trained(kd.Teacher(made(kind, unsure), outputs="probabilities"))
    assert_taught_alike(found, taught_by_its_probabilities(), **KINDS[kind])


@pytest.mark.parametrize("kind", [exported, tflite, predicting])
def test_a_softmax_that_is_not_declared_is_found_by_the_first_fit(kind, made):
    teacher = kd.Teacher(made(kind, unsure))
    text = (
        f"`Distiller`: the teacher must give logits. Received: `{teacher.name}`, whose output is a softmax. "
        'Declare it: `keras_kd.Teacher(model, outputs="probabilities")`.'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        trained(teacher)


@pytest.mark.parametrize("kind", [exported, tflite, multiplying])
def test_inputs_are_selected_and_preprocessed(kind, made):
    """Half of what is twice as loud is what the student sees."""
    teacher = kd.Teacher(made(kind), inputs=["louder"], preprocess=lambda loud: loud / 2)
    found = trained(teacher, x={"image": X, "louder": 2 * X}, student_inputs=["image"])
    assert_taught_alike(found, taught_by_the_model(), **KINDS[kind])


@pytest.mark.parametrize("kind", [None, exported, tflite])
def test_a_dict_of_one_feeds_models_of_one_tensor(kind, made):
    teacher = made(kind) if kind else model()
    assert_taught_alike(trained(teacher, {"image": X}), taught_by_the_model(), atol=1e-5)


@pytest.mark.parametrize("kind", [exported, keras_file, tflite, predicting])  # one of each reader
def test_a_teacher_may_be_read_within_the_scope_of_a_strategy(kind, made):
    source = made(kind)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        distiller = compiled_distiller(mlp(seed=1), source)
    history = distiller.fit(X, Y, **TWO_STEPS).history
    assert_taught_alike((distiller, history), taught_by_the_model(), **KINDS[kind])


def test_two_heads_are_paired_by_name(tmp_path):
    def heads(width, seed):
        inputs = keras.Input((4,))
        body = keras.layers.Dense(width, "tanh", kernel_initializer=keras.initializers.GlorotUniform(seed))(inputs)
        named = {}
        for number, name in enumerate(("zebra", "ant"), 1):
            kernel = keras.initializers.GlorotUniform(seed + number)
            named[name] = keras.layers.Dense(3, kernel_initializer=kernel, name=f"{name}_head")(body)
        return keras.Model(inputs, named)

    def fit(teacher):
        distiller = kd.Distiller(heads(4, 1), teacher)
        distiller.compile(keras.optimizers.SGD(0.1), {"zebra": cross_entropy(), "ant": cross_entropy()})
        return distiller, distiller.fit(X, {"zebra": Y, "ant": Y[::-1].copy()}, **TWO_STEPS).history

    teacher = heads(8, 11)
    expected = fit(teacher)
    assert_taught_alike(fit(tflite(teacher, tmp_path)), expected, atol=1e-5)
    assert_taught_alike(fit(exported(teacher, tmp_path)), expected, atol=1e-6)


def test_an_ensemble_of_every_kind(made):
    members = [made(kind) for kind in KINDS]
    assert_taught_alike(trained(members), trained([model()] * len(members)), atol=1e-5)


def test_a_teacher_of_an_other_kind_may_be_assigned(made):
    expected, history = trained(model())
    again = expected.fit(X, Y, **TWO_STEPS).history
    found, _ = trained(made(exported))
    found.teacher = made(multiplying)
    assert_taught_alike((found, found.fit(X, Y, **TWO_STEPS).history), (expected, again), atol=1e-6)
    assert history["loss"] != again["loss"]


@pytest.mark.parametrize("kind", [exported, saved_by_tensorflow, tflite, multiplying])
def test_nothing_of_the_teacher_is_the_distillers(kind, made, tmp_path):
    distiller, _ = trained(made(kind))
    assert [variable.shape for variable in distiller.trainable_variables] == [(4, 5), (5,), (5, 3), (3,)]
    distiller.save(tmp_path / "saved.keras")
    loaded = keras.saving.load_model(tmp_path / "saved.keras")
    assert loaded.teacher is None
    assert loaded.count_params() == taught_by_the_model()[0].count_params()
    assert_same(values_of(loaded.student.weights), values_of(distiller.student.weights))


def test_the_statistics_of_an_exported_teacher_stay_as_they_are(tmp_path):
    normalised = mlp(8, seed=5, batch_norm=True)
    teacher = kd.Teacher(exported(normalised, tmp_path))
    trained(teacher)
    np.testing.assert_allclose(
        teacher.signals(X).outputs["output_0"], normalised(X, training=False), rtol=1e-5, atol=1e-6
    )


def test_a_function_is_asked_once_before_the_first_step():
    sizes = []

    def counting(x):
        sizes.append(len(x))
        return model().predict(x, verbose=0)

    trained(counting)
    assert sizes == [2, BATCH, BATCH]


def test_xla_that_was_asked_for_is_declined(made):
    with pytest.warns(UserWarning, match="Model doesn't support `jit_compile=True`"):
        found = trained(made(multiplying), compile_with={"jit_compile": True})
    assert not found[0].jit_compile
    assert_taught_alike(found, taught_by_the_model(), atol=1e-6)


def test_nan_of_a_function_is_found_and_named():
    def broken(x):
        return np.full((len(x), 3), np.nan)

    with pytest.raises(FloatingPointError, match="the teacher `broken` gave NaN or infinity in `output_0`, in batch 1"):
        trained(broken)


def test_taps_are_refused_by_the_first_fit(made):
    distiller = compiled_distiller(mlp(), made(exported), kd.objectives.Hint("hidden", "hidden"))
    text = (
        "`Teacher`: `exported` is no Keras model and has no layers to tap. Received: taps ['hidden']. "
        "Give the Keras model, or objectives that compare outputs alone."
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        distiller.fit(X, Y, verbose=0)
