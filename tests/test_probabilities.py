import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kd.objectives import SoftTargets
from keras_kd.probabilities import refuse_probabilities, scores_by_graph, scores_by_value
from keras_kd.signals import Signals
from keras_kd.teachers import Teacher


def ending_in(*last, shape=(6,)):
    return keras.Sequential([keras.Input(shape), layers.Dense(4), *last])


def by_function(function, shape=(6,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(layers.Dense(4)(inputs)))


def found(model):
    (score,) = set(scores_by_graph(model).outputs.values())
    return score


@pytest.mark.parametrize(
    "model",
    [
        lambda: ending_in(layers.Dense(3, activation="softmax")),
        lambda: ending_in(layers.Softmax()),
        lambda: ending_in(layers.Activation("softmax", dtype="float32")),
        lambda: ending_in(layers.Softmax(), layers.Activation("linear", dtype="float32")),
        lambda: ending_in(layers.Softmax(), layers.Dropout(0.1), layers.Identity(), layers.Flatten()),
        lambda: ending_in(layers.Softmax(), layers.Reshape((2, 2)), layers.Permute((2, 1))),
        lambda: ending_in(ending_in(layers.Softmax(), shape=(4,))),
        lambda: ending_in(ending_in(ending_in(layers.Softmax(), shape=(4,)), shape=(4,)), layers.Identity()),
        lambda: ending_in(layers.TimeDistributed(layers.Dense(3, activation="softmax")), shape=(5, 6)),
        lambda: by_function(ops.softmax),
        lambda: by_function(keras.activations.softmax),
    ],
)
def test_a_softmax_is_found_in_the_graph(model):
    assert found(model()) == "softmax"


@pytest.mark.parametrize("last", [layers.Dense(1, activation="sigmoid"), layers.Activation("sigmoid")])
def test_a_sigmoid_is_found_in_the_graph(last):
    assert found(ending_in(last)) == "sigmoid"


@pytest.mark.parametrize(
    "model",
    [
        lambda: ending_in(),
        lambda: ending_in(layers.Dense(3, activation="relu")),
        lambda: ending_in(layers.ReLU()),
        lambda: ending_in(layers.Activation("linear")),
        lambda: ending_in(layers.Activation("log_softmax")),
        lambda: ending_in(layers.Softmax(), layers.Dense(3)),
        lambda: ending_in(layers.Softmax(), layers.Rescaling(10.0)),
        lambda: ending_in(ending_in(layers.Softmax(), layers.Dense(3), shape=(4,))),
        lambda: by_function(lambda x: ops.multiply(ops.softmax(x), x)),
    ],
)
def test_what_ends_otherwise_is_no_alarm(model):
    assert found(model()) == "unknown"


def test_each_output_is_told_apart():
    inputs = keras.Input((6,))
    scores, chances = layers.Dense(3, name="scores")(inputs), layers.Dense(3, "softmax", name="chances")(inputs)
    listed = scores_by_graph(keras.Model(inputs, [scores, chances]))
    assert listed.outputs == {"scores": "unknown", "chances": "softmax"}
    keyed = scores_by_graph(keras.Model(inputs, {"a": chances, "b": scores}))
    assert keyed.outputs == {"a": "softmax", "b": "unknown"}
    assert keyed.keyed


def test_without_a_graph_nothing_is_said():
    class Subclassed(keras.Model):
        def call(self, x):
            return ops.softmax(x)

    model = Subclassed()
    model(np.ones((2, 3)))
    assert scores_by_graph(model) is None
    assert scores_by_graph(keras.Sequential([layers.Dense(3, activation="softmax")])) is None


ROWS = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], "float32")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (ROWS, "softmax"),
        (ROWS.astype("float16"), "softmax"),
        (np.stack([ROWS, ROWS]), "softmax"),
        (np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.6]]), "logits"),
        (np.array([[1.5, -0.25, -0.25], [0.2, 0.3, 0.5]]), "logits"),
        (np.array([[4.0, 2.0, 1.0], [3.0, 0.0, 5.0]]), "logits"),
        (np.zeros((2, 3)), "logits"),
        (np.log(ROWS + 0.1), "logits"),
        (np.array([[1.0], [1.0]]), "logits"),
        (np.array([1.0, 0.0]), "logits"),
    ],
)
def test_rows_that_add_up_to_one_are_probabilities(values, expected):
    assert scores_by_value(Signals.of({"y": values})).outputs == {"y": expected}


def refuse(teacher_found, student_found, declared="logits", outputs=None):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)], name="big")
    teacher = Teacher(model, outputs=declared)
    taught, learnt = (
        Signals.of(said if isinstance(said, dict) else {"y": said}) for said in (teacher_found, student_found)
    )
    refuse_probabilities(SoftTargets(outputs=outputs), teacher, taught, "small", learnt)


@pytest.mark.parametrize(
    ("teacher", "student", "declared", "text"),
    [
        (
            "softmax",
            "unknown",
            "logits",
            "`Distiller`: the teacher must give logits. Received: `big`, whose output is a softmax. "
            'Declare it: `keras_kd.Teacher(model, outputs="probabilities")`.',
        ),
        ("sigmoid", "logits", "logits", "`big`, whose output is a sigmoid. Soft targets need one softmax over all"),
        ("sigmoid", "logits", "probabilities", "`big`, whose output is a sigmoid. Soft targets need one softmax"),
        (
            "logits",
            "logits",
            "probabilities",
            'the teacher `big` was declared with outputs="probabilities", but its rows do not add up to one. Declare',
        ),
        (
            "logits",
            "softmax",
            "logits",
            "`Distiller`: the student must give logits. Received: `small`, whose output is a softmax. "
            "End it in logits (a last layer without activation, and `from_logits=True` in the loss)",
        ),
        ("unknown", "sigmoid", "logits", "Received: `small`, whose output is a sigmoid."),
        ("softmax", "softmax", "probabilities", "Received: `small`, whose output is a softmax."),
    ],
)
def test_what_does_not_match_its_declaration_is_refused(teacher, student, declared, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        refuse(teacher, student, declared)


@pytest.mark.parametrize(
    ("teacher", "student", "declared", "outputs"),
    [
        ("logits", "logits", "logits", None),
        ("unknown", "unknown", "probabilities", None),
        ("softmax", "logits", "probabilities", None),
        ({"y": "logits", "z": "softmax"}, {"y": "logits", "z": "softmax"}, "logits", ["y"]),
    ],
)
def test_what_matches_is_let_through(teacher, student, declared, outputs):
    assert refuse(teacher, student, declared, outputs) is None
