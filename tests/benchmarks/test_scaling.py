"""The arithmetic of long runs: by hand, against the run that was made, and as the docs quote it."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from scaling_plan import Line, readers_for, seconds_of_asking, seconds_of_epoch

ROOT = Path(__file__).parents[2]


def test_a_line_goes_through_both_points():
    line = Line.through((100, 3.0), (300, 7.0))
    assert (line.fixed, line.per_example) == (1.0, 0.02)
    assert line(1000) == 21.0


def test_workers_share_the_examples_but_not_the_start():
    assert seconds_of_asking(Line(5.0, 0.1), examples=1001, workers=4, views=2) == pytest.approx(5 + 251 * 2 * 0.1)


@pytest.mark.parametrize(
    ("read", "step", "readers", "seconds"),
    [
        (1.0, 2.0, 0, 30.0),  # one core: ten times read and learn
        (1.0, 2.0, 1, 21.0),  # the step is the limit: one read, ten steps
        (2.0, 1.0, 1, 21.0),  # the reader is the limit: ten reads, one step
        (2.0, 1.0, 2, 12.0),  # two readers keep up: after the first read a batch a second, in pairs, ten steps
        (4.0, 1.0, 2, 22.0),  # two readers do not: five rounds of four, then the steps of the last two
    ],
)
def test_ten_batches_by_hand(read, step, readers, seconds):
    assert seconds_of_epoch(10, read, step, readers, buffer=10) == seconds


def test_a_reader_waits_for_room():
    # With room for one batch the second is begun when the first is taken, at 1, and is ready at 4: no time is won.
    assert seconds_of_epoch(3, read=1.0, step=3.0, readers=1, buffer=1) == 10.0


def test_readers_are_whole():
    assert readers_for(1000, 0.0017) == 2


def test_the_run_that_was_made_is_predicted_within_ten_percent():
    records = [json.loads(line) for line in (ROOT / "benchmarks/results/scaling.jsonl").read_text().splitlines()]
    by_setting = {(record["setting"], record["seed"]): record for record in records}
    for seed in range(3):
        parts, whole = by_setting["parts", seed]["figures"], by_setting["whole", seed]
        batches = whole["settings"]["examples"] / whole["settings"]["batch"]
        (few, short), (many, long) = parts["asked"]
        each = (long - short) / (many - few)
        asking = short + (whole["settings"]["examples"] - few) * each
        learning = parts["first"] + whole["settings"]["epochs"] * batches * (parts["read"] + parts["step"])
        made = whole["figures"]["asking"] + whole["figures"]["learning"]
        assert abs((asking + learning) / made - 1) < 0.1


def test_the_docs_quote_the_measured_rows():
    measured = (ROOT / "benchmarks/results/scaling.md").read_text().splitlines()
    quoted = [line for line in (ROOT / "docs/scaling.md").read_text().splitlines() if line.startswith("|")]
    assert len(quoted) == 17
    assert set(quoted) <= set(measured)
