"""Makes a table of the project: measures what is missing of it, then writes it.

    python benchmarks/run.py NAME --seeds N --data-dir DIR --quick

NAME is a file of this folder that has `SEEDS`, `runs` and `page`:

- `runs(seed, quick)` is a generator of `records.Run`. It is sent each run's figures, so that a run may depend on those
  before it. What is costly belongs into the run's `measure`, which is not called when there is a record.
- `page(records)` gives a `rendering.Page` from the records alone.

Every run becomes a line of `benchmarks/results/NAME.jsonl`, from which `NAME.md` and `NAME.png` are written. A run that
has a line is not made again, so a table that was broken off goes on where it stopped, and the same command started
twice shares the seeds between the two processes. `--quick` makes a small copy of everything, which proves nothing, in
`saved_models/quick`. Files of data are those of TensorFlow Datasets.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from records import Record, Records, Run

RESULTS = Path(__file__).parent / "results"
QUICK = Path("saved_models/quick")


def benchmarks() -> list[str]:
    """The names of all tables: the files that have `runs`."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef runs(" in path.read_text(encoding="utf-8")
    )


def driven(runs: Iterator[Run], record_of) -> list[Record]:
    """The records of a generator of runs, which is sent the figures of each."""
    found: list[Record] = []
    try:
        run = next(runs)
        while True:
            found.append(record_of(run))
            run = runs.send(found[-1].figures)
    except StopIteration:
        return found


def measured(benchmark: ModuleType, records: Records, seeds: int, quick: bool) -> None:
    """Makes all runs that are missing: first the seeds that no other process has in hand, then the rest."""
    for wait in (False, True):
        for seed in range(seeds):
            with records.claimed(f"seed_{seed}", wait) as had:
                if had:
                    driven(benchmark.runs(seed, quick), records.complete)


def recorded(benchmark: ModuleType, records: Records, seeds: int, quick: bool) -> list[Record]:
    """The records of the table, each once, seed by seed; raises `Missing` where one is not yet made."""
    found = [record for seed in range(seeds) for record in driven(benchmark.runs(seed, quick), records.of)]
    return [record for index, record in enumerate(found) if record not in found[:index]]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(description="Makes a table of the project, or goes on with it.")
    parser.add_argument("name", choices=benchmarks(), metavar="NAME", help=", ".join(benchmarks()))
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of every setting (default: as published)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of TensorFlow Datasets")
    parser.add_argument("--quick", action="store_true", help="everything in small, into saved_models/quick")
    options = parser.parse_args(arguments)
    if options.seeds is not None and options.seeds < 1:
        parser.error(f"--seeds must be at least 1. Received: {options.seeds}")
    if options.data_dir:
        os.environ["TFDS_DATA_DIR"] = options.data_dir
    benchmark = importlib.import_module(options.name)
    seeds = options.seeds or (1 if options.quick else benchmark.SEEDS)
    folder = QUICK if options.quick else RESULTS
    records = Records(folder / f"{options.name}.jsonl")
    measured(benchmark, records, seeds, options.quick)

    from rendering import write  # after the runs: it brings matplotlib, which they do not need

    found = recorded(benchmark, records, seeds, options.quick)
    print(*write(benchmark.page(found), found, folder), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
