"""Contestants that run in turn in one process: what one takes over what others take."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Contestants = Mapping[str, Callable[[], Any]]
Times = Mapping[str, tuple[float, float]]

BUILTIN, BY_HAND, OURS = "`keras.distillation`", "the same by hand", "`kd.Distiller`"
TEACHER, STUDENT_ALONE = "teacher's inference", "student's plain `fit`"
UNWATCHED = "the same without looking for NaN"
CACHED, WRITING, PREDICTING = "`kd.Distiller` from a cache", "`kd.cache_teacher`", "`predict`"


@dataclass(frozen=True)
class Ratio:
    """One row: what one contestant takes over what others take together, and the most it should be."""

    of: str
    over: tuple[str, ...]
    aim: float | None = None

    @property
    def name(self) -> str:
        """What it is called in the records."""
        return f"{self.of} over {self.beside}"

    @property
    def beside(self) -> str:
        """The others."""
        return " + ".join(self.over)


def race(contestants: Contestants, ratios: Sequence[Ratio], rounds: int) -> dict[str, dict[str, Any]]:
    """Runs all in turn, after one round that counts for nothing: what there is to say of each ratio."""
    _round(contestants, 0)
    taken = [_round(contestants, number) for number in range(rounds)]
    return {ratio.name: _figures(ratio, taken) for ratio in ratios}


def _round(contestants: Contestants, number: int) -> Times:
    gc.collect()
    names = list(contestants)
    first = number % len(names)  # nobody always runs after the same
    return {name: _seconds(contestants[name]) for name in names[first:] + names[:first]}


def _seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """What a run takes by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _figures(ratio: Ratio, rounds: Sequence[Times]) -> dict[str, Any]:
    """Quartiles of the ratio within a round, by clock and processor, and the ratio of everybody's best rounds."""
    wall, cpu = (
        [taken[ratio.of][clock] / sum(taken[name][clock] for name in ratio.over) for taken in rounds]
        for clock in (0, 1)
    )
    # The rounds that nothing else disturbed, each contestant's own.
    best = {name: min(taken[name][0] for taken in rounds) for name in (ratio.of, *ratio.over)}
    return {
        "cpu": statistics.quantiles(cpu, n=4),
        "wall": statistics.quantiles(wall, n=4),
        "best": best[ratio.of] / sum(best[name] for name in ratio.over),
        "seconds": best[ratio.of],
    }
