"""The folder of a run: its record, and how far an interrupted one has come."""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_kd.cache import store

RECORD = "run.json"


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


def check_folder(out: Path, options: argparse.Namespace) -> None:
    """Checks that a run of `distill` may write into its folder.

    Raises:
        ValueError: If it exists, unless it is to be overwritten or resumed; if it is a cache; or if there is nothing to
            resume.
    """
    if (out / store.MANIFEST).is_file():
        raise ValueError(f"the output folder is a cache: {out}. Choose another.")
    if options.resume and read_record(out) is None:
        raise ValueError(f"there is no run to resume in {out}. Leave out --resume to start one.")
    if out.exists() and not (options.overwrite or options.resume):
        raise ValueError(f"the output folder exists: {out}. Choose another, or pass --overwrite, or --resume.")


def begin(out: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Writes down the settings of a new run, or checks that a resumed one has the same.

    Raises:
        ValueError: If the run to resume was begun with others.
    """
    if resume:
        recorded = read_record(out) or {}
        differ = [f"{key}={recorded.get(key)!r}" for key, value in settings.items() if recorded.get(key) != value]
        if differ:
            raise ValueError(f"the run in {out} was begun with {', '.join(differ)}. Resume it with the same.")
        return
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    write_record(out, settings)


def epochs_done(out: Path) -> int:
    """How many whole epochs a run has behind it."""
    metadata = out / "checkpoint" / "training_metadata.json"
    return json.loads(metadata.read_text(encoding="utf-8"))["epoch"] if metadata.is_file() else 0
