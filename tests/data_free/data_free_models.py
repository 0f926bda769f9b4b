"""Models small enough to play a round by hand."""

import keras
import numpy as np
from keras import layers

from keras_kd.data_free import DFAD, DataFreeDistiller

NOISE, FEATURES, CLASSES = 2, 4, 3


def mlp(width, seed, *, batch_norm=True, name=None):
    keras.utils.set_random_seed(seed)
    norm = [layers.BatchNormalization(name="norm")] if batch_norm else []
    stack = [
        keras.Input((FEATURES,)),
        layers.Dense(width, "tanh", name="hidden"),
        *norm,
        layers.Dense(CLASSES, name="head"),
    ]
    return keras.Sequential(stack, name=name)


def dropping():
    """A student with a random generator of its own."""
    model = mlp(5, seed=2, name="student")
    stack = [*model.layers[:-1], layers.Dropout(0.3, seed=8), model.layers[-1]]
    return keras.Sequential([keras.Input((FEATURES,)), *stack], name="student")


def noise_to_features(seed=3, *, l2=None):
    keras.utils.set_random_seed(seed)
    regularizer = None if l2 is None else keras.regularizers.L2(l2)
    stack = [layers.Dense(6, "tanh", kernel_regularizer=regularizer), layers.BatchNormalization(momentum=0.9)]
    return keras.Sequential([keras.Input((NOISE,)), *stack, layers.Dense(FEATURES)], name="generator")


def teacher():
    """One whose statistics are not those that it began with."""
    model = mlp(7, seed=1, name="wise_teacher")
    model.get_layer("norm").moving_mean.assign(np.linspace(-0.5, 0.5, 7))
    return model


def player(method=None, *, rate=0.1, generator_rate=0.05, metrics=None, l2=None, student=None, **kwargs):
    """A compiled distiller, the same each time; by default of DFAD with one step of each."""
    models = student or mlp(5, seed=2, name="student"), teacher(), noise_to_features(l2=l2)
    keras.utils.set_random_seed(4)
    distiller = DataFreeDistiller(*models, method=method or DFAD(1), **kwargs)
    optimizers = keras.optimizers.SGD(rate, momentum=0.9), keras.optimizers.SGD(generator_rate)
    distiller.compile(optimizers[0], generator_optimizer=optimizers[1], metrics=metrics)
    return distiller


def twin(model):
    """A second model with the same weights."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    return other


def noise_of(distiller):
    """The batches of noise that training will draw next."""
    seed = keras.random.SeedGenerator(0)
    seed.state.assign(distiller._noise_seed.state)
    return lambda count: keras.random.normal((count, NOISE), seed=seed)
