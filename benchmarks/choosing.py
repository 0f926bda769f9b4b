"""The choice of a setting on validation examples with the first seed, as a run of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from records import Record, Run

SEED = 0


def choice(
    title: str,
    settings: Mapping[str, Any],
    candidates: Sequence[dict[str, float]],
    validated: Callable[[dict[str, float]], float],
) -> Run:
    """A run whose figure `chosen` is the candidate that `validated` gives the most, the first of equals."""

    def measure() -> dict[str, Any]:
        accuracies = [validated(candidate) for candidate in candidates]
        return {"chosen": candidates[accuracies.index(max(accuracies))], "validation": accuracies}

    return Run(f"{title}: choice", SEED, {**settings, "candidates": list(candidates)}, measure)


def chosen(records: Sequence[Record], title: str) -> dict[str, float]:
    """What was chosen for a row."""
    return next(record.figures["chosen"] for record in records if record.setting == f"{title}: choice")
