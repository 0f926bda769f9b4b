"""Three players small enough to play in a blink."""

import re

import keras
import pytest

from keras_kd.adversarial.kdgan import label_discriminator
from keras_kd.adversarial.three_players import ThreePlayerDistiller
from tests.distiller.small_models import cross_entropy, mlp

RATES = {"optimizer": 0.2, "discriminator_optimizer": 0.05, "teacher_optimizer": 0.3}


def sgd(**rates):
    return {name: keras.optimizers.SGD(rate) for name, rate in {**RATES, **rates}.items()}


def judge():
    """Of labels, by the scores of a small model of the inputs."""
    return label_discriminator(mlp(6, seed=3))


def three(student=None, teacher=None, discriminator=None, *args, compile_with=None, eager=True, noise=9, **arguments):
    """A compiled distiller, whose draws begin at a known place where there is a `noise`."""
    players = student or mlp(), teacher or mlp(7, seed=1), discriminator or judge()
    distiller = ThreePlayerDistiller(*players, *args, **arguments)
    if noise is not None:
        distiller._seeds = keras.random.SeedGenerator(noise)
    distiller.compile(**{**sgd(), "loss": cross_entropy(), "run_eagerly": eager, **(compile_with or {})})
    return distiller


def check_refused(text):
    """A context in which a ValueError with just this text is raised."""
    return pytest.raises(ValueError, match=f"^{re.escape(text)}$")
