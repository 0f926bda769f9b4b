"""Models and data small enough to train in a blink."""

import keras
import numpy as np

import keras_kd as kd

FEATURES, CLASSES = 4, 3


def mlp(width=5, *, seed=0, classes=CLASSES, features=FEATURES, l2=None, batch_norm=False, name=None):
    keras.utils.set_random_seed(seed)
    regularizer = None if l2 is None else keras.regularizers.L2(l2)
    layers = [
        keras.Input((features,)),
        keras.layers.Dense(width, "tanh", kernel_regularizer=regularizer, name="hidden"),
        *([keras.layers.BatchNormalization(name="norm")] if batch_norm else []),
        keras.layers.Dense(classes, bias_initializer="random_normal", name="head"),
    ]
    return keras.Sequential(layers, name=name)


def constant(logits, *, features=FEATURES, name=None):
    """Gives the same logits for every example, by its bias."""
    bias = keras.initializers.Constant(np.array(logits, "float32"))
    layer = keras.layers.Dense(len(logits), kernel_initializer="zeros", bias_initializer=bias, name="head")
    return keras.Sequential([keras.Input((features,)), layer], name=name)


def examples(count=12, *, seed=0, features=FEATURES, classes=CLASSES):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, features)).astype("float32"), rng.integers(0, classes, count)


def cross_entropy(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **kwargs)


def compiled_distiller(student, teacher, objectives=None, *, compile_with=None, **kwargs):
    distiller = kd.Distiller(student, teacher, objectives, **kwargs)
    distiller.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": cross_entropy(), **(compile_with or {})})
    return distiller


def twin(model):
    """A second model with the same weights."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    return other


def answers(model, x):
    """What a model gives in inference mode, as NumPy."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def values_of(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assert_same(received, expected, **tolerance):
    """Bit-identical, unless a tolerance is given."""
    assert len(received) == len(expected)
    for one, other in zip(received, expected, strict=True):
        if tolerance:
            np.testing.assert_allclose(one, other, **tolerance)
        else:
            np.testing.assert_array_equal(one, other)


def assert_same_history(received, expected, **tolerance):
    """Of the keys that both log."""
    for key, values in expected.items():
        np.testing.assert_allclose(received[key], values, **(tolerance or {"rtol": 1e-6}), err_msg=key)
