"""Run by the tests in a process of its own: two replicas must be fixed before TensorFlow starts."""

import json

import keras
import tensorflow as tf

from keras_kd.data_free import DFAD, DataFreeDistiller
from tests.data_free.data_free_models import mlp, noise_to_features


def plain(width, seed):
    return mlp(width, seed, batch_norm=False)


def without_norm():
    model = noise_to_features()
    return keras.Sequential([keras.Input((2,)), model.layers[0], model.layers[-1]])


def rounds(strategy):
    with strategy.scope():
        distiller = DataFreeDistiller(plain(5, 2), plain(7, 1), without_norm(), method=DFAD(2))
        distiller._noise_seed.state.assign([5, 0])
        distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9), generator_optimizer=keras.optimizers.SGD(0.1))
    history = distiller.fit(steps_per_epoch=2, epochs=2, batch_size=8, verbose=0).history
    weights = [*distiller.student.get_weights(), *distiller.generator.get_weights()]
    return history, [weight.tolist() for weight in weights]


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert mirrored.num_replicas_in_sync == 2
    print("RESULT" + json.dumps([rounds(strategy) for strategy in (tf.distribute.get_strategy(), mirrored)]))
