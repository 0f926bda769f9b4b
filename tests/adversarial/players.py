"""Students, teachers and discriminators small enough to play in a blink."""

import keras
import numpy as np

from keras_kd.adversarial import ANC, AdversarialDistiller
from tests.distiller.small_models import cross_entropy, examples, mlp

MODES = ("ac", "gan", "anc", "wgan-gp", "hinge")
X, Y = examples(24)


def adversarial(student=None, teacher=None, *players, compile_with=None, eager=True, **arguments):
    """A compiled distiller; eager, for tracing takes longer than a few steps."""
    teacher = mlp(7, seed=1) if teacher is None else teacher
    distiller = AdversarialDistiller(student or mlp(), teacher, *players, **arguments)
    distiller.compile(
        **{
            "optimizer": keras.optimizers.SGD(0.1),
            "loss": cross_entropy(),
            "run_eagerly": eager,
            **(compile_with or {}),
        }
    )
    return distiller


def judge(width, outputs=1, *, seed=3):
    """Of a vector, with one hidden layer."""
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(6, "tanh")
    return keras.Sequential([keras.Input((width,)), hidden, keras.layers.Dense(outputs)], name="judge")


def judge_beside(width, inputs, *, seed=3):
    """Of a vector beside the inputs."""
    keras.utils.set_random_seed(seed)
    judged, seen = keras.Input((width,)), keras.Input((inputs,))
    hidden = keras.layers.Dense(6, "tanh")(keras.layers.Concatenate()([judged, seen]))
    return keras.Model([judged, seen], keras.layers.Dense(1)(hidden), name="judge")


def judge_for(mode):
    """One that suits the mode, for the models of `mlp()` and `mlp(5)`."""
    if mode in ("wgan-gp", "hinge"):
        return judge_beside(3, 4)
    return judge(5) if mode == "anc" or isinstance(mode, ANC) else judge(3, 4 if mode == "ac" else 1)


def as_arrays(*models_or_optimizers):
    return [np.array(variable) for one in models_or_optimizers for variable in one.variables]


def both_players(distiller):
    """All that a resumed run must have again."""
    return as_arrays(
        distiller.student,
        distiller.discriminator,
        distiller.judged,
        distiller.optimizer,
        distiller.discriminator_optimizer,
    )
