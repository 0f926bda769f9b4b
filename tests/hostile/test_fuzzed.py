"""Sound files changed at random, for every parser that is ours."""

import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.parsers import PARSERS

PIECES = [
    b"\xff" * 4,
    bytes(4),
    b"\xff\xff\xff\x7f",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"NaN",
    b"1e400",
    b"-1",
    b"9" * 5000,
]
PIECES += [
    b"null",
    b"true",
    b'"',
    b"\\ud800",
    b"../",
    b"\0",
    b"\xff",
    b"\r\n",
    b",",
    b"PK\x01\x02",
    b"(" * 300,
    b"None",
]


@st.composite
def changed(draw, sound):
    """Cut, flipped, with pieces moved, put in or written over; now and then noise."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        step = draw(st.sampled_from(["cut", "flip", "insert", "over", "move", "noise"]))
        if step == "cut":
            del content[place:]
        elif step == "flip" and place < len(content):
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif step in ("insert", "over"):
            piece = draw(st.sampled_from(PIECES))
            content[place : place + (len(piece) if step == "over" else 0)] = piece
        elif step == "move":
            end = draw(st.integers(place, min(len(content), place + 64)))
            other = draw(st.integers(0, len(content)))
            content[other:other] = content[place:end]
        else:
            content[place : place + 8] = draw(st.binary(max_size=32))
    return bytes(content)


def fuzz(name, folder, examples, **how):
    """How many contents a parser was given."""
    parser, given_to_it = PARSERS[name](folder), []
    assert parser.allows(parser.sound)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(max_examples=examples, deadline=timedelta(seconds=5), database=None, suppress_health_check=checks, **how)
    @given(changed(parser.sound))
    def check(content):
        given_to_it.append(len(content))
        assert parser.allows(content)

    check()
    return len(given_to_it)


@pytest.mark.parametrize("name", PARSERS)
def test_a_few_changes_always_the_same(name, tmp_path):
    examples = 5 if name == "shard" else 25
    assert fuzz(name, tmp_path, examples, derandomize=True) >= examples


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_many_changes(name, tmp_path):
    examples = 160 if name == "shard" else 600
    assert fuzz(name, tmp_path, examples) >= examples


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not there for this Python or system")
@pytest.mark.parametrize("name", PARSERS)
def test_changes_that_look_for_new_ways_through_the_code(name, tmp_path):
    command = [sys.executable, "-m", "tests.hostile.fuzzing_program", name, str(tmp_path), "-max_total_time=20"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
