"""What the tables say of gains."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from small_runs import gain, shown


def test_a_gain_has_the_interval_of_its_pairs():
    # Of 4, 1 and 6 points; the quantile of two degrees of freedom is 4.3027.
    found = gain([0.64, 0.66, 0.71], [0.60, 0.65, 0.65], "all")
    assert (shown(found), found.verdict) == ("+3.67 [-2.58, +9.92]", "no evidence")


def test_one_run_says_nothing_of_its_interval():
    found = gain([0.66], [0.64], "all")
    assert (shown(found), found.verdict) == ("+2.00 [-inf, +inf]", "no evidence")
