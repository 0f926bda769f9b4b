"""Students with a head for the labels and heads that learn from a teacher with one."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from scipy.special import softmax

import keras_kd as kd
from keras_kd.objectives.labelled import DecoupledKD
from keras_kd.objectives.logits import HardLabels, SoftTargets
from tests.losses.cases import labelled, logits

RATE = 0.5


def distiller_of(student, teacher, objectives, alpha=0.5, loss_for="class"):
    distiller = kd.Distiller(student, teacher, objectives, alpha=alpha)
    loss = {loss_for: keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    distiller.compile(keras.optimizers.SGD(RATE), loss)
    return distiller


def said(*models, x):
    return [keras.tree.map_structure(np.asarray, model(x, training=False)) for model in models]


def assert_close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=5e-5, atol=2e-5)


def classifier(seed, heads=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    if heads is None:
        return keras.Model(inputs, layers.Dense(3)(inputs))
    hidden = layers.Dense(5, "tanh")(inputs)
    return keras.Model(inputs, {name: layers.Dense(3, name=name)(hidden) for name in heads})


X = np.random.default_rng(7).normal(size=(8, 4)).astype("float32")
Y = np.arange(8) % 3


def cross_entropy_of(labels, logits):
    return -np.log(softmax(np.float64(logits), -1)[np.arange(len(labels)), labels])


def test_a_distillation_head_learns_the_teachers_decisions_beside_the_head_for_the_labels():
    teacher, student = classifier(1), classifier(2, ("class", "distillation"))
    distiller = distiller_of(student, teacher, HardLabels(outputs=["distillation"]))
    taught, learnt = said(teacher, student, x=X)
    hard = cross_entropy_of(taught.argmax(-1), learnt["distillation"]).mean()
    labelled_loss = cross_entropy_of(Y, learnt["class"]).mean()
    kernel = student.get_layer("distillation").kernel.numpy()
    hidden = np.asarray(student.layers[1](X))

    logs = distiller.train_on_batch(X, {"class": Y}, return_dict=True)
    assert_close(logs["hard_labels"], hard)
    assert_close(logs["student_loss"], labelled_loss)
    assert_close(logs["loss"], 0.5 * labelled_loss + 0.5 * hard)
    error = softmax(learnt["distillation"], -1) - np.eye(3)[taught.argmax(-1)]
    moved = student.get_layer("distillation").kernel.numpy() - kernel
    assert_close(moved, -RATE * 0.5 * hidden.T @ error / len(X))

    steps = tf.data.Dataset.from_tensors((X, {"class": Y})).repeat(100)
    history = distiller.fit(steps, epochs=2, verbose=0).history
    (after,) = said(student, x=X)
    np.testing.assert_array_equal(after["distillation"].argmax(-1), taught.argmax(-1))
    assert history["hard_labels"][-1] < 0.5 * hard


def test_every_distillation_head_has_an_objective_of_its_own():
    teacher, student = classifier(1), classifier(2, ("class", "decided", "softened"))
    objectives = [HardLabels(outputs=["decided"]), SoftTargets(2.0, outputs=["softened"])]
    distiller = distiller_of(student, teacher, objectives, alpha=0.25)
    taught, learnt = said(teacher, student, x=X)
    hard = cross_entropy_of(taught.argmax(-1), learnt["decided"]).mean()
    soft = logits.kl(np.float64(taught), np.float64(learnt["softened"]), 2.0).mean()
    labelled_loss = cross_entropy_of(Y, learnt["class"]).mean()
    logs = distiller.train_on_batch(X, {"class": Y}, return_dict=True)
    expected = {"hard_labels": hard, "soft_targets": soft, "student_loss": labelled_loss}
    for name, value in {**expected, "loss": 0.25 * labelled_loss + 0.75 * (hard + soft)}.items():
        assert_close(logs[name], value)


def test_labels_are_those_of_the_output():
    teacher, student = classifier(1, ("a", "b")), classifier(2, ("a", "b"))
    distiller = distiller_of(student, teacher, DecoupledKD(4.0, outputs=["b"]), loss_for="a")
    taught, learnt = said(teacher, student, x=X)
    of_b = Y[::-1].copy()
    expected = labelled.decoupled(np.float64(taught["b"]), np.float64(learnt["b"]), of_b).mean()
    logs = distiller.train_on_batch(X, {"a": Y, "b": of_b}, return_dict=True)
    assert_close(logs["decoupled_kd"], expected)
