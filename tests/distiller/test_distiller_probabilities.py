"""Declared probabilities teach as their logits would; undeclared ones are found before the first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy_reference import soft_target_values
from small_models import answers, assert_same, compiled_distiller, constant, cross_entropy, examples, mlp, twin

import keras_kd as kd

X, Y = examples()
REMEDY = r'outputs="probabilities"'


def with_softmax(logits_model):
    return keras.Sequential([keras.Input((4,)), logits_model, layers.Softmax()])


class SubclassedSoftmax(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3, "softmax")

    def call(self, inputs):
        return self.head(inputs)


def functional(*ends):
    inputs = tensor = keras.Input((4,))
    for end in ends:
        tensor = end(tensor)
    return keras.Model(inputs, tensor)


SEEN_IN_THE_GRAPH = {
    "dense": lambda: functional(layers.Dense(3, "softmax")),
    "sequential": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")]),
    "layer": lambda: functional(layers.Dense(3), layers.Softmax()),
    "activation": lambda: functional(layers.Dense(3), layers.Activation("softmax", dtype="float32")),
    "operation": lambda: functional(layers.Dense(3), keras.ops.softmax),
    "nested": lambda: functional(layers.Dense(4), functional(layers.Dense(3, "softmax"))),
    "nested twice": lambda: functional(with_softmax(mlp())),
    "behind reshape": lambda: functional(layers.Dense(3, "softmax"), layers.Reshape((3,))),
    "behind linear": lambda: functional(layers.Dense(3, "softmax"), layers.Activation("linear")),
}
SEEN_IN_THE_VALUES = {
    "subclassed": SubclassedSoftmax,
    "unbuilt": lambda: keras.Sequential([layers.Dense(3, "softmax")]),
    "lambda": lambda: functional(layers.Dense(3), layers.Lambda(lambda z: keras.ops.softmax(z))),
    "by hand": lambda: functional(
        layers.Dense(3), lambda z: keras.ops.exp(z) / keras.ops.sum(keras.ops.exp(z), -1, keepdims=True)
    ),
    "sharpened": lambda: functional(
        layers.Dense(3, "softmax"), lambda p: p**2 / keras.ops.sum(p**2, -1, keepdims=True)
    ),
}


@pytest.mark.parametrize("objective", [kd.objectives.SoftTargets, kd.objectives.SoftCrossEntropy])
def test_declared_probabilities_equal_their_logits_twin(objective):
    teacher, results = mlp(16, seed=1), []
    for given in (teacher, kd.Teacher(with_softmax(teacher), outputs="probabilities")):
        student = mlp(seed=2)
        distiller = compiled_distiller(
            student, given, objective(), compile_with={"metrics": ["agreement", "teacher_kl"]}
        )
        history = distiller.fit(X, Y, batch_size=4, epochs=2, shuffle=False, validation_data=(X, Y), verbose=0).history
        results.append((history, student.get_weights()))
    (of_logits, weights), (of_probabilities, same_weights) = results
    for key, values in of_logits.items():
        np.testing.assert_allclose(of_probabilities[key], values, rtol=1e-4, err_msg=key)
    assert_same(same_weights, weights, rtol=1e-4, atol=1e-6)


def test_probabilities_of_zero_still_teach():
    teacher = functional(layers.Dense(3, "softmax", kernel_initializer="zeros"))
    teacher.layers[-1].bias.assign([500.0, 0.0, 0.0])
    assert answers(teacher, X[:1]).tolist() == [[1.0, 0.0, 0.0]]
    distiller = compiled_distiller(
        constant([0.0, 2.0, 0.0]), kd.Teacher(teacher, outputs="probabilities"), temperature=1.0
    )
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    expected = soft_target_values([500.0, 0.0, 0.0], [0.0, 2.0, 0.0], 1.0)
    np.testing.assert_allclose(logged["soft_targets"], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", SEEN_IN_THE_GRAPH)
def test_a_softmax_in_the_graph_is_refused_by_the_constructor(kind):
    with pytest.raises(ValueError, match=f"the teacher must give logits.*softmax.*{REMEDY}"):
        kd.Distiller(mlp(), SEEN_IN_THE_GRAPH[kind]())
    with pytest.raises(ValueError, match=f"the student must give logits.*softmax.*{REMEDY}"):
        kd.Distiller(SEEN_IN_THE_GRAPH[kind](), mlp())
    distiller = kd.Distiller(mlp(), None)
    with pytest.raises(ValueError, match=f"the teacher must give logits.*{REMEDY}"):
        distiller.teacher = SEEN_IN_THE_GRAPH[kind]()


@pytest.mark.parametrize("kind", SEEN_IN_THE_VALUES)
def test_a_hidden_softmax_is_refused_by_the_first_fit(kind):
    with pytest.raises(ValueError, match=f"the teacher must give logits.*softmax.*{REMEDY}"):
        compiled_distiller(mlp(), SEEN_IN_THE_VALUES[kind]()).fit(X, Y, verbose=0)
    student = SEEN_IN_THE_VALUES[kind]()
    with pytest.raises(ValueError, match=f"the student must give logits.*softmax.*{REMEDY}"):
        compiled_distiller(student, mlp(8)).fit(X, Y, verbose=0)


@pytest.mark.parametrize("data", ["generator", "dataset", "train_on_batch"])
def test_a_hidden_softmax_is_refused_whatever_the_data(data):
    distiller = compiled_distiller(mlp(), SubclassedSoftmax())
    call = {
        "generator": lambda: distiller.fit(((X, Y) for _ in range(2)), steps_per_epoch=2, verbose=0),
        "dataset": lambda: distiller.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(4), verbose=0),
        "train_on_batch": lambda: distiller.train_on_batch(X, Y),
    }[data]
    with pytest.raises(ValueError, match=f"the teacher must give logits.*{REMEDY}"):
        call()


def test_any_member_of_an_ensemble_is_looked_at():
    with pytest.raises(ValueError, match=f"Received: `loud`.*{REMEDY}"):
        kd.Distiller(mlp(), [mlp(8), keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")], name="loud")])


def test_logits_declared_as_probabilities_are_refused():
    distiller = compiled_distiller(mlp(), kd.Teacher(mlp(8, name="wise"), outputs="probabilities"))
    with pytest.raises(
        ValueError, match=r"teacher `wise` was declared with outputs=\"probabilities\", but its rows do"
    ):
        distiller.fit(X, Y, verbose=0)


def test_declared_probabilities_pass_for_every_kind_of_model():
    for build in (*SEEN_IN_THE_GRAPH.values(), *SEEN_IN_THE_VALUES.values()):
        teacher, student = build(), mlp(seed=9)
        distiller = kd.Distiller(student, kd.Teacher(teacher, outputs="probabilities"), alpha=0.0)
        distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        student_logits = answers(student, X)
        logged = distiller.train_on_batch(X, return_dict=True)
        expected = soft_target_values(np.log(answers(teacher, X)), student_logits, 4.0).mean()
        np.testing.assert_allclose(logged["soft_targets"], expected, rtol=1e-4)


def test_rows_that_happen_to_be_positive_are_logits():
    teacher, student = constant([0.2, 0.3, 0.6]), mlp()
    student_logits = answers(student, X)
    logged = compiled_distiller(student, teacher).train_on_batch(X, Y, return_dict=True)
    expected = soft_target_values([[0.2, 0.3, 0.6]], student_logits, 4.0).mean()
    np.testing.assert_allclose(logged["soft_targets"], expected, rtol=1e-4)


def test_logits_that_add_up_to_one_for_one_input_are_logits():
    student = functional(layers.Dense(3, use_bias=False, kernel_initializer="zeros"))
    student.layers[-1].kernel.assign(np.array([[0.25, 0.75, 0.0], *np.zeros((3, 3))]))
    assert student.predict(np.ones((1, 4)), verbose=0).sum() == 1.0
    teacher = mlp()
    expected = soft_target_values(answers(teacher, X), answers(student, X), 4.0).mean()
    logged = compiled_distiller(student, teacher).train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(logged["soft_targets"], expected, rtol=1e-4)


def test_a_sigmoid_over_classes_is_refused():
    sigmoid = functional(layers.Dense(3, "sigmoid"))
    with pytest.raises(ValueError, match=f"the teacher must give logits.*sigmoid.*one softmax over all.*{REMEDY}"):
        kd.Distiller(mlp(), sigmoid)
    with pytest.raises(ValueError, match=r"the student must give logits.*sigmoid"):
        kd.Distiller(sigmoid, mlp())


def digit_and_flag(width):
    inputs = keras.Input((4,))
    hidden = layers.Dense(width, "tanh")(inputs)
    outputs = {"digit": layers.Dense(3)(hidden), "flag": layers.Dense(1, "sigmoid", name="flag_head")(hidden)}
    return keras.Model(inputs, outputs)


def test_only_the_outputs_that_are_distilled_must_be_logits():
    teacher, student = digit_and_flag(8), digit_and_flag(5)
    with pytest.raises(ValueError, match=r"must give logits.*sigmoid"):
        kd.Distiller(student, teacher)
    distiller = compiled_distiller(
        student,
        teacher,
        kd.objectives.SoftTargets(outputs=["digit"]),
        compile_with={"loss": {"digit": cross_entropy(), "flag": "binary_crossentropy"}, "metrics": None},
    )
    expected = soft_target_values(answers(teacher, X)["digit"], answers(student, X)["digit"], 4.0)
    logged = distiller.train_on_batch(X, {"digit": Y, "flag": (Y > 0)[:, None] * 1.0}, return_dict=True)
    np.testing.assert_allclose(logged["soft_targets"], expected.mean(), rtol=1e-5)


def test_an_objective_of_features_alone_lets_a_softmax_pass():
    def net(width):
        return functional(layers.Dense(width, "tanh", name="body"), layers.Dense(3, "softmax"))

    teacher, student = net(5), net(5)
    body = [model.layers[1](X).numpy() for model in (teacher, student)]
    distiller = compiled_distiller(
        student,
        teacher,
        kd.objectives.Hint("body", "body"),
        compile_with={"loss": "sparse_categorical_crossentropy"},
    )
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(logged["hint"], np.square(body[0] - body[1]).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    ["sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy(), "categorical_crossentropy"],
)
def test_a_loss_for_probabilities_beside_a_student_of_logits_warns(loss):
    with pytest.warns(UserWarning, match="takes probabilities, but the student `small` gives logits.*from_logits=True"):
        kd.Distiller(mlp(name="small"), mlp(8)).compile("sgd", loss)


def test_the_student_ends_in_logits_and_may_be_given_a_softmax_after():
    student = mlp()
    compiled_distiller(student, mlp(8)).fit(X, Y, verbose=0)
    finished = with_softmax(twin(student))
    np.testing.assert_allclose(answers(finished, X).sum(-1), 1.0, rtol=1e-6)
