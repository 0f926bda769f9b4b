"""Does an adversary add to plain distillation? KDGAN's table on MNIST, with the same augmentation for every row.

    TFDS_DATA_DIR=... python benchmarks/kdgan.py                     # about a quarter of an hour on one core

Published (Wang et al. 2018): 100 or 1,000 labelled digits, a LeNet that teaches, an MLP that learns. The authors'
scripts augment the digits for all that is distilled or plays, but not for the student alone; KDGAN's student is trained
five times as long as the distilled one; and each figure is the best of all epochs on the test digits, of one run. Here
every row sees the same augmented views of the same labelled digits, in as many steps, from the same initial weights,
and has the same teacher. Each row chooses from four settings on validation digits, with the first seed; the test digits
decide nothing. Every seed draws other labelled digits. Runs that are done are not done again. Writes
`benchmarks/results/adversarial/kdgan.json`, `.md` and `.png`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from kdgan_runs import BATCH, EPOCHS, EXAMPLES, ROWS, SEEDS, VALIDATION, VIEWS, WIDTH, Study
from small_runs import gain, mean_and_deviation, shown

from keras_kd.plots import COLORS, figure

RESULTS = Path(__file__).parent / "results" / "adversarial"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/kdgan.py"


def test_accuracies(runs: list[dict]) -> list[float]:
    """Run by run."""
    return [run["test"] for run in runs]


def over(results: dict[str, Any], row: str, base: str):
    """The gain of a row over another, paired by seed."""
    taught, alone = (test_accuracies(results[name]["runs"]) for name in (row, base))
    return gain(taught, alone, row)


def verdict(results: dict[int, dict[str, Any]]) -> str:
    """One sentence for each number of labelled digits and each adversary beside soft targets, from the intervals."""
    says = {"helps": "adds to", "no evidence": "shows no evidence of adding to", "negative transfer": "harms"}
    sentences = []
    for examples, of in results.items():
        for row in ("kdgan", "ac"):
            found = over(of, row, "distilled")
            sentences.append(
                f"With {examples:,} labelled digits, {ROWS[row].title} {says[found.verdict]} plain distillation: "
                f"{shown(found)} points."
            )
    return " ".join(sentences)


def cells(results: dict[str, Any], row: str, examples: int) -> str:
    """Published, here, over the student alone and over the distilled one."""
    published = ROWS[row].published.get(examples)
    accuracies = mean_and_deviation(test_accuracies(results[row]["runs"]))
    gains = [shown(over(results, row, base)) if row != base else "" for base in ("alone", "distilled")]
    return " | ".join([f"{published:.2f}" if published else "", accuracies, *gains])


def table(results: dict[int, dict[str, Any]], teachers: dict[int, list[dict]]) -> str:
    """The results as Markdown."""
    parameters = results[EXAMPLES[0]]["alone"]["runs"][0]["parameters"]
    lines = [
        "# Does an adversary add to plain distillation?",
        "",
        verdict(results),
        "",
        f"`{COMMAND}`: MNIST, {' or '.join(f'{n:,}' for n in EXAMPLES)} labelled digits, drawn anew for each of "
        f"{len(SEEDS)} seeds. Student: an MLP with two hidden layers of {WIDTH} ({parameters:,} weights); teacher and "
        f"discriminator: a LeNet, trained on the same labelled digits. Every row: {VIEWS:,} views of them, rotated by "
        f"up to 15 degrees and shifted by up to 3 pixels, {VIEWS // BATCH * EPOCHS:,} steps of {BATCH}. Settings are "
        f"chosen on {VALIDATION:,} validation digits with seed {SEEDS[0]}, four for each row. Test accuracy in "
        "percent, mean and standard deviation over the seeds; gains in points, paired by seed, with 95 % intervals.",
    ]
    for examples, of in results.items():
        lines += [
            "",
            f"## {examples:,} labelled digits",
            "",
            f"Teacher: {mean_and_deviation(test_accuracies(teachers[examples]))}.",
            "",
            "| student | published | here | over the student alone | over the distilled one | chosen |",
            "|---|---|---|---|---|---|",
        ]
        for row in of:
            chosen = ", ".join(f"{name} {value:g}" for name, value in of[row]["setting"].items())
            lines.append(f"| {ROWS[row].title} | {cells(of, row, examples)} | {chosen} |")
    lines += [
        "",
        "Published: best epoch on the test digits, one run, and the student alone without augmentation, as in the "
        "first row. There views are zoomed by a tenth besides, and the networks are wider.",
    ]
    return "\n".join(lines) + "\n"


def plot(results: dict[int, dict[str, Any]]):
    """Every run of every row, beside what was published."""
    drawn = figure(10.5, 4.2)
    for axis, (examples, of) in zip(drawn.subplots(1, len(results)), results.items(), strict=True):
        places = np.arange(len(of))
        for place, (row, found) in zip(places, of.items(), strict=True):
            values = 100 * np.array(test_accuracies(found["runs"]))
            color = COLORS["alone"] if row in ("plain", "alone") else COLORS["distilled"]
            axis.plot(np.full(len(values), place), values, "o", color=color, alpha=0.5)
            axis.hlines(values.mean(), place - 0.3, place + 0.3, color=color)
            if examples in ROWS[row].published:
                axis.plot(place, ROWS[row].published[examples], "x", color=COLORS["teacher"])
        axis.set_xticks(places, [ROWS[row].title for row in of], rotation=20, ha="right")
        axis.set(title=f"{examples:,} labelled digits", ylabel="test accuracy, %")
    axis.plot([], [], "x", color=COLORS["teacher"], label="published")
    axis.legend(frameon=False, loc="lower right")
    return drawn


def main() -> None:
    """Runs what is missing and writes table and plot."""
    study = Study()
    teachers = {n: [study.teacher_run(n, seed) for seed in SEEDS] for n in EXAMPLES}
    results = {n: {row: study.row(row, n) for row in ROWS} for n in EXAMPLES}
    RESULTS.mkdir(parents=True, exist_ok=True)
    RESULTS.joinpath("kdgan.json").write_text(json.dumps({"teachers": teachers, "students": results}, indent=1))
    RESULTS.joinpath("kdgan.md").write_text(table(results, teachers), encoding="utf-8")
    plot(results).savefig(RESULTS / "kdgan.png", dpi=120)


if __name__ == "__main__":
    main()
