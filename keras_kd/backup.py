"""What a run that was interrupted goes on from: weights, optimizer, random generators and epoch, in one file."""

import io
import os
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_kd.seeds import load_seeds, save_seeds
from keras_kd.whole_files import whole

STATE = "latest.weights.h5"
OWN = "run"  # the group of what Keras does not save


class BackupAndRestore(keras.callbacks.Callback):
    """Goes on where an interrupted `fit` was, after the last whole epoch, also if it was killed while it saved.

    `keras.callbacks.BackupAndRestore` (3.15) writes over its only backup: killed while it does, or out of disk, it
    leaves a file that no longer loads (Keras #20463), and killed between weights and epoch, one that trains an epoch
    twice. With `double_checkpoint` the latter remains. Here all is one file, which is renamed when it is whole. It
    holds the states of the model's random generators too, which Keras leaves out, so that the run ends with the weights
    of an unbroken one if the data come in the same order.

    Args:
        backup_dir: Folder of the backup, made if missing. Each run has its own.
        delete_checkpoint: Whether the backup goes when `fit` comes to its end. Defaults to `True`.

    Raises:
        ValueError: In `fit`, if the model is not built or the backup is damaged.
        OSError: In `fit`, if the disk is full. The last backup is kept.

    Example:

    >>> import numpy as np, tempfile
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for epochs in (2, 5):  # the second time three are left
    ...         backup = BackupAndRestore(folder, delete_checkpoint=False)
    ...         said = model.fit(np.ones((4, 3)), np.ones(4), epochs=epochs, callbacks=[backup], verbose=0)
    ...         len(said.history["loss"])
    2
    3
    """

    def __init__(self, backup_dir: str | os.PathLike, delete_checkpoint: bool = True):
        super().__init__()
        self._path, self._delete = Path(backup_dir, STATE), delete_checkpoint

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.model.built:
            raise ValueError(
                f"`BackupAndRestore`: the model must be built before `fit`. Received: {self.model.name}, which is not. "
                "Call it on a batch."
            )
        if not (done := epochs_done(self._path.parent)):
            return
        if not self.model.optimizer.built:
            with self.model.distribute_strategy.scope():
                self.model.optimizer.build(self.model.trainable_variables)
        load_weights(self.model, self._path)
        self.model._initial_epoch = done  # as Keras's does; `fit` reads it next

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole(self._path) as file:
            file.write_bytes(weights_of(self.model, epoch=epoch + 1))

    def on_train_end(self, logs: Any = None) -> None:
        if self._delete:
            self._path.unlink(missing_ok=True)
            if self._path.parent.is_dir() and not any(self._path.parent.iterdir()):
                self._path.parent.rmdir()


def epochs_done(backup_dir: Path) -> int:
    """How many whole epochs are behind a backup; 0 where there is none.

    Raises:
        ValueError: If the file is damaged.
    """
    path = backup_dir / STATE
    if not path.exists():
        return 0
    try:
        with h5py.File(path) as file:
            return int(file[OWN]["epoch"][()])
    except (OSError, KeyError) as error:
        raise ValueError(f"`BackupAndRestore`: {path} is damaged, or no backup. Delete it to begin anew.") from error


def weights_of(model: keras.Model, **said: int) -> bytes:
    """The contents of a `.weights.h5` file, with the states of the model's random generators.

    Made in memory, for h5py ends the process by SIGSEGV where it cannot write to its file (h5py #914; 3.14 still does).

    Args:
        model: The model.
        **said: What else the file says.
    """
    memory = _Memory()
    model.save_weights(memory)
    own: dict[str, Any] = {**said}
    save_seeds(model, own)
    with h5py.File(memory, "a") as file:
        for name, value in own.items():
            file[f"{OWN}/{name}"] = value
    return memory.getvalue()


def load_weights(model: keras.Model, path: Path) -> None:
    """Gives a model what `weights_of` wrote down."""
    model.load_weights(path)
    with h5py.File(path) as file:
        load_seeds(model, {name: value[()] for name, value in file.get(OWN, {}).items()})


class _Memory(io.BytesIO):
    """A file with the name that `save_weights` asks for."""

    def __str__(self) -> str:
        return "memory.weights.h5"
