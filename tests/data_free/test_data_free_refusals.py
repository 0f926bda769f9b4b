"""Bad arguments are refused with the expected, the received and the remedy, before anything is traced."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd import Distiller, Ensemble
from keras_kd.data_free import DAFL, DFAD, DataFreeDistiller, image_generator
from keras_kd.objectives import DecoupledKD
from tests.data_free.data_free_models import mlp, noise_to_features, player, teacher


def distiller(**kwargs):
    return DataFreeDistiller(**{"student": mlp(5, 2), "teacher": mlp(7, 1), "generator": noise_to_features(), **kwargs})


def images(size):
    return keras.Sequential([keras.Input((size, size, 1)), layers.Flatten(), layers.Dense(3)])


def open_generator():
    return keras.Sequential([layers.Dense(4)], name="open")


def two_kinds_of_noise():
    noise = [keras.Input((2,)), keras.Input((3,))]
    return keras.Model(noise, layers.Dense(4)(layers.Concatenate()(noise)), name="two")


def array_teacher(x):
    return np.zeros((len(x), 3), "float32")


OF_DATA = (
    "`DataFreeDistiller`: training takes no data, its generator draws them. Received: data of type ndarray. Give "
    "`steps_per_epoch` alone, and labelled data as `validation_data`; to train on data use `Distiller`."
)
OF_NOISE = (
    "`DataFreeDistiller`: the generator `{}` must take one tensor of noise of a known shape (None, ...). Received: "
    "None. Begin it with `keras.Input((latent_dim,))`."
)
NO_END = (
    "`DataFreeDistiller`: there are no data that would end: `fit` must be given `steps_per_epoch` and `batch_size`, "
    "whole numbers >= 1. Received: {}."
)
REFUSED = {
    "method": (
        lambda: distiller(method="dream"),
        "`DataFreeDistiller`: `method` must be one of ['dfad', 'dafl'], a `DFAD` or a `DAFL`. Received: "
        "method='dream'.",
    ),
    "no images": (
        lambda: distiller(generator=None),
        "`DataFreeDistiller`: there is a default generator for students of images alone, of a known shape (None, "
        "height, width, channels). Received: a student that takes (None, 4). Give `generator`, a Keras model that "
        "makes of noise what the student takes.",
    ),
    "size unknown": (
        lambda: DataFreeDistiller(
            keras.Sequential([keras.Input((None, None, 1)), layers.GlobalMaxPooling2D(), layers.Dense(3)]), images(8)
        ),
        "`DataFreeDistiller`: there is a default generator for students of images alone, of a known shape (None, "
        "height, width, channels). Received: a student that takes (None, None, None, 1). Give `generator`, a Keras "
        "model that makes of noise what the student takes.",
    ),
    "generator is no model": (
        lambda: distiller(generator="dcgan"),
        "`DataFreeDistiller`: `generator` must be a `keras.Model`. Received: 'dcgan'.",
    ),
    "generator unbuilt": (lambda: distiller(generator=open_generator()), OF_NOISE.format("open")),
    "two kinds of noise": (
        lambda: distiller(generator=two_kinds_of_noise()),
        OF_NOISE.format("two"),
    ),
    "generator of another shape": (
        lambda: DataFreeDistiller(images(8), images(8), image_generator((9, 9, 1), width=2)),
        "`DataFreeDistiller`: the generator `generator` must give what the student takes, (None, 8, 8, 1). Received: "
        "(None, 9, 9, 1).",
    ),
    "labels": (
        lambda: distiller(objectives=DecoupledKD()),
        "`DataFreeDistiller`: what a generator draws has no labels. Received: objectives ['decoupled_kd'], which "
        "compare with labels. Leave them out.",
    ),
    "teacher of arrays": (
        lambda: distiller(teacher=array_teacher),
        "`DataFreeDistiller`: the generator learns through the teacher's gradients, and `array_teacher` is no Keras "
        "model: it gives none. Give the Keras model, or train on data with `Distiller`.",
    ),
    "teacher of arrays, later": (
        lambda: setattr(distiller(), "teacher", array_teacher),
        "`DataFreeDistiller`: the generator learns through the teacher's gradients, and `array_teacher` is no Keras "
        "model: it gives none. Give the Keras model, or train on data with `Distiller`.",
    ),
    "temperature": (
        lambda: distiller(temperature=0),
        "`DataFreeDistiller`: `temperature` must be > 0. Received: temperature=0.",
    ),
    "no compile": (
        lambda: distiller().fit(steps_per_epoch=1),
        "`DataFreeDistiller`: call `compile()` before `fit()`.",
    ),
    "data": (lambda: player().fit(np.ones((3, 4)), steps_per_epoch=1), OF_DATA),
    "labels alone": (lambda: player().fit(y=np.ones(3), steps_per_epoch=1), OF_DATA),
    "a batch": (lambda: player().train_on_batch(np.ones((3, 4))), OF_DATA),
    "no batch": (
        lambda: player().train_on_batch(),
        "`DataFreeDistiller`: `train_on_batch` has no batch. Use `fit(steps_per_epoch=1)`.",
    ),
    "no steps": (lambda: player().fit(), NO_END.format("steps_per_epoch=None")),
    "steps": (lambda: player().fit(steps_per_epoch=0), NO_END.format("steps_per_epoch=0")),
    "batch size": (lambda: player().fit(steps_per_epoch=1, batch_size=0), NO_END.format("batch_size=0")),
    "student steps": (
        lambda: DFAD(0),
        "`DFAD`: `student_steps` must be a whole number >= 1. Received: student_steps=0.",
    ),
    "fraction of a step": (
        lambda: DFAD(2.5),
        "`DFAD`: `student_steps` must be a whole number >= 1. Received: student_steps=2.5.",
    ),
    "weight": (
        lambda: DAFL(entropy_weight=-1),
        "`DAFL`: `entropy_weight` must be >= 0. Received: entropy_weight=-1.",
    ),
    "tap": (
        lambda: DAFL(":input"),
        "A tap must be a layer's name, optionally with the number of the call and the side: 'block3', "
        "'backbone/block4_add', 'shared[1]', 'head:input'. Received: ':input'.",
    ),
    "features of an ensemble": (
        lambda: fit(distiller(teacher=Ensemble([teacher(), mlp(8, 3, name="second")]), method="dafl")),
        "`DAFL`: features of several teachers have no mean, so there is no activation loss. Received: "
        "`wise_teacher+second`. Give one teacher, or `DAFL(activation_weight=0)`.",
    ),
    "no teacher": (
        lambda: fit(distiller(teacher=None)),
        "`Distiller`: there is no teacher to learn from. Assign one, `distiller.teacher = model`; it is not saved with "
        "the student. Or train on a cache, `keras_kd.open_cache(path, dataset)`.",
    ),
    "shape of images": (
        lambda: image_generator((28, 28)),
        "`image_generator`: `shape` must be (height, width, channels). Received: shape=(28, 28).",
    ),
}


def fit(model):
    model.compile("sgd")
    return model.fit(steps_per_epoch=1, batch_size=2, verbose=0)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    make, text = REFUSED[case]
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()


def test_a_tap_that_is_not_there_is_found_before_training():
    with pytest.raises(ValueError, match="'nowhere'") as refusal:
        fit(distiller(method=DAFL("nowhere")))
    assert "hidden" in str(refusal.value)


def test_it_is_a_distiller():
    assert isinstance(distiller(), Distiller)
