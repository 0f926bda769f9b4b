import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from scipy.special import log_softmax, softmax

from keras_kd.teachers import Ensemble, Teacher, as_teacher

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
EDGES = np.array([[1.0, 0.0, 0.0], [0.0, 1e-30, 1.0], [0.25, 0.25, 0.5]], "float32")


def linear(name=None, classes=3):
    return keras.Sequential([keras.Input((4,)), layers.Dense(classes)], name=name)


def says(values, **kwargs):
    """A teacher whose model gives these values, whatever it sees."""

    class Saying(keras.Model):
        def call(self, x):
            return keras.tree.map_structure(ops.convert_to_tensor, values)

    return Teacher(Saying(), **kwargs)


def test_logits_pass_as_they_are():
    model = linear()
    kernel, bias = (weight.numpy() for weight in model.weights)
    (logits,) = Teacher(model).signals(X).outputs.values()
    np.testing.assert_allclose(logits, X @ kernel + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_probabilities_become_logits_of_the_same_softmax(temperature):
    logits = np.random.default_rng(1).normal(scale=4, size=(5, 3))
    said = says(np.float32(softmax(logits, -1)), outputs="probabilities").signals(X)
    expected = softmax(logits / temperature, -1)
    np.testing.assert_allclose(softmax(np.float64(said.outputs["output_0"]) / temperature, -1), expected, rtol=1e-4)


def test_probabilities_of_zero_stay_zero_and_finite():
    said = says(EDGES, outputs="probabilities").signals(X).outputs["output_0"].numpy()
    np.testing.assert_allclose(said, np.log(np.maximum(np.float64(EDGES), 1.2e-38)), rtol=1e-6)
    np.testing.assert_allclose(softmax(np.float64(said), -1), EDGES, rtol=1e-6, atol=1e-37)


def test_probabilities_in_half_precision_are_read_in_float32():
    said = says(EDGES.astype("float16"), outputs="probabilities").signals(X).outputs["output_0"]
    assert said.dtype == tf.float32
    np.testing.assert_allclose(
        softmax(np.float64(said), -1), np.float64(EDGES.astype("float16")), rtol=1e-6, atol=1e-37
    )


def test_the_teacher_sees_its_own_inputs_preprocessed():
    seen = {"image": X, "sound": 2 * X}
    model = linear()
    teacher = Teacher(model, inputs=["sound"], preprocess=lambda x: x - 1.0)
    (logits,) = teacher.signals(seen).outputs.values()
    np.testing.assert_allclose(logits, model(2 * X - 1.0), rtol=1e-5, atol=1e-6)


def test_taps_are_those_of_the_model():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu", name="hidden"), layers.Dense(2)])
    hidden = Teacher(model).signals(X, ["hidden"]).taps["hidden"]
    np.testing.assert_allclose(hidden, keras.Model(model.inputs, model.layers[0].output)([X]), rtol=1e-6)


def test_an_unbuilt_model_is_built():
    model = keras.Sequential([layers.Dense(3)])
    Teacher(model).build(X)
    assert [tuple(weight.shape) for weight in model.weights] == [(4, 3), (3,)]


class Sticky(layers.Layer):
    """BatchNorm hard-wired to train, noise from a seed, and a loss of its own."""

    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.seeds = keras.random.SeedGenerator(7)

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, x):
        x = self.norm(x, training=True) + keras.random.normal(ops.shape(x), seed=self.seeds)
        self.add_loss(ops.sum(ops.square(x)))
        return x


@pytest.mark.parametrize("traced", [False, True])
def test_nothing_sticks(traced):
    model = keras.Sequential([keras.Input((4,)), Sticky(), layers.Dense(3)])
    model(X)
    variables = [variable.numpy() for variable in (*model.variables, model.layers[0].seeds.state)]
    flags = [layer.trainable for layer in model._flatten_layers()]
    added = [float(loss) for loss in model.losses]
    assert len(added) == 1

    def ask():
        return Teacher(model).signals(X).outputs

    tf.function(ask)() if traced else ask()
    for variable, value in zip((*model.variables, model.layers[0].seeds.state), variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert [layer.trainable for layer in model._flatten_layers()] == flags
    # Keras forgets the losses of a call at the next one; those of the teacher's pass must not take their place.
    assert [float(loss) for loss in model.losses] in ([], added)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_an_ensemble_averages_probabilities_at_the_temperature(temperature):
    models, weights = [linear() for _ in range(3)], [1.0, 2.0, 5.0]
    said = Ensemble(models, weights).signals(X).logits(temperature)
    expected = sum(w / 8 * softmax(model(X) / temperature, -1) for w, model in zip(weights, models, strict=True))
    (logits,) = said.values()
    np.testing.assert_allclose(softmax(np.float64(logits) / temperature, -1), expected, rtol=1e-5)


def test_an_ensemble_mixes_teachers_of_logits_and_of_probabilities():
    model = linear()
    said = Ensemble([model, says(EDGES[[2] * 5], outputs="probabilities")]).signals(X).outputs
    expected = np.log((np.exp(log_softmax(model(X), -1)) + EDGES[2]) / 2)
    np.testing.assert_allclose(next(iter(said.values())), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "expected"), [(None, [1 / 3] * 3), ([2, 1, 1], [0.5, 0.25, 0.25]), ([0, 0, 4.0], [0, 0, 1])]
)
def test_weights_add_up_to_one(weights, expected):
    assert Ensemble([linear() for _ in range(3)], weights).weights == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weights", [[1.0], [1, 2, 3], [1, -1], [0, 0], [float("nan"), 1], [float("inf"), 1]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match=r"`Ensemble`: `weights` must be 2 numbers >= 0, not all zero. Received: \["):
        Ensemble([linear(), linear()], weights)


def test_an_ensemble_refuses_taps():
    with pytest.raises(
        ValueError, match=r"`Ensemble`: features of several teachers have no mean.*\['dense'\]. Give the"
    ):
        Ensemble([linear(), linear()]).signals(X, ["dense"])


def test_as_teacher_reads_what_a_user_hands_over():
    one, two = linear("one"), linear("two")
    teacher, ensemble = Teacher(one), Ensemble([one])
    assert as_teacher(None) is None
    assert as_teacher(teacher) is teacher
    assert as_teacher(ensemble) is ensemble
    assert as_teacher(one).model is one
    listed = as_teacher([one, Teacher(two)])
    assert [member.model for member in listed.members] == [one, two]
    assert (listed.name, listed.weights) == ("one+two", [0.5, 0.5])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Teacher(3),
            "`Teacher`: `model` must be a Keras model, the path of a SavedModel directory, of a `.keras` or of a "
            "`.tflite` file, or a function of NumPy arrays. Received: 3.",
        ),
        (
            lambda: Teacher(linear(), outputs="softmax"),
            "`Teacher`: `outputs` must be 'logits' or 'probabilities'. Received: outputs='softmax'.",
        ),
        (
            lambda: Teacher(linear(), preprocess="scale"),
            "`Teacher`: `preprocess` must be a function of the inputs. Received: 'scale'.",
        ),
        (lambda: Ensemble([]), "`Ensemble`: `teachers` must hold at least one teacher. Received none."),
        (
            lambda: as_teacher(3),
            "`Distiller`: `teacher` must be a Keras model, the path of a saved one, a function of NumPy arrays, a list "
            "of these, a `keras_kd.Teacher`, a `keras_kd.Ensemble`, or None. Received: 3.",
        ),
    ],
)
def test_errors_say_what_was_expected(make, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()
