"""A callback that writes down how a hop goes: its logs, its best weights, and the state to go on from."""

import math
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_kd.assistants.per_hop import OWNER
from keras_kd.assistants.records import HopFolder, numbers_of
from keras_kd.seeds import load_seeds, save_seeds

GREATER_IS_BETTER = (
    *("acc", "agreement", "auc", "f1", "fbeta", "iou", "io_u", "precision", "r2", "recall"),
    *("sensitivity", "similarity", "specificity"),
)
# The accuracy of a student of NaN is a number all the same.
LOSSES = ("loss", "val_loss")


class KeepBest(keras.callbacks.Callback):
    """Logs each epoch, keeps the weights of the best by a validation metric, and the state after it.

    The state is written last, and whole or not at all: an epoch that was logged, but has left no state, is forgotten
    and trained again.

    Args:
        folder: The files of the hop.
        student: The model whose weights are kept.
        monitor: Key of the logs. Defaults to `"val_accuracy"` where there is one, else the first validation metric that
            names an accuracy, else `"val_loss"`.
    """

    def __init__(self, folder: HopFolder, student: keras.Model, monitor: str | None):
        super().__init__()
        self._folder, self._student, self._monitor = folder, student, monitor
        self._state = folder.last_state()
        self._epochs = folder.read_epochs()[: self.initial_epoch]
        self._start = 0.0

    @property
    def initial_epoch(self) -> int:
        """The epoch to go on with."""
        return self._state or 0

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.model.built:
            return  # before a generator, which only the first step reads
        if not self.model.optimizer.built:
            with self.model.distribute_strategy.scope():
                self.model.optimizer.build(self.model.trainable_variables)
        if self._state is None:
            # A run that was interrupted in its first epoch, and goes on in the same process, has weights that moved.
            self._folder.save_state(self.model, 0)
            return
        self._folder.load(self.model, self._folder.state(self._state))
        if self._epochs:
            load_seeds(self.model, dict(self._epochs[-1]["seeds"]))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = numbers_of(logs or {})
        self._check_monitor(logs)
        seconds = time.perf_counter() - self._start
        self._epochs.append({"logs": logs, "seconds": seconds, "seeds": _seeds_of(self.model)})
        best = self.best_epoch()
        if best == epoch:
            self._folder.save(self._student, self._folder.best(epoch))
        self._folder.write_epochs(self._epochs)
        self._folder.save_state(self.model, epoch + 1)
        self._folder.drop_all_best_but(best)

    def _check_monitor(self, logs: dict[str, float]) -> None:
        """An epoch without validation may come before one with it."""
        missing = self._monitor not in (None, *logs)
        if missing and (_validated(logs) or not self._monitor.startswith("val_")):
            raise ValueError(f"`{OWNER}`: `monitor` must be one of {list(logs)}. Received: monitor={self._monitor!r}.")

    def best_epoch(self) -> int | None:
        """The first of the best epochs; `None` where nothing was validated."""
        key = self._monitor or _accuracy_in(self.history())
        sign = 1 if any(word in key for word in GREATER_IS_BETTER) else -1
        values = {
            epoch: sign * entry["logs"][key]
            for epoch, entry in enumerate(self._epochs)
            if key in entry["logs"] and not any(math.isnan(entry["logs"].get(one, 0.0)) for one in (key, *LOSSES))
        }
        return max(values, key=values.get) if values else None

    def restore_best(self) -> int | None:
        """Gives the student its best weights, and says which epoch's they are."""
        best = self.best_epoch()
        if best is not None:
            self._folder.load(self._student, self._folder.best(best))
        return best

    def history(self) -> dict[str, list[float]]:
        """The logs by metric, as Keras has them."""
        logged = [entry["logs"] for entry in self._epochs]
        names = dict.fromkeys(name for logs in logged for name in logs)
        return {name: [logs[name] for logs in logged if name in logs] for name in names}

    def seconds(self) -> float:
        """What the epochs took."""
        return sum(entry["seconds"] for entry in self._epochs)


def _validated(logs: Iterable[str]) -> list[str]:
    return [name for name in logs if name.startswith("val_")]


def _accuracy_in(logs: Iterable[str]) -> str:
    named = [name for name in _validated(logs) if "acc" in name]
    return "val_accuracy" if "val_accuracy" in named else next(iter(named), "val_loss")


def _seeds_of(model: keras.Model) -> dict[str, list[int]]:
    """Where the draws of Dropout and its like have come to; Keras 3.15 does not save it with a plain model."""
    states: dict[str, Any] = {}
    save_seeds(model, states)
    return {name: np.asarray(state).tolist() for name, state in states.items()}
