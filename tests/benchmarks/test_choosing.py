"""A choice is a run: what it keeps, and that the first of equals is taken."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from choosing import choice, chosen
from records import Record

RATES = [{"rate": 0.1}, {"rate": 0.2}, {"rate": 0.4}]


def test_the_first_of_the_best_is_chosen_and_all_are_kept():
    run = choice("alone", {"epochs": 2}, RATES, lambda setting: {0.1: 0.7, 0.2: 0.8, 0.4: 0.8}[setting["rate"]])
    assert (run.setting, run.seed, run.settings) == ("alone: choice", 0, {"epochs": 2, "candidates": RATES})
    figures = run.measure()
    assert figures == {"chosen": {"rate": 0.2}, "validation": [0.7, 0.8, 0.8]}
    records = [Record("any", "alone", 0, {}, {}), Record("any", run.setting, 0, run.settings, figures)]
    assert chosen(records, "alone") == {"rate": 0.2}
