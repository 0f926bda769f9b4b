"""Run by the tests in a process of its own, which forks one more for each run: some kill themselves.

Gets the folder to work in and prints, as JSON, what each run ended with and the batches that it trained on.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_kd.assistants.records import HopFolder
from keras_kd.objectives import DenseGuidance, Hint, SoftTargets
from tests.assistants.chains import X, Y, chain_of, data, fit, mlp, models, weights


class Watch(keras.callbacks.Callback):
    """Writes down each batch of a hop, and kills the process at one of them."""

    def __init__(self, hop, file, kill):
        super().__init__()
        self._hop, self._file, self._kill, self._epoch = hop, file, kill, None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        with self._file.open("a") as file:
            file.write(f"{json.dumps([self._hop, self._epoch, batch])}\n")
        if self._kill == [self._hop, self._epoch, batch]:
            die()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_the_state_of(hop, epoch):
    """Kills the process when an epoch is logged, and the state after it is about to be written."""
    save_state = HopFolder.save_state

    def save_or_die(folder, model, next_epoch):
        if (folder.weights.parent.name, next_epoch) == (f"hop_{hop}", epoch + 1):
            die()
        save_state(folder, model, next_epoch)

    HopFolder.save_state = save_or_die


def hint():
    """With a projector whose first weights do not depend on what was drawn before it."""
    seeded = keras.initializers.GlorotUniform(seed=4)
    return Hint("hidden", "hidden", projector=keras.layers.Dense(9, kernel_initializer=seeded))


def dim(x, seed):
    return x * tf.random.stateless_uniform((), seed, 0.5, 1.0)


def live(folder, **kwargs):
    """Unbuilt models with Dropout, and a projector."""
    objectives = [[SoftTargets()], [SoftTargets(), hint()]]
    # The second hop's teacher is the assistant: its feature has 7 channels, and so must the projector.
    objectives[1][1].projector.units = 7
    chain = chain_of(models(built=False, dropout=0.4), objectives=objectives, train_teacher=True)
    return chain, fit(chain, folder=folder, **kwargs)


def cached(folder, callbacks=None, **kwargs):
    """Unbuilt students of two cached teachers, one of which each batch drops."""
    made = [mlp(9, 1), mlp(7, 2, built=False), mlp(5, 3, built=False)]
    chain = chain_of(made, objectives=DenseGuidance(seed=3), dense=True)
    cache = {"dtype": "float32", "views": 2, "augment": dim}
    return chain, fit(chain, folder=folder, cache=cache, callbacks=callbacks and callbacks[1:], **kwargs)


def one_device(folder, run_eagerly=True, **kwargs):
    """A hop of an unbuilt student."""
    made = [mlp(9, 1), mlp(5, 3, built=False)]
    chain = chain_of(made, compile_with={"run_eagerly": run_eagerly, "metrics": ["accuracy", "teacher_kl"]})
    # Of each batch of 30, each of two devices sees 15.
    return chain, fit(chain, folder=folder, validation_data=data(X[:30], Y[:30]), epochs=1)


def two_devices(folder, **kwargs):
    """The same on two virtual devices, as a graph."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert mirrored.num_replicas_in_sync == 2
    with mirrored.scope():
        return one_device(folder, run_eagerly=False)


RUNS = {
    "live, unbroken": (live, None),
    "live, killed in hop 0": (live, [0, 1, 0]),
    "live, killed in hop 1 before its state": (live, [1, 1, "state"]),
    "live, killed in hop 2": (live, [2, 1, 0]),
    "live, finished": (live, None),
    "cached, unbroken": (cached, None),
    "cached, killed in hop 2": (cached, [2, 1, 0]),
    "cached, finished": (cached, None),
    "one device": (one_device, None),
    "two devices": (two_devices, None),
}


def run(name, root):
    """In the folder of its kind, where it goes on; an unbroken run has one of its own."""
    function, kill = RUNS[name]
    if kill and kill[-1] == "state":
        die_before_the_state_of(*kill[:2])
    watch = [[Watch(hop, root / f"{name}.batches", kill)] for hop in range(3)]
    folder = root / (name if "unbroken" in name else function.__name__)
    chain, histories = function(folder, callbacks=watch)
    said = {
        "weights": [np.asarray(value).tolist() for value in weights(chain)],
        "histories": histories,
        "best": [record.best_epoch for record in chain.records],
        "results": [record.results for record in chain.records],
        "files": sorted(file.relative_to(folder).as_posix() for file in folder.glob("hop_*/*")),
    }
    (root / f"{name}.json").write_text(json.dumps(said))


def forked(name, root):
    """What a run said, in a process that may die of it."""
    if (child := os.fork()) == 0:
        try:
            run(name, root)
        except BaseException:
            (root / f"{name}.json").write_text(json.dumps({"error": traceback.format_exc()}))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    said, batches = root / f"{name}.json", root / f"{name}.batches"
    return {
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "batches": [json.loads(line) for line in batches.read_text().splitlines()] if batches.exists() else [],
        **(json.loads(said.read_text()) if said.exists() else {}),
    }


if __name__ == "__main__":
    root = Path(sys.argv[1])
    print("RESULT" + json.dumps({name: forked(name, root) for name in sys.argv[2:] or RUNS}))
