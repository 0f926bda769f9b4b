"""Trains on a live and a cached teacher by turns for so many seconds, and says what it holds after each turn.

Run with the seconds and a folder for the cache. Prints a line of JSON for each turn: seconds since the start, steps
made, KiB resident, open files.
"""

import json
import os
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import keras_kd as kd
from keras_kd.data import random_shift

EXAMPLES, SIDE, BATCH, EPOCHS = 512, 8, 16, 8
TAP = "hidden"


def network(width, seed):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    parts = [layers.Flatten(), layers.Dense(width, "relu", name=TAP), layers.Dropout(0.1), layers.Dense(10)]
    return keras.Sequential([keras.Input((SIDE, SIDE, 1)), *parts], name=f"width_{width}")


def distiller_of(teacher, student):
    distiller = kd.Distiller(student, teacher, [kd.objectives.SoftTargets(), kd.objectives.Hint(TAP, TAP)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy", "agreement"])
    return distiller


def hurried(dataset):
    """Without autotune, whose thread of an iterator that is done is waited for up to seconds (TensorFlow 2.21)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def pupils(folder):
    """Each distiller with its batches, and batches to evaluate on."""
    rng = np.random.default_rng(0)
    x, y = rng.random((EXAMPLES, SIDE, SIDE, 1), "float32"), rng.integers(0, 10, EXAMPLES)
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    teacher, shift = network(32, seed=1), random_shift(1)
    kd.cache_teacher(teacher, examples, folder, taps=[TAP], views=2, augment=shift, verbose=0)
    cached = kd.open_cache(folder, examples, augment=shift).shuffle(EXAMPLES).batch(BATCH)
    live = examples.map(lambda x, y: (shift(x, (0, 1)), y)).shuffle(EXAMPLES).batch(BATCH)
    test = hurried(examples.take(64).batch(BATCH))
    yield distiller_of(teacher, network(8, seed=2)), hurried(live), test
    yield distiller_of(None, network(8, seed=3)), hurried(cached), test


def held():
    """KiB resident and open files."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024, len(os.listdir("/proc/self/fd"))


def main(seconds, folder):
    taught, start, steps = list(pupils(folder)), time.monotonic(), 0
    while time.monotonic() - start < seconds:
        for distiller, batches, test in taught:
            logged = distiller.fit(batches, epochs=EPOCHS, validation_data=test, shuffle=False, verbose=0).history
            assert np.isfinite(logged["loss"]).all()
            steps += EPOCHS * EXAMPLES // BATCH
        print(json.dumps([time.monotonic() - start, steps, *held()]), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
