"""Teachers of several kinds; run as a program, it prints their fingerprints, as JSON."""

import json

import keras
import numpy as np

import keras_kd as kd
from keras_kd.cache.fingerprints import teacher_fingerprint

IDS = ("sequential", "functional", "nested", "named", "subclass")


@keras.saving.register_keras_serializable("tests")
class Net(keras.Model):
    """Without a config."""

    def __init__(self, activation):
        super().__init__()
        self.hidden, self.head = keras.layers.Dense(5, activation), keras.layers.Dense(3)

    def call(self, inputs):
        return self.head(self.hidden(inputs))


def sequential(activation):
    layers = [keras.layers.Dense(5, activation), keras.layers.Dropout(0.5), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])


def functional(activation):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, activation)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden * 2.0 + keras.layers.Dense(5)(inputs)))


def nested(activation):
    inputs = keras.Input((4,))
    return keras.Model(inputs, sequential(activation)(keras.layers.Rescaling(2.0)(inputs)))


def named(activation):
    layers = [keras.layers.Dense(6, activation, name="hidden"), keras.layers.Dense(3, name="head")]
    return keras.Sequential([keras.Input((4,)), *layers], name="teacher")


def subclass(activation):
    model = Net(activation)
    model(np.zeros((2, 4), "float32"))
    return model


def net(kind, activation="relu"):
    """A teacher with weights that count up."""
    model = globals()[kind](activation)
    model.set_weights([np.arange(weight.size, dtype="float32").reshape(weight.shape) for weight in model.get_weights()])
    return model


def fingerprints_here():
    return {kind: teacher_fingerprint(kd.Teacher(net(kind))) for kind in IDS}


if __name__ == "__main__":
    print("RESULT" + json.dumps(fingerprints_here()))
