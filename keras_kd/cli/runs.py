"""The folder of a run: its record, and how far an interrupted one has come."""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_kd.cache import store

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
    store.write_atomically(folder / RECORD, json.dumps(facts, indent=2))


def read_record(folder: Path) -> dict[str, Any] | None:
    """Reads what `write_record` wrote; `None` where there is nothing of the kind."""
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def check_folder(out: Path, options: argparse.Namespace, state: str = CHECKPOINT) -> None:
    """Checks that a run may write into its folder.

    Args:
        out: The folder.
        options: Whether to resume or to overwrite.
        state: Where the command keeps how far it has come.

    Raises:
        ValueError: If it exists, unless it is to be overwritten or resumed; if it is a cache; or if there is nothing to
            resume.
    """
    if (out / store.MANIFEST).is_file():
        raise ValueError(f"the output folder is a cache: {out}. Choose another.")
    if options.resume and (read_record(out) is None or not (out / state).is_dir()):
        raise ValueError(f"there is no run to resume in {out}. Leave out --resume to start one.")
    if out.exists() and not (options.overwrite or options.resume):
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


def epochs_done(out: Path) -> int:
    """How many whole epochs a run has behind it."""
    metadata = out / CHECKPOINT / "training_metadata.json"
    return json.loads(metadata.read_text(encoding="utf-8"))["epoch"] if metadata.is_file() else 0
