"""Models, data and callbacks for the tests of chains, small enough to train in a blink."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_kd as kd

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 3))).argmax(-1)
VALIDATION = RNG.normal(size=(30, 4)).astype("float32"), RNG.integers(0, 3, 30)
BATCH = 30


def mlp(width, seed, *, built=True, dropout=0.0, dtype=None):
    keras.utils.set_random_seed(seed)
    parts = [layers.Dense(width, "tanh", name="hidden", dtype=dtype), layers.Dense(3, name="head", dtype=dtype)]
    if dropout:
        parts.insert(1, layers.Dropout(dropout, seed=seed))
    return keras.Sequential([keras.Input((4,)), *parts] if built else parts, name=f"mlp_{width}")


def models(**kwargs):
    """A teacher, an assistant and a student; the same each time."""
    return [mlp(9, 1, **kwargs), mlp(7, 2, **kwargs), mlp(5, 3, **kwargs)]


def data(x=X, y=Y, batch=BATCH):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def how_to_compile(rate=0.3, **kwargs):
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    # Chains so small train in less time than their graphs take to trace.
    return {"optimizer": optimizer, "loss": cross_entropy(), "metrics": ["accuracy"], "run_eagerly": True, **kwargs}


def chain_of(given=None, *, compile_with=None, **kwargs):
    chain = kd.TeacherAssistantChain(models() if given is None else given, **kwargs)
    chain.compile(**how_to_compile(**(compile_with or {})))
    return chain


def fit(chain, x=None, y=None, **kwargs):
    """The history of each hop."""
    x = data() if x is None else x
    return chain.fit(x, y, **{"validation_data": VALIDATION, "epochs": 2, "verbose": 0, **kwargs})


def accuracy(model, x=VALIDATION[0], y=VALIDATION[1]):
    return (logits(model, x).argmax(-1) == y).mean()


def logits(model, x=VALIDATION[0]):
    return np.asarray(model(x, training=False))


def weights(chain):
    """Of all that it trains."""
    return [value for model in chain.models for value in model.get_weights()]


def assert_same(received, expected, **tolerance):
    assert len(received) == len(expected)
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, **(tolerance or {"rtol": 1e-6, "atol": 1e-7}))


def assert_same_histories(received, expected, **tolerance):
    assert [list(of_hop) for of_hop in received] == [list(of_hop) for of_hop in expected]
    for one, other in zip(received, expected, strict=True):
        for key, values in other.items():
            np.testing.assert_allclose(one[key], values, **(tolerance or {"rtol": 1e-5}), err_msg=key)
