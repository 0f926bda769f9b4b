"""What a folder holds that an export has left: read once, checked, and refused with one line where it is broken."""

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from keras_kd.page.schema import EVALUATION, REPORT, RUN, conform, is_number, shortened

ALSO_MADE = ("labels.txt", "student.keras", "report.json", "evaluation.json", "run.json", "history.csv", "curves.png")


@dataclass(frozen=True)
class Findings:
    """What an export has left in its folder.

    Attributes:
        folder: The folder.
        report: `report.json`.
        evaluation: `evaluation.json`; `None` where there is none.
        run: `run.json`; empty where there is none.
        history: Metric by metric, a value for each epoch, `None` where it was not measured; empty where there is none.
        teacher: Its `name`, `parameters`, `accuracy` and `file`, of which all but the name may be `None`; `None` where
            nothing is known of one.
    """

    folder: Path
    report: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, list[float | None]] = field(default_factory=dict)

    @property
    def teacher(self) -> Mapping[str, Any] | None:
        if self.report["teacher"] is not None:
            return self.report["teacher"]
        if self.run.get("teacher_parameters") is None:
            return None
        name = Path(self.run.get("teacher") or "teacher").name
        known = {key: self.run.get(f"teacher_{key}") for key in ("parameters", "accuracy")}
        return {"name": name, **known, "file": None}

    @property
    def examples(self) -> int | None:
        """Number of the examples that the figures are of."""
        if self.evaluation is not None:
            return self.evaluation["examples"]
        return next((file["examples"] for file in self.report["files"] if file["examples"]), None)

    def is_whole(self, file: Mapping[str, Any]) -> bool:
        """Whether the folder holds the file, and it is the one that was measured."""
        path = self.folder / file["file"]
        if not path.is_file():
            return False
        if file["sha256"] is None:
            return path.stat().st_size == file["size_bytes"]
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == file["sha256"].lower()

    def also_made(self) -> list[str]:
        """Names of what else there is to take away."""
        return [name for name in ALSO_MADE if (self.folder / name).is_file()]


def read_folder(folder: str | PathLike) -> Findings:
    """Reads what an export has left.

    Args:
        folder: Where `export_student` or a `keras-kd` command wrote to.

    Returns:
        The `Findings`.

    Raises:
        ValueError: If there is no `report.json`, or a file does not hold what it should.
    """
    folder = Path(folder)
    if not (folder / "report.json").is_file():
        raise ValueError(
            f"`write_report`: {folder} must hold the report.json of an export. Received: none there. Write one with "
            "`export_student` or `keras-kd distill`."
        )
    run = _read_json(folder / "run.json", RUN, keep_the_rest=True)
    return Findings(
        folder,
        _read_json(folder / "report.json", REPORT),
        _read_json(folder / "evaluation.json", EVALUATION),
        {} if run is None else run,
        _read_history(folder / "history.csv"),
    )


def _read_json(path: Path, schema: Mapping[str, Any], keep_the_rest: bool = False) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        read = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        checked = conform(read, schema)
        return {**read, **checked} if keep_the_rest else checked
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(f"`write_report`: {path}: {_of_json(reason)}. Export again, or mend the file.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it must hold numbers only that JSON has. Received: {name}")


def _of_json(error: Exception | str) -> str:
    broken = isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
    return f"it must be JSON in UTF-8. Received: {error}" if broken else f"{error}"


def _read_history(path: Path) -> dict[str, list[float | None]]:
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            names, rows = [name for name in reader.fieldnames or () if name != "epoch"], list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _broken(path, f"it must be a table in CSV. Received: {error}") from None
    return {name: [_cell(path, row.get(name), name, epoch) for epoch, row in enumerate(rows, 1)] for name in names}


def _cell(path: Path, text: str | None, name: str, epoch: int) -> float | None:
    if text == "NA":  # what Keras writes where a metric was not measured in an epoch
        return None
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = None
    if not is_number(value):
        column = name if len(name) <= 60 else f"{name[:60]}..."
        raise _broken(path, f"`{column}` in row {epoch} must be a finite number. Received: {shortened(text)}")
    return value


def _broken(path: Path, reason: str) -> ValueError:
    return ValueError(f"`write_report`: {path}: {reason}. Mend the file, or take it away to leave its curves out.")
