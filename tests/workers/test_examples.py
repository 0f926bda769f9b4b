"""The recipes for several workers and for a TPU, run as they stand."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import keras_kd as kd
from tests.workers import cluster

EXAMPLES = Path(__file__).parents[2] / "examples"


def accuracy_of(file):
    """Of a TFLite file, on the test images, as its interpreter says."""
    images, labels = kd.data.digits()[1]
    interpreter = Interpreter(str(file))
    (before,), (after,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(before["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(before["index"], images)
    interpreter.invoke()
    return np.mean(interpreter.get_tensor(after["index"]).argmax(-1) == labels)


@pytest.mark.slow
def test_workers_train_and_the_chief_exports(tmp_path):
    port = cluster.free_ports(1)[0]
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / "multi_worker.py"), "--port", str(port), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=1200,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    ((workers, accuracy),) = re.findall(r"^(\d) workers: accuracy (0\.\d+)", finished.stdout, re.MULTILINE)
    assert workers == "2"
    assert float(accuracy) == pytest.approx(accuracy_of(tmp_path / "student" / "student.tflite"), abs=1e-3)
    assert float(accuracy) > 0.9


@pytest.mark.slow
def test_all_of_the_recipe_for_a_tpu_but_the_tpu(tmp_path):
    spec = importlib.util.spec_from_file_location("tpu", EXAMPLES / "tpu.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.EPOCHS = 4
    report = example.distil(tf.distribute.get_strategy(), tmp_path)
    assert accuracy_of(tmp_path / "student.tflite") > 0.8
    assert {file.format for file in report.files} == {"saved_model", "tflite"}
