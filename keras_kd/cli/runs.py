"""The folder of a run: its record, and how far an interrupted one has come."""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras

from keras_kd.backup import BackupAndRestore, epochs_done
from keras_kd.cache import store
from keras_kd.locking import contents, writing
from keras_kd.whole_files import whole, write_text

RECORD = "run.json"
# How far a run has come: a folder for each command, of which an output folder holds one at most.
CHECKPOINT, CHAIN = "checkpoint", "chain"


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds what all commands that train take."""
    parser.add_argument("--epochs", type=int, default=10, metavar="N")
    parser.add_argument("--alpha", type=float, default=0.3, metavar="A", help="weight of the labels (default 0.3)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for what is made")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="write into DIR though it exists")
    again.add_argument("--resume", action="store_true", help="go on with the interrupted run in DIR")


def check_numbers(options: argparse.Namespace) -> None:
    """Checks those options of `add_run_options` that nothing else does.

    Raises:
        ValueError: If there would be nothing to do.
    """
    for name, value in (("--epochs", options.epochs), ("--batch-size", options.batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1. Received: {value}")


def write_record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes down what was asked for, and what came of it."""
    write_text(folder / RECORD, json.dumps(facts, indent=2))


def save_model(model: keras.Model, path: Path) -> None:
    """Writes a `.keras` file whole, or not at all."""
    with whole(path) as file:
        model.save(file)


def save_picture(drawn: Any, path: Path, dpi: int = 120) -> None:
    """Writes a picture whole, or not at all."""
    with whole(path) as file:
        drawn.savefig(file, dpi=dpi)


def read_record(folder: Path) -> dict[str, Any] | None:
    """Reads what `write_record` wrote; `None` where there is nothing of the kind."""
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


@contextmanager
def run_folder(options: argparse.Namespace, state: str = CHECKPOINT) -> Iterator[Path]:
    """The output folder of a run, for this process alone.

    Args:
        options: Those of `add_run_options`.
        state: Where the command keeps how far it has come.

    Raises:
        ValueError: If there would be nothing to do, or the folder may not be written to.
    """
    check_numbers(options)
    out = Path(options.out)
    with writing_to(out):
        check_folder(out, options, state)
        yield out


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Keeps an output folder for this process; one that is made here goes again if nothing came of it.

    Raises:
        ValueError: If it is a file, or another process writes there.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"the output folder is a file: {out}. Choose another.")
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        with writing(out, "--out"):
            yield
    finally:
        for folder in made:
            with suppress(OSError):  # it holds what was made
                folder.rmdir()


def check_folder(out: Path, options: argparse.Namespace, state: str = CHECKPOINT) -> None:
    """Checks that a run may write into its folder.

    Args:
        out: The folder.
        options: Whether to resume or to overwrite.
        state: Where the command keeps how far it has come.

    Raises:
        ValueError: If it holds anything, unless it is to be overwritten or resumed; if it is a cache; or if there is
            nothing to resume.
    """
    if (out / store.MANIFEST).is_file():
        raise ValueError(f"the output folder is a cache: {out}. Choose another.")
    if options.resume and (read_record(out) is None or not (out / state).is_dir()):
        raise ValueError(f"there is no run to resume in {out}. Leave out --resume to start one.")
    if contents(out) and not (options.overwrite or options.resume):
        raise ValueError(f"the output folder exists: {out}. Choose another, or pass --overwrite, or --resume.")


def begin(out: Path, settings: Mapping[str, Any], resume: bool, state: str = CHECKPOINT) -> None:
    """Writes down the settings of a new run, or checks that a resumed one has the same.

    Args:
        out: The folder.
        settings: What another run would differ in.
        resume: Whether to go on with a run.
        state: Where the command keeps how far it has come.

    Raises:
        ValueError: If the run to resume was begun with others.
    """
    if resume:
        recorded = read_record(out) or {}
        differ = [f"{key}={recorded.get(key)!r}" for key, value in settings.items() if recorded.get(key) != value]
        if differ:
            raise ValueError(f"the run in {out} was begun with {', '.join(differ)}. Resume it with the same.")
        return
    for left in (CHECKPOINT, CHAIN):
        shutil.rmtree(out / left, ignore_errors=True)
    (out / state).mkdir(parents=True)
    write_record(out, settings)


def callbacks_of(state: Path, history: Path) -> tuple[list[keras.callbacks.Callback], int]:
    """What writes down the epochs of a run, the state to go on from last; and how many are done.

    Args:
        state: The folder of the state.
        history: The file of the logs. Epochs that were logged, but left no state, are forgotten.
    """
    done = epochs_done(state)
    if done:
        write_text(history, "".join(history.read_text(encoding="utf-8").splitlines(keepends=True)[: 1 + done]))
    logger = keras.callbacks.CSVLogger(history, append=done > 0)
    return [logger, BackupAndRestore(state, delete_checkpoint=False)], done
