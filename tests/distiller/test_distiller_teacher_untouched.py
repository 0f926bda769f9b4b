"""The caller's teacher comes back as it went in, and so do the student's flags."""

import keras
import numpy as np
import pytest
from keras import layers
from numpy_reference import soft_target_values
from scipy.special import softmax
from small_models import answers, assert_same, compiled_distiller, cross_entropy, examples, mlp, twin, values_of

import keras_kd as kd

X, Y = examples(24)
HINT = {"default": lambda: None, "hint": lambda: [kd.objectives.SoftTargets(), kd.objectives.Hint("body", "body")]}


def net(width, *, norm_training=None, frozen=(), dropout=False):
    inputs = keras.Input((4,))
    hidden = layers.Dense(width, "tanh", name="body")(inputs)
    hidden = layers.BatchNormalization(name="norm")(hidden, training=norm_training)
    if dropout:
        hidden = layers.Dropout(0.5, name="drop")(hidden, training=True)
    model = keras.Model(inputs, layers.Dense(3, name="head")(hidden))
    for name in frozen:
        model.get_layer(name).trainable = False
    return model


def flags_of(model):
    return [layer.trainable for layer in model._flatten_layers()] + [v.trainable for v in model.variables]


@pytest.mark.parametrize(
    ("kind", "objectives"),
    [
        ("plain", "default"),
        ("plain", "hint"),
        ("partly frozen", "default"),
        ("batch norm always training", "hint"),
        ("dropout always on", "default"),
    ],
)
def test_teacher_and_flags_are_bit_identical_after_fit(kind, objectives):
    teacher = net(
        8,
        norm_training=True if kind == "batch norm always training" else None,
        frozen=("body",) if kind == "partly frozen" else (),
        dropout=kind == "dropout always on",
    )
    student = net(5, frozen=("norm",))
    before, teacher_flags, student_flags = values_of(teacher.variables), flags_of(teacher), flags_of(student)
    student_before = student.get_weights()

    distiller = compiled_distiller(student, teacher, HINT[objectives](), compile_with={"metrics": ["agreement"]})
    distiller.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0)

    assert_same(values_of(teacher.variables), before)
    assert flags_of(teacher) == teacher_flags
    assert flags_of(student) == student_flags
    moved = [not np.array_equal(*pair) for pair in zip(student.get_weights(), student_before, strict=True)]
    names = [weight.path.split("/")[-2] for weight in student.weights]
    assert moved == [name != "norm" for name in names]


def test_a_compiled_teacher_can_go_on_training_as_if_nothing_had_been():
    teacher, student = net(8), net(5)
    other = twin(teacher)
    for model in (teacher, other):
        model.compile(keras.optimizers.Adam(0.05), cross_entropy(), metrics=["accuracy"])
        model.fit(X, Y, shuffle=False, verbose=0)
    compiled_distiller(student, teacher).fit(X, Y, verbose=0)
    expected = other.fit(X, Y, shuffle=False, verbose=0).history
    assert teacher.fit(X, Y, shuffle=False, verbose=0).history == expected
    assert_same(teacher.get_weights(), other.get_weights())


@pytest.mark.parametrize("objectives", HINT)
def test_layers_shared_with_the_student_stay_and_the_others_train(objectives):
    body, norm = layers.Dense(6, "tanh", name="body"), layers.BatchNormalization(name="norm")
    inputs = keras.Input((4,))
    shared = norm(body(inputs))
    teacher = keras.Model(inputs, layers.Dense(3, name="head")(layers.Dense(8, "relu", name="deep")(shared)))
    student = keras.Model(inputs, layers.Dense(3, name="own")(shared))
    teacher.compile("sgd", cross_entropy())
    teacher.fit(X, Y, verbose=0)
    before, flags, own = values_of(teacher.variables), flags_of(teacher), student.get_layer("own").get_weights()
    student_flags = flags_of(student)
    features = keras.Model(inputs, shared)
    body_features = answers(features, X)

    distiller = compiled_distiller(student, teacher, HINT[objectives](), compile_with={"metrics": ["accuracy"]})
    distiller.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0)

    assert_same(values_of(teacher.variables), before)
    assert flags_of(teacher) == flags
    assert flags_of(student) == student_flags
    assert not np.array_equal(student.get_layer("own").get_weights()[0], own[0])
    np.testing.assert_array_equal(answers(features, X), body_features)


def test_the_step_of_what_is_not_shared_equals_the_formula():
    body = layers.Dense(6, "tanh", name="body")
    inputs = keras.Input((4,))
    teacher = keras.Model(inputs, layers.Dense(3)(layers.Dense(8, "relu")(body(inputs))))
    student = keras.Model(inputs, layers.Dense(3, name="own")(body(inputs)))
    kernel = student.get_layer("own").get_weights()[0]
    features = answers(keras.Model(inputs, body.output), X)
    p, q = (softmax(answers(model, X) / 4, -1) for model in (teacher, student))
    gradient = features.T @ (4 * (q - p)) / len(X)
    distiller = compiled_distiller(
        student, teacher, alpha=0.0, compile_with={"optimizer": keras.optimizers.SGD(1.0), "loss": None}
    )
    distiller.fit(X, batch_size=len(X), verbose=0)
    np.testing.assert_allclose(kernel - student.get_layer("own").get_weights()[0], gradient, rtol=1e-4, atol=1e-6)


def test_a_distilled_student_becomes_the_next_teacher():
    first, second, third = net(8), net(6), net(4)
    compiled_distiller(second, first, HINT["hint"]()).fit(X, Y, verbose=0)
    before, flags = values_of(second.variables), flags_of(second)
    teacher_logits, student_logits = answers(second, X), third(X, training=True).numpy()

    distiller = compiled_distiller(third, second, HINT["default"]())
    logged = distiller.fit(X, Y, batch_size=len(X), verbose=0).history

    assert_same(values_of(second.variables), before)
    assert flags_of(second) == flags
    assert all(layer.trainable for layer in second.layers)
    np.testing.assert_allclose(
        logged["soft_targets"], [soft_target_values(teacher_logits, student_logits, 4.0).mean()], rtol=1e-5
    )


def test_a_whole_distiller_may_teach():
    first, second, third = net(8), net(6), net(4)
    assistant = compiled_distiller(second, first)
    assistant.fit(X, Y, verbose=0)
    before = values_of(second.variables)
    student_logits = third(X, training=True).numpy()
    logged = compiled_distiller(third, assistant).fit(X, Y, batch_size=len(X), verbose=0).history
    expected = soft_target_values(answers(second, X), student_logits, 4.0).mean()
    np.testing.assert_allclose(logged["soft_targets"], [expected], rtol=1e-5)
    assert_same(values_of(second.variables), before)


def test_one_teacher_serves_two_distillers():
    teacher = mlp(16, seed=1)
    before = teacher.get_weights()
    results = []
    for _ in range(2):
        student = mlp(seed=2)
        compiled_distiller(student, teacher, HINT["default"]()).fit(X, Y, shuffle=False, verbose=0)
        results.append(student.get_weights())
    assert_same(*results)
    assert_same(teacher.get_weights(), before)
