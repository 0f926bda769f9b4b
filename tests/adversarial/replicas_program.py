"""Run by the tests in a process of its own: two replicas must be fixed before TensorFlow starts.

Prints, as JSON, what two steps of both players log and leave behind, on one device and on two.
"""

import json
import sys
import traceback

import keras
import numpy as np
import tensorflow as tf

from keras_kd.adversarial import AdversarialDistiller
from tests.adversarial.players import X, Y
from tests.distiller.small_models import cross_entropy, mlp


def steps(strategy, mode):
    with strategy.scope():
        teacher, student = mlp(7, seed=1), mlp()
        keras.utils.set_random_seed(5)
        distiller = AdversarialDistiller(student, teacher, mode=mode, discriminator_steps=2)
        distiller.compile(keras.optimizers.SGD(0.3), keras.optimizers.SGD(0.2), loss=cross_entropy())
    data = tf.data.Dataset.from_tensor_slices((X, Y, np.linspace(0.5, 1.5, 24))).batch(12)
    logged = distiller.fit(data, verbose=0).history
    players = (student, distiller.discriminator, distiller.judged)
    return logged, [weight.tolist() for player in players for weight in player.get_weights()]


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results = {}
    for mode in json.loads(sys.argv[1]):
        try:
            results[mode] = [steps(strategy, mode) for strategy in (tf.distribute.get_strategy(), mirrored)]
        except Exception:
            results[mode] = traceback.format_exc()
    print("RESULT" + json.dumps(results))
