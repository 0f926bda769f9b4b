"""How the runs of `breaking_program` end, for the tests."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def digest(arrays):
    """Of the values, bit by bit."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def started(module, *words, **options):
    """A program of the tests, in a process of its own."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-u", "-m", module, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, **options)


def outcomes_of(cases):
    """By the names of the cases, each `(action, arguments)` or `(action, arguments, event)`."""
    keys = ("action", "arguments", "event")
    listed = [dict(zip(keys, case, strict=False)) for case in cases.values()]
    with started("tests.faults.breaking_program", json.dumps(listed, default=str), stderr=subprocess.PIPE) as program:
        printed, errors = program.communicate(timeout=1_800)
    lines = [line for line in printed.splitlines() if line.startswith("OUTCOMES")]
    assert lines, errors[-3000:]
    return dict(zip(cases, json.loads(lines[0].removeprefix("OUTCOMES")), strict=True))
