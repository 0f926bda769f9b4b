"""What a chain leaves on disk, so that it goes on where it was."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.assistants.per_hop import OWNER
from keras_kd.backup import load_weights, weights_of
from keras_kd.whole_files import whole, write_text
from keras_kd.wording import one_line


@dataclass
class HopRecord:
    """What came of a hop.

    Attributes:
        name: The model that was trained.
        parameters: How many weights it has.
        bytes: What they take in memory.
        history: The logs of each epoch, by metric.
        best_epoch: The epoch whose weights were kept, from 0; `None` where there was nothing to choose by.
        results: What the kept weights reach on the validation data.
        seconds: What the epochs took.
    """

    name: str
    parameters: int
    bytes: int
    history: dict[str, list[float]]
    best_epoch: int | None
    results: dict[str, float]
    seconds: float


class HopFolder:
    """The files of one hop.

    Args:
        path: The folder, made here.
    """

    def __init__(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.weights = path / "model.weights.h5"
        self._epochs = path / "epochs.json"

    def finished(self) -> HopRecord | None:
        """The record of a hop that came to its end."""
        record = read_json(self._path / "hop.json", _is_record)
        return None if record is None else HopRecord(**record)

    def finish(self, record: HopRecord) -> None:
        """Writes the record, and takes away what was needed to go on."""
        write_json(self._path / "hop.json", asdict(record))
        left = self._path.glob("partial_*")
        for file in (self._epochs, *self._files("best").values(), *self._files("state").values(), *left):
            file.unlink(missing_ok=True)

    def save(self, model: keras.Model, file: Path) -> None:
        """Writes weights whole, or not at all."""
        with whole(file) as partial:
            partial.write_bytes(weights_of(model))

    def load(self, model: keras.Model, file: Path) -> None:
        """Reads weights.

        Raises:
            ValueError: If the file is damaged, or of another model.
        """
        try:
            load_weights(model, file)
        except Exception as error:  # h5py and Keras raise all kinds of errors on a broken file
            raise ValueError(
                f"`{OWNER}`: {file} is damaged, or of another model ({one_line(error)}). Delete {self._path} to train "
                "it anew."
            ) from error

    def read_epochs(self) -> list[Any]:
        """What was written down of each epoch."""
        return read_json(self._epochs, _are_epochs) or []

    def write_epochs(self, epochs: list[Any]) -> None:
        """Writes down what there is to say of each epoch."""
        write_json(self._epochs, epochs)

    def best(self, epoch: int) -> Path:
        """Where the weights of an epoch stand that was the best so far."""
        return self._file("best", epoch)

    def drop_all_best_but(self, kept: int | None) -> None:
        """Deletes the weights of all other epochs."""
        self._drop_all_but("best", kept)

    def state(self, epoch: int) -> Path:
        """Where the state of training stands that an epoch begins with."""
        return self._file("state", epoch)

    def last_state(self) -> int | None:
        """The epoch that the last state is the beginning of."""
        return max(self._files("state"), default=None)

    def save_state(self, model: keras.Model, epoch: int) -> None:
        """Writes the state that an epoch begins with, and then drops those of others."""
        self.save(model, self.state(epoch))
        self._drop_all_but("state", epoch)

    def _file(self, kind: str, epoch: int) -> Path:
        return self._path / f"{kind}_{epoch:05d}.weights.h5"

    def _files(self, kind: str) -> dict[int, Path]:
        """By epoch, those that are there."""
        return {int(re.findall(r"\d+", file.name)[0]): file for file in self._path.glob(f"{kind}_*.weights.h5")}

    def _drop_all_but(self, kind: str, kept: int | None) -> None:
        for epoch, file in self._files(kind).items():
            if epoch != kept:
                file.unlink()


def numbers_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """The logs that are one number each: a metric may have one for each class."""
    return {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}


def write_json(path: Path, contents: Any) -> None:
    """Writes a file whole, or not at all."""
    write_text(path, json.dumps(contents, indent=1))


def read_json(path: Path, holds: Callable[[Any], bool]) -> Any:
    """Reads what `write_json` wrote; `None` where there is no such file.

    Args:
        path: The file.
        holds: Whether what was read can have been written.

    Raises:
        ValueError: If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        if holds(read := json.loads(path.read_text("utf-8"))):
            return read
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"`{OWNER}`: {path} is damaged. Delete {path.parent} to begin anew.")


def _is_record(read: Any) -> bool:
    kinds = {"name": str, "parameters": int, "bytes": int, "history": dict, "results": dict, "seconds": float | int}
    return _has(read, {**kinds, "best_epoch": int | None}) and set(read) == {field.name for field in fields(HopRecord)}


def _are_epochs(read: Any) -> bool:
    return isinstance(read, list) and all(
        _has(epoch, {"logs": dict, "seconds": float | int, "seeds": dict}) and _are_numbers(epoch["logs"].values())
        for epoch in read
    )


def _has(read: Any, kinds: Mapping[str, Any]) -> bool:
    return isinstance(read, dict) and all(name in read and isinstance(read[name], kind) for name, kind in kinds.items())


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, float | int) for value in values)


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Takes a folder for a chain, or finds that it is this chain's already.

    Args:
        folder: The folder.
        settings: What tells the chain from another. What one of two chains does not say is not held against it.

    Raises:
        ValueError: If it holds another chain.
    """
    file, settings = folder / "chain.json", json.loads(json.dumps(settings, default=str))
    held = read_json(file, lambda read: isinstance(read, dict)) or {}
    for name, value in settings.items():
        if held.get(name, value) != value:
            raise ValueError(
                f"`{OWNER}`: {folder} holds another chain: its `{name}` is {held[name]}. Received: {value}. Choose "
                "another folder."
            )
    write_json(file, {**held, **settings})
