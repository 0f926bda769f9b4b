"""A student of handwritten digits that a TPU trains, its teacher beside it. Not tested on a TPU: we have none.

    python examples/tpu.py

on a TPU virtual machine. What differs from a run on one GPU: models are made under the strategy's scope; all batches
have one size, for XLA compiles for it; several steps run in one call; and what is exported is a copy of the student on
the host.
"""

from pathlib import Path

import keras
import tensorflow as tf

import keras_kd as kd

EPOCHS, BATCH_PER_CORE = 20, 16
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(width: int) -> keras.Model:
    """A convolutional network of so many channels, which gives logits."""
    convolution = keras.layers.Conv2D(width, 3, activation="relu")
    return keras.Sequential([keras.Input((8, 8, 1)), convolution, keras.layers.Flatten(), keras.layers.Dense(10)])


def tpu() -> tf.distribute.Strategy:
    """All cores of this machine's TPU."""
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


def distil(strategy: tf.distribute.Strategy, out: Path) -> kd.ExportReport:
    """Trains teacher and student under a strategy, and exports the student."""
    (x, y), test = kd.data.digits()
    batch = BATCH_PER_CORE * strategy.num_replicas_in_sync
    data = tf.data.Dataset.from_tensor_slices((x, y)).cache().shuffle(len(x)).batch(batch, drop_remainder=True)
    data = data.prefetch(tf.data.AUTOTUNE)
    settings = {"loss": LOSS, "metrics": ["accuracy"], "steps_per_execution": 4}
    keras.utils.set_random_seed(0)
    with strategy.scope():
        teacher = network(64)
        teacher.compile("adam", **settings)
        distiller = kd.Distiller(network(8), teacher)
        distiller.compile("adam", **settings)
    teacher.fit(data, epochs=EPOCHS, verbose=2)
    distiller.fit(data, epochs=EPOCHS, verbose=2)
    student = network(8)
    student.set_weights(distiller.student.get_weights())
    return kd.export_student(student, out, evaluation_data=test)


if __name__ == "__main__":
    print(distil(tpu(), Path("saved_models/tpu")))
