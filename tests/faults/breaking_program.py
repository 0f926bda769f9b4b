"""Runs that come to grief, each in a process of its own.

Gets a list of cases as JSON, each `{"action", "arguments", "event"}`. All are forked, one after the other, from this
process, which has imported TensorFlow and run nothing. Prints, as JSON, how each of them ended: the signal that killed
it, or the error that it raised, or what it said.
"""

import io
import json
import os
import resource
import shutil
import signal
import sys
import zipfile
from contextlib import redirect_stderr
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.backup import epochs_done
from keras_kd.cli import main as keras_kd_command
from tests.faults.outcomes import digest

EPOCHS, BATCH = 3, 12
SEEN = np.random.default_rng(0).normal(size=(24, 16)).astype("float32")
LABELS = np.arange(24) % 3


def network(width, seed, *more):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((16,)), layers.Dense(width, "tanh", name="hidden"), *more, layers.Dense(3)])


def learner(taught):
    """With all that has a state: BatchNormalization, Dropout, Adam and its schedule; a projector where it is taught."""
    made = network(128, 2, layers.BatchNormalization(), layers.Dropout(0.3, seed=5))
    if taught:
        objectives = [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")]
        made = kd.Distiller(made, network(160, 1), objectives)
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.Adam(rate), loss, run_eagerly=True)
    return made


class Faults(keras.callbacks.Callback):
    """What goes wrong in a run: kills at `[epoch, batch]`, or a limit on the size of files from an epoch on."""

    def __init__(self, kill=None, limit=None):
        super().__init__()
        self._kill, self._limit, self._now = kill, limit, None

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch
        if self._limit and epoch == self._limit["epoch"]:
            limit_files(self._limit["size"], self._limit["kills"])

    def on_train_batch_end(self, batch, logs=None):
        if self._kill == [self._now, batch]:
            die()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
    os.kill(os.getpid(), signal.SIGINT)


def limit_files(size, kills):
    """No file grows beyond so many bytes: who tries is killed, or told as of a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kills else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def at_event(kind, file, count, act):
    """Dies, or is interrupted, when for the `count`-th time Python opens a file of that name, or renames to it."""
    seen, acts = [0], {"die": die, "interrupt": interrupt}

    def hear(event, arguments):
        if event != kind:
            return
        path, how = arguments[kind == "os.rename"], str(arguments[1])
        if os.path.basename(str(path)) == file and (kind != "open" or how[0] in "wax"):
            seen[0] += 1
            if seen[0] == count:
                acts[act]()

    sys.addaudithook(hear)


BACKUPS = {
    "own": kd.BackupAndRestore,
    "keras": keras.callbacks.BackupAndRestore,
    "keras, double": lambda folder, **kwargs: keras.callbacks.BackupAndRestore(
        folder, double_checkpoint=True, **kwargs
    ),
}


def fit(folder, backup="own", taught=False, kill=None, limit=None):
    """A run with a backup: its weights, its logs, and what it left in the folder."""
    made = learner(taught)
    callbacks = [BACKUPS[backup](folder, delete_checkpoint=False), Faults(kill, limit)]
    history = made.fit(SEEN, LABELS, batch_size=BATCH, shuffle=False, epochs=EPOCHS, callbacks=callbacks, verbose=0)
    state = [*made.variables, *made.optimizer.variables]
    return {"state": digest([np.asarray(one) for one in state]), "loss": history.history["loss"]}


def resume(folder, **more):
    """What a run has left, and what comes of going on with it."""
    left = {"files": sorted(os.listdir(folder)) if Path(folder).exists() else [], "done": epochs_done(Path(folder))}
    return {**left, **fit(folder, **more)}


def export(folder, seed, over=None, limit=None):
    """An export of a student of that seed, into a copy of an older one."""
    if over and not Path(folder).exists():
        shutil.copytree(over, folder)
    student = network(128, seed)
    if limit:
        limit_files(**limit)
    kd.export_student(student, folder, labels=["a", "b", "c"], metadata={"seed": seed})


def command(words, limit=None, seconds=None):
    """`keras-kd`, which is killed when it has used up so many seconds of a processor: exit code, and what it told."""
    if limit:
        limit_files(**limit)
    if seconds:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # whose signal kills
    with redirect_stderr(io.StringIO()) as told:
        code = keras_kd_command(words)
    return {"code": code, "told": told.getvalue()}


ACTIONS = {"fit": fit, "resume": resume, "export": export, "command": command}


def run(action, arguments, event=None):
    """In the forked process: what an action says."""
    tf.config.experimental.enable_op_determinism()
    if event:
        at_event(*event)
    try:
        return {"said": ACTIONS[action](**arguments)}
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"}


def outcome(case):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        os.dup2(2, 1)
        os.write(writer, json.dumps(run(**case)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    killed = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None
    return {"killed": killed, **(json.loads(said) if said else {})}


def persevere(words, out):
    """Runs a command that is killed again and again, later each time, and goes on each time; what each left."""
    left, resumed = [], []
    for attempt in range(20):
        arguments = {"words": words + resumed, "seconds": 1.5 + 0.75 * attempt}
        ending = outcome({"action": "command", "arguments": arguments})
        begun = (
            all((Path(out) / name).exists() for name in ("run.json", "checkpoint")) or (Path(out) / "chain").exists()
        )
        resumed = ["--resume"] if begun else ["--overwrite"]
        left.append({**ending, "torn": torn_files(Path(out))})
        if not ending["killed"]:
            break
    return left


def torn_files(folder):
    """Files under their own names that do not open."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and "partial" not in path.name and is_torn(path)]


def is_torn(path):
    try:
        if path.suffix == ".keras":
            return zipfile.ZipFile(path).testzip() is not None
        if path.suffix == ".h5":
            h5py.File(path).close()
        if path.suffix == ".json":
            json.loads(path.read_text())
    except (OSError, ValueError, zipfile.BadZipFile):
        return True
    return False


def ended(case):
    return persevere(**case["arguments"]) if case["action"] == "persevere" else outcome(case)


if __name__ == "__main__":
    print("OUTCOMES" + json.dumps([ended(case) for case in json.loads(sys.argv[1])]))
