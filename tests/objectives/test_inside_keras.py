"""Objectives among the losses of `keras.distillation.Distiller`."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd import objectives as o
from tests.losses.cases.features import hint
from tests.losses.cases.logits import kl
from tests.losses.cases.relations import similarity_preserving

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 8)).astype("float32"), np.arange(16) % 3


def network(width, name):
    hidden = layers.Dense(width, "tanh", name="hidden")  # a ReLU may leave an example without a direction
    return keras.Sequential([keras.Input((8,)), hidden, layers.Dense(3, name="head")], name=name)


def trained(objective, width=6, **options):
    keras.utils.set_random_seed(0)
    teacher, student = network(6, "teacher"), network(width, "student")
    said = [(np.float64(model.layers[0](X)), np.float64(model(X))) for model in (teacher, student)]
    distiller = keras.distillation.Distiller(
        teacher=teacher, student=student, distillation_losses=[objective], student_loss_weight=0.0, **options
    )
    distiller.compile(keras.optimizers.SGD(0.1), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = distiller.fit(X, Y, batch_size=16, epochs=3, verbose=0).history["distillation_loss"]
    return distiller, history, *said


@pytest.mark.parametrize(
    ("objective", "oracle"),
    [
        (lambda: o.SoftTargets(2.0), lambda t, s: kl(t[1], s[1], 2.0)),
        (lambda: o.SoftTargets(), lambda t, s: kl(t[1], s[1], 4.0)),
        (lambda: o.Hint("hidden", "hidden", weight=0.5), lambda t, s: 0.5 * hint(t[0], s[0])),
        (
            lambda: o.SimilarityPreserving("hidden", "hidden"),
            lambda t, s: similarity_preserving(t[0], s[0]),
        ),
    ],
)
def test_the_distillation_loss_is_the_weighted_mean_of_the_objective(objective, oracle):
    _, history, teacher, student = trained(objective())
    np.testing.assert_allclose(history[0], oracle(teacher, student).mean(), rtol=1e-4)
    assert history[-1] < history[0]


def test_a_projector_trains_there_too():
    objective = o.Hint("hidden", "hidden")
    distiller, history, *_ = trained(objective, width=4)
    kernel = objective.trainable_weights[0]
    assert kernel.shape == (4, 6)
    assert any(kernel is variable for variable in distiller.trainable_variables)
    assert history[-1] < history[0]


def test_it_is_saved_with_that_distiller():
    distiller, *_ = trained(o.Hint("hidden", "hidden", weight=0.5), width=4)
    again = type(distiller).from_config(distiller.get_config())
    assert again.distillation_losses[0].get_config() == distiller.distillation_losses[0].get_config()


@pytest.mark.parametrize(
    ("objective", "missing"),
    [
        (lambda: o.Hint("block/hidden", "hidden"), "taps other than names of layers"),
        (lambda: o.Hint("head:input", "hidden"), "taps other than names of layers"),
        (lambda: o.FlowOfSolution(["hidden", "head"], ["hidden", "head"]), "more than one layer of a model"),
        (lambda: o.SimKD("hidden", "hidden"), "an end of its own for the student"),
        (lambda: o.DecoupledKD(), "labels"),
    ],
)
def test_what_its_form_does_not_allow_is_refused_at_the_start(objective, missing):
    objective = objective()
    text = (
        f"`{type(objective).__name__}`: `keras.distillation.Distiller` cannot give {missing}. Use `keras_kd.Distiller`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        trained(objective)


def test_features_that_do_not_fit_are_refused_at_the_start():
    with pytest.raises(ValueError, match=r"^`Hint`: the student feature 'hidden' must have the shape of the teacher"):
        trained(o.Hint("hidden", "hidden", projector=None), width=4)
