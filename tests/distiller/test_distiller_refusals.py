"""Bad arguments are refused with the expected, the received and the remedy."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import compiled_distiller, constant, cross_entropy, examples, mlp

import keras_kd as kd

X, Y = examples()


def frozen():
    model = mlp(name="still")
    model.trainable = False
    return model


def heads(*names):
    inputs = keras.Input((4,))
    return keras.Model(inputs, {name: layers.Dense(3, name=f"{name}_head")(inputs) for name in names})


CONSTRUCTION = {
    "student is a function": (lambda: kd.Distiller(len, mlp()), "`Distiller`: `student` must be a `keras.Model`. Rec"),
    "student is a layer": (lambda: kd.Distiller(layers.Dense(3), mlp()), "`student` must be a `keras.Model`"),
    "teacher is a string": (
        lambda: kd.Distiller(mlp(), "teacher.keras"),
        "^`Teacher`: `model`: there is no file or directory 'teacher.keras'.$",
    ),
    "teacher is a number": (
        lambda: kd.Distiller(mlp(), 3),
        "^`Distiller`: `teacher` must be a Keras model, the path of a saved one, a function of NumPy arrays, a list of "
        "these, a `keras_kd.Teacher`, a `keras_kd.Ensemble`, or None. Received: 3.$",
    ),
    "a member is no model": (
        lambda: kd.Distiller(mlp(), [mlp(8), 3]),
        "^`Teacher`: `model` must be a Keras model, the path of a SavedModel directory, .*. Received: 3.$",
    ),
    "no members": (lambda: kd.Distiller(mlp(), []), "`Ensemble`: `teachers` must hold at least one teacher"),
    "alpha above one": (
        lambda: kd.Distiller(mlp(), mlp(8), alpha=1.5),
        r"`Distiller`: `alpha` must be >= 0 and <= 1. Received: alpha=1\.5",
    ),
    "alpha below zero": (lambda: kd.Distiller(mlp(), mlp(8), alpha=-0.1), r"Received: alpha=-0\.1"),
    "alpha is no number": (lambda: kd.Distiller(mlp(), mlp(8), alpha="half"), "Received: alpha='half'"),
    "alpha is NaN": (lambda: kd.Distiller(mlp(), mlp(8), alpha=float("nan")), "Received: alpha=nan"),
    "temperature zero": (
        lambda: kd.Distiller(mlp(), mlp(8), temperature=0),
        "`Distiller`: `temperature` must be > 0. Received: temperature=0",
    ),
    "temperature below zero": (lambda: kd.Distiller(mlp(), mlp(8), temperature=-1.0), r"Received: temperature=-1\.0"),
    "temperature of an objective": (
        lambda: kd.objectives.SoftTargets(-1),
        "`SoftTargets`: `temperature` must be > 0. Received: temperature=-1",
    ),
    "weight of an objective": (
        lambda: kd.objectives.SoftTargets(weight=-2.0),
        r"`SoftTargets`: `weight` must be >= 0. Received: weight=-2\.0",
    ),
    "no objectives": (
        lambda: kd.Distiller(mlp(), mlp(8), []),
        "`objectives` must be one or more `keras_kd.objectives`",
    ),
    "a loss function": (lambda: kd.Distiller(mlp(), mlp(8), kd.losses.soft_target_kl), "`objectives` must be one or"),
    "teacher outputs": (
        lambda: kd.Teacher(mlp(), outputs="softmax"),
        "`Teacher`: `outputs` must be 'logits' or 'probabilities'. Received: outputs='softmax'",
    ),
    "preprocess": (lambda: kd.Teacher(mlp(), preprocess=2), "`preprocess` must be a function of the inputs. Rec.* 2"),
    "projector": (
        lambda: kd.objectives.Hint("a", "b", projector="linear"),
        "`Hint`: `projector` must be 'auto', a Keras layer, or None. Received: 'linear'",
    ),
    "tap": (lambda: kd.objectives.Hint("a:output", "b"), "A tap must be a layer's name.*Received: 'a:output'"),
    "outputs that do not exist": (
        lambda: kd.Distiller(heads("a", "b"), heads("a", "b"), kd.objectives.SoftTargets(outputs=["c"])),
        r"`outputs` must name outputs of the student: \['a', 'b'\]. Received: \['c'\]",
    ),
    "outputs that the teacher lacks": (
        lambda: kd.Distiller(heads("a", "b"), heads("a", "c")),
        r"outputs \['b'\] have no teacher output of that name. The teacher has \['a', 'c'\]",
    ),
    "other numbers of outputs": (
        lambda: kd.Distiller(heads("a", "b"), mlp(8)),
        "The teacher has 1 outputs, the student 2.*Name as many student outputs as the teacher has",
    ),
}


@pytest.mark.parametrize("case", CONSTRUCTION)
def test_the_constructor_refuses(case):
    build, text = CONSTRUCTION[case]
    with pytest.raises(ValueError, match=text):
        build()


def test_the_student_cannot_be_its_own_teacher():
    student = mlp(name="me")
    for teacher in (student, kd.Teacher(student), [mlp(8), student]):
        with pytest.raises(ValueError, match=r"teacher and student must be two models. Received `me` as both"):
            kd.Distiller(student, teacher)


@pytest.mark.parametrize(("name", "value"), [("alpha", 2.0), ("alpha", -1), ("temperature", 0.0)])
def test_assignment_refuses_what_the_constructor_refuses(name, value):
    distiller = kd.Distiller(mlp(), mlp(8))
    before = float(getattr(distiller, name))
    with pytest.raises(ValueError, match=f"`Distiller`: `{name}` must be .*Received: {name}={value!r}"):
        setattr(distiller, name, value)
    assert float(getattr(distiller, name)) == before


def test_assigning_no_teacher_keeps_the_old_one():
    teacher = mlp(8)
    distiller = kd.Distiller(mlp(), teacher)
    with pytest.raises(ValueError, match="`teacher` must be a Keras model"):
        distiller.teacher = 3
    assert distiller.teacher is teacher


def two_layers(teacher_tap, student_tap, **kwargs):
    return compiled_distiller(mlp(), mlp(8), kd.objectives.Hint(teacher_tap, student_tap, **kwargs))


FIRST_FIT = {
    "classes differ": (
        lambda: compiled_distiller(mlp(classes=3), mlp(8, classes=4)),
        r"`SoftTargets`: teacher and student must name the same classes.*\(None, 4\).*\(None, 3\)",
    ),
    "one logit": (
        lambda: compiled_distiller(constant([0.5]), constant([1.5])),
        "one score alone has no softmax to soften. Give both models two logits for two classes",
    ),
    "frozen student": (lambda: compiled_distiller(frozen(), mlp(8)), "the student `still` has nothing to train"),
    "no teacher": (lambda: compiled_distiller(mlp(), None), "there is no teacher.*`distiller.teacher = model`"),
    "not compiled": (lambda: kd.Distiller(mlp(), mlp(8)), r"`Distiller`: call `compile\(\)` before `fit\(\)`"),
    "no such teacher layer": (
        lambda: two_layers("hiden", "hidden"),
        "Tap 'hiden': .* has no layer `hiden`. Its layers: .*hidden, head",
    ),
    "no such student layer": (
        lambda: two_layers("hidden", "body/deep"),
        "Tap 'body/deep': .* has no layer `body`. Its layers: .*hidden, head",
    ),
    "widths differ without a projector": (
        lambda: two_layers("hidden", "hidden", projector=None),
        r"the student feature 'hidden' must have the shape of the teacher feature 'hidden', \(None, 8\). "
        r"Received: \(None, 5\). Use `projector='auto'`",
    ),
    "taps of an ensemble": (
        lambda: compiled_distiller(mlp(), [mlp(8), mlp(9)], kd.objectives.Hint("hidden", "hidden")),
        r"`Ensemble`: features of several teachers have no mean, so taps are refused. Received: \['hidden'\]",
    ),
}


@pytest.mark.parametrize(
    ("case", "method"),
    [
        *((case, "fit") for case in FIRST_FIT),
        *((case, method) for case in ("classes differ", "no teacher") for method in ("train_on_batch", "generator")),
    ],
)
def test_the_first_training_call_refuses(case, method):
    build, text = FIRST_FIT[case]
    distiller = build()
    call = {
        "fit": lambda: distiller.fit(X, Y, verbose=0),
        "train_on_batch": lambda: distiller.train_on_batch(X, Y),
        "generator": lambda: distiller.fit(((X, Y) for _ in range(1)), verbose=0),
    }[method]
    with pytest.raises(ValueError, match=text):
        call()


def test_a_student_all_of_whose_weights_are_the_teachers_is_refused():
    body = layers.Dense(3)
    inputs = keras.Input((4,))
    student = keras.Model(inputs, body(inputs), name="same")
    teacher = keras.Model(inputs, layers.Dense(3)(body(inputs)))
    with pytest.raises(ValueError, match=r"the student `same` has nothing to train.*the teacher's too"):
        compiled_distiller(student, teacher).fit(X, Y, verbose=0)


def test_a_refused_fit_may_be_repaired():
    student, teacher = mlp(), mlp(8)
    distiller = compiled_distiller(student, mlp(8, classes=4))
    with pytest.raises(ValueError, match="same classes"):
        distiller.fit(X, Y, verbose=0)
    distiller.teacher = teacher
    repaired = distiller.fit(X, Y, shuffle=False, verbose=0).history
    expected = compiled_distiller(mlp(), teacher, compile_with={"loss": cross_entropy()})
    np.testing.assert_allclose(
        repaired["loss"], expected.fit(X, Y, shuffle=False, verbose=0).history["loss"], rtol=1e-6
    )


def test_an_objective_that_reads_the_labels_is_refused_without_them():
    distiller = compiled_distiller(mlp(), mlp(8), [kd.objectives.SoftTargets(), kd.objectives.DecoupledKD()], alpha=0.0)
    text = (
        r"^`Distiller`: the objectives \['decoupled_kd'\] compare with the labels\. Received data without\. Give `y`\.$"
    )
    with pytest.raises(ValueError, match=text):
        distiller.fit(X, verbose=0)
