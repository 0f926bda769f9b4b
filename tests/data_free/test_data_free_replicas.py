"""Two replicas under MirroredStrategy play the rounds that one device plays with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np


def test_two_replicas_play_the_rounds_of_one_device():
    program, root = "tests.data_free.data_free_replicas", Path(__file__).parents[2]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(
        [sys.executable, "-m", program], capture_output=True, text=True, env=environment, cwd=root, timeout=300
    )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, finished.stderr[-3000:]
    (one, one_weights), (two, two_weights) = json.loads(lines[0].removeprefix("RESULT"))
    assert set(two) == set(one) == {"loss", "logits_mae", "disagreement", "generator_loss"}
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-5, err_msg=name)
    for received, expected in zip(two_weights, one_weights, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
