"""What is left of a benchmark: a line of JSON for each run, written when the run is done and never measured twice."""

import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("keras", "tensorflow", "numpy", "ai-edge-litert")


@dataclass(frozen=True)
class Run:
    """Something to measure: a row of the table, the seed, all that decides the outcome, and how."""

    setting: str
    seed: int
    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Record:
    """What a run gave. `seconds`, `versions` and `cores` are None in what was measured before they were kept."""

    benchmark: str
    setting: str
    seed: int
    settings: dict[str, Any]
    figures: dict[str, Any]
    seconds: float | None = None
    versions: dict[str, str] | None = None
    cores: int | None = None


class Missing(LookupError):
    """A run that has no record yet."""


class Records:
    """The file of one benchmark. Several processes may share it: each run is measured by the first that comes."""

    def __init__(self, path: Path):
        self.path = path
        self.benchmark = path.stem

    def __iter__(self) -> Iterator[Record]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                yield Record(**json.loads(line))

    def of(self, run: Run) -> Record:
        """The record of a run: same row, same seed, same settings."""
        settings = json.loads(json.dumps(run.settings))
        for record in self:
            if (record.setting, record.seed, record.settings) == (run.setting, run.seed, settings):
                return record
        raise Missing(f"{self.path} has no run of '{run.setting}' with seed {run.seed} and settings {settings}.")

    def complete(self, run: Run) -> Record:
        """The record of a run, which is made where there is none, from its seed, whatever was run before it."""
        with self.claimed(f"{run.setting}_{run.seed}"):
            try:
                return self.of(run)
            except Missing:
                from keras.utils import set_random_seed  # slow to come, and not needed where all runs have records

                set_random_seed(run.seed)
                begun = time.perf_counter()
                figures = run.measure()
                seconds = round(time.perf_counter() - begun, 1)
                record = Record(
                    self.benchmark, run.setting, run.seed, run.settings, figures, seconds, _versions(), os.cpu_count()
                )
                self.add(record)
                return self.of(run)

    def add(self, record: Record) -> None:
        """Appends a line, in one write."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    @contextmanager
    def claimed(self, what: str, wait: bool = True) -> Iterator[bool]:
        """Holds a lock that a dead process does not keep; says whether it was had, where it is not waited for."""
        with _locked(Path("saved_models", "locks", self.benchmark, what.replace("/", "_")), wait) as had:
            yield had


def made(path: Path, make: Callable[[Path], Any]) -> Path:
    """A file or folder that runs share, as a trained teacher: made by the first that comes, whole or not there."""
    with _locked(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            unfinished = path.with_stem(f"{path.stem}_unfinished")
            make(unfinished)
            unfinished.replace(path)
    return path


@contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
