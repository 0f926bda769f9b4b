"""From records to what is read: a page of Markdown and a picture."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from records import Record

POINTS_A_PICTURE = 120


@dataclass(frozen=True)
class Table:
    """A head and its rows, all of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.head, *self.rows)]
        return "\n".join([lines[0], "|---" * len(self.head) + "|", *lines[1:]])


@dataclass(frozen=True)
class Page:
    """What a benchmark has to say: a title, paragraphs and tables in their order, and a picture."""

    title: str
    parts: Sequence[str | Table]
    picture: Callable[[], plt.Figure] | None = None


def markdown(page: Page, records: Sequence[Record]) -> str:
    """The page as text, with the command that makes it and what it was made with."""
    parts = [f"# {page.title}", made_by(records), *(str(part) for part in page.parts)]
    return "\n\n".join(parts) + "\n"


def made_by(records: Sequence[Record]) -> str:
    """The command, the seeds, the machine, the versions and the time, as far as the records know them."""
    seeds = max(record.seed for record in records) + 1
    words = f"`python benchmarks/run.py {records[0].benchmark} --seeds {seeds}`: {len(records)} runs"
    kept = [record for record in records if record.versions]
    if len(kept) < len(records):
        words += f", {len(records) - len(kept)} of them made before times and versions were kept"
    if kept:
        named = {name: sorted({record.versions[name] for record in kept}) for name in ("keras", "tensorflow")}
        words += f"; Keras {' and '.join(named['keras'])}, TensorFlow {' and '.join(named['tensorflow'])}"
        cores = " or ".join(str(number) for number in sorted({record.cores for record in kept}))
        words += f", {cores} cores, {sum(record.seconds for record in kept) / 60:.0f} minutes in all"
    return words + "."


def write(page: Page, records: Sequence[Record], folder: Path) -> list[Path]:
    """Writes Markdown and picture; returns where they are."""
    path = folder / records[0].benchmark
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(markdown(page, records), encoding="utf-8")
    if page.picture is None:
        return [path.with_suffix(".md")]
    drawn = page.picture()
    drawn.savefig(path.with_suffix(".png"), dpi=POINTS_A_PICTURE)
    plt.close(drawn)
    return [path.with_suffix(".md"), path.with_suffix(".png")]


def values(records: Sequence[Record], setting: str, figure: str) -> list[float]:
    """One figure of one setting, seed by seed."""
    return [record.figures[figure] for record in records if record.setting == setting]


def spread(numbers: Sequence[float], digits: int = 2, sign: str = "") -> str:
    """Mean and standard deviation over the seeds, or the one number; the mean always with its sign for `sign="+"`."""
    mean = f"{statistics.mean(numbers):{sign},.{digits}f}"
    return mean if len(numbers) < 2 else f"{mean} ± {statistics.stdev(numbers):,.{digits}f}"


def percent(shares: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation of shares over the seeds, in percent."""
    mean = f"{100 * statistics.mean(shares):.{digits}f}"
    return mean if len(shares) < 2 else f"{mean} ± {100 * statistics.stdev(shares):.{digits}f}"


def error_bars(axis: plt.Axes, points: Mapping[float, Sequence[float]], label: str, **style) -> None:
    """Mean and standard deviation over the seeds against x."""
    means = [statistics.mean(numbers) for numbers in points.values()]
    deviations = [statistics.stdev(numbers) if len(numbers) > 1 else 0.0 for numbers in points.values()]
    axis.errorbar(list(points), means, deviations, **{"fmt": "o-", "capsize": 3, "label": label, **style})
