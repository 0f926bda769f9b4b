"""Two replicas under MirroredStrategy take the same step as one device on the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CASES = [  # each loss, each objective and each state of the models
    ("object", "default", "built"),
    ("string", "hint", "unbuilt"),
    ("function", "keras function", "built"),
    ("object", "relational", "built"),
    ("no labels", "keras object", "unbuilt"),
]


@pytest.fixture(scope="module")
def results():
    program = Path(__file__).with_name("replicas_program.py")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(
        [sys.executable, str(program), json.dumps(CASES)], capture_output=True, text=True, env=environment, timeout=300
    )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, finished.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT"))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_replicas_log_and_learn_what_one_device_does(case, results):
    result = results["/".join(case)]
    assert not isinstance(result, str), result
    (one, one_weights), (two, two_weights) = result
    assert set(two) == set(one)
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, rtol=1e-4, err_msg=key)
    for received, expected in zip(two_weights, one_weights, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
