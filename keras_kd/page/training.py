"""How the student was trained: with which settings, and how it went epoch by epoch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_kd.page import charts, numbers
from keras_kd.page.html import join, tag
from keras_kd.page.reading import Findings
from keras_kd.page.sections import LeftOut, Section, described, folded, pictures, table, with_code

_FIRST = ("accuracy", "loss", "agreement")
_SHARES = ("accuracy", "agreement")
_PATHS = ("teacher", "student", "cache", "dataset")
_TOLD_ABOVE = {"parameters", "accuracy", "teacher_parameters", "teacher_accuracy", "versions"}


def training(findings: Findings) -> Section | LeftOut:
    """Learning curves and settings."""
    history = findings.history
    names = sorted(_drawn(history), key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    shown = [(_worded(name).capitalize(), _curves(history, name), _note(name)) for name in names]
    settings = list(_settings(findings))
    if not shown and not settings:
        return LeftOut("Training", "Distil with `keras-kd distill`, which writes run.json and history.csv.")
    remedy = "Learning curves: keep a history.csv with `keras.callbacks.CSVLogger`, as `keras-kd distill` does."
    body = join(
        pictures(*shown) if shown else tag("p", with_code(remedy), class_="lead"),
        folded("Every epoch in figures", _epochs(history)) if history else None,
        join(tag("h3", "Settings"), described(settings, class_="settings")) if settings else None,
    )
    return Section("training", "Training", body)


def _drawn(history: Mapping[str, Sequence[float | None]]) -> Iterator[str]:
    """Metrics of training and of validation."""
    for name, values in history.items():
        known = [value for value in (*values, *history.get(f"val_{name}", ())) if value is not None]
        if f"val_{name}" in history and name in _FIRST and known:
            yield name


def _curves(history: Mapping[str, Sequence[float | None]], name: str) -> Any:
    values = [value for value in (*history[name], *history[f"val_{name}"]) if value is not None]
    are_shares = name in _SHARES and all(0 <= value <= 1 for value in values)
    return charts.curves(history[name], history[f"val_{name}"], _worded(name).capitalize(), are_shares)


def _note(name: str) -> str | None:
    return {
        "loss": "In training the whole loss of distillation, in validation the student's own: heights do not compare.",
        "agreement": "How often student and teacher give the same answer.",
    }.get(name)


def _epochs(history: Mapping[str, Sequence[float | None]]) -> Any:
    rows = [
        [str(epoch), *(numbers.figure(value, numbers.plain) for value in values)]
        for epoch, values in enumerate(zip(*history.values(), strict=True), 1)
    ]
    return table("epochs", "history.csv", ["Epoch", *map(_worded, history)], rows)


def _settings(findings: Findings) -> Iterator[tuple[str, Any]]:
    """Of the run, then what the metadata add to them."""
    metadata = findings.report["metadata"] or {}
    merged = {**findings.run, **{key: value for key, value in metadata.items() if key not in findings.run}}
    for key, value in merged.items():
        if key not in _TOLD_ABOVE and value not in (None, "", [], {}):
            yield (
                _worded(key).capitalize(),
                Path(value).name if key in _PATHS and isinstance(value, str) else _written(value),
            )
    if isinstance(versions := metadata.get("versions"), Mapping):
        yield "Versions", ", ".join(f"{name} {_written(version)}" for name, version in versions.items())


def _written(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _worded(name: str) -> str:
    return name.replace("val_", "validation ").replace("_", " ")
