"""One worker of those that the tests start, each in a process of its own.

Prints, as JSON, how each of the runs ended that it was asked for.
"""

import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

import keras
import tensorflow as tf

import keras_kd as kd
from tests.distiller.small_models import cross_entropy, mlp
from tests.workers import runs

BACKUPS = {"own": kd.BackupAndRestore, "keras": keras.callbacks.BackupAndRestore}


def refusals(strategy, folder):
    """The texts of what cannot be done."""
    worker = strategy.cluster_resolver.task_id
    backup = Path(folder, f"backup-{worker}")
    backup.mkdir()
    (backup / "training_metadata.json").write_text(json.dumps({"epoch": worker}), "utf-8")
    with strategy.scope(), warnings.catch_warnings(action="ignore"):
        adversarial = kd.AdversarialDistiller(mlp(), runs.teacher())
        adversarial.compile("sgd", loss=cross_entropy())
        several_steps = runs.distiller(runs.teacher(), steps_per_execution=2)
        plain = runs.distiller(runs.teacher(), jit_compile=True)
    return {
        "adversarial": refused(adversarial),
        "several steps": refused(several_steps),
        "backups": refused(plain, callbacks=[keras.callbacks.BackupAndRestore(backup)]),
        "jit_compile": plain.jit_compile,
    }


def refused(model, **kwargs):
    try:
        return model.fit(runs.source(), verbose=0, **kwargs).history
    except ValueError as error:
        return str(error)


class Dies(keras.callbacks.Callback):
    """Kills this process in the middle of the third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def resuming(strategy, folder, backup, dies):
    """Four epochs with all that writes files, as users hand it to every worker."""
    callbacks = [
        BACKUPS[backup](f"{folder}/{backup}"),
        keras.callbacks.ModelCheckpoint(f"{folder}/last.keras"),
        keras.callbacks.CSVLogger(f"{folder}/log.csv", append=True),
    ]
    if dies and strategy.cluster_resolver.task_id == 1:
        callbacks.append(Dies())
    return runs.resumed(strategy.scope(), callbacks)


def outcome(name, strategy, folder):
    if name == "refusals":
        return refusals(strategy, folder)
    if name in BACKUPS or name.removeprefix("dying-") in BACKUPS:
        return resuming(strategy, folder, name.removeprefix("dying-"), dies=name.startswith("dying-"))
    return getattr(runs, name)(strategy.scope(), folder)


def main(folder, names):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    results = {}
    for name in names:
        try:
            results[name] = outcome(name, strategy, folder)
        except Exception:
            results[name] = traceback.format_exc()
    print("RESULT" + json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
