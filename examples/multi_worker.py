"""A student of handwritten digits that several workers train in step, from what a teacher said once.

    python examples/multi_worker.py --workers 2

On a cluster, call it once with `--workers 0`, and then on every machine with its own `TF_CONFIG` and an `--out` that
all of them read. If a worker dies, so do the others: start all again, and they go on after the last whole epoch.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import tensorflow as tf

import keras_kd as kd

EPOCHS, GLOBAL_BATCH = 12, 64
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
(X, Y), TEST = kd.data.digits()


def network(width: int) -> keras.Model:
    """A convolutional network of so many channels, which gives logits."""
    convolution = keras.layers.Conv2D(width, 3, activation="relu")
    return keras.Sequential([keras.Input((8, 8, 1)), convolution, keras.layers.Flatten(), keras.layers.Dense(10)])


def prepare(out: Path) -> None:
    """Asks a teacher, once, what the workers will learn from."""
    if (out / "cache").exists():
        return
    keras.utils.set_random_seed(0)
    teacher = network(64)
    teacher.compile("adam", LOSS)
    teacher.fit(X, Y, epochs=EPOCHS, verbose=0)
    kd.cache_teacher(teacher, X, out / "cache")


def work(out: Path) -> None:
    """What every worker does; `TF_CONFIG` says which of them it is."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    chief = strategy.cluster_resolver.task_id == 0
    keras.utils.set_random_seed(0)  # shuffled alike by all, no example is seen twice in an epoch
    with strategy.scope():
        distiller = kd.Distiller(network(8), teacher=None)
        distiller.compile(keras.optimizers.Adam(0.005), LOSS, metrics=["accuracy"])
    data = kd.open_cache(out / "cache", (X, Y)).shuffle(len(X), seed=0).batch(GLOBAL_BATCH)
    backup = kd.BackupAndRestore(out / "backup")  # read by all, written by the chief
    distiller.fit(data, epochs=EPOCHS, callbacks=[backup], verbose=2 if chief else 0)
    results = distiller.evaluate(*TEST, batch_size=GLOBAL_BATCH, verbose=0, return_dict=True)  # all take part
    if chief:
        print(kd.export_student(distiller.student, out / "student", evaluation_data=TEST))
        print(f"{strategy.num_replicas_in_sync} workers: accuracy {results['accuracy']:.3f} on {len(TEST[0])} images")


def start(workers: int, port: int, out: Path) -> int:
    """Starts workers on this machine, and returns how the worst of them ended."""
    cluster = {"worker": [f"127.0.0.1:{port + worker}" for worker in range(workers)]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(workers)]
    command = [sys.executable, __file__, "--out", out]
    processes = [subprocess.Popen(command, env=os.environ | {"TF_CONFIG": config}) for config in configs]
    return max((abs(process.wait()) for process in processes), default=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=12345, help="of the first worker; the others' follow")
    parser.add_argument("--out", type=Path, default=Path("saved_models/multi_worker"))
    options = parser.parse_args()
    if "TF_CONFIG" in os.environ:
        sys.exit(work(options.out))
    prepare(options.out)
    sys.exit(start(options.workers, options.port, options.out))
