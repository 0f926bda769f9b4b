import inspect
import json
import os
import subprocess
import sys

import keras
import pytest

import keras_kd

# Forked from one process that holds TensorFlow and Keras, every child imports the package afresh.
MEASURE = """
import json, os, sys, time
start = time.process_time()
import tensorflow, keras

beside = time.process_time() - start
before = set(sys.modules)
for _ in range(7):
    if os.fork() == 0:
        start = time.process_time()
        import keras_kd
        seconds = time.process_time() - start
        os.write(1, (json.dumps([seconds / beside, sorted(set(sys.modules) - before)]) + "\\n").encode())
        os._exit(0)
    os.wait()
"""


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forked processes")


@pytest.fixture(scope="module")
def imports():
    """Share of the time of TensorFlow and Keras, and new modules, of several imports, each in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=300)
    measured = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(measured) == 7
    return measured


@needs_fork
def test_import_adds_little_to_tensorflow_and_keras(imports):
    # 100 ms where those take two and a half seconds. The least of several: whatever else the machine does only adds.
    assert min(share for share, _ in imports) < 0.04


@needs_fork
def test_import_loads_nothing_heavy(imports):
    heavy = {"ai_edge_litert", "matplotlib", "scipy", "sklearn", "tensorflow_datasets"}
    for _, modules in imports:
        assert {name.split(".")[0] for name in modules} & heavy == set()
        assert "keras_kd.distiller" in modules


def public(namespace):
    return [(f"{namespace.__name__}.{name}", getattr(namespace, name, None)) for name in namespace.__all__]


NAMES = [named for space in (keras_kd, keras_kd.losses, keras_kd.objectives, keras_kd.data) for named in public(space)]
NAMES += [named for space in (keras_kd.page, keras_kd.quantization) for named in public(space)]
NAMES += [
    (f"keras_kd.schedules.{name}", value)
    for name, value in vars(keras_kd.schedules).items()
    if isinstance(value, type) and issubclass(value, keras.callbacks.Callback) and not name.startswith("_")
]


@pytest.mark.parametrize(("name", "value"), NAMES, ids=[name for name, _ in NAMES])
def test_public_names_exist_and_are_documented(name, value):
    assert value is not None, f"`{name}` is in `__all__` and does not exist."
    lines = (value.__doc__ or "").strip().splitlines()
    assert lines, f"`{name}` has no docstring."
    assert lines[0].endswith((".", "?", ":")), f"The first line of `{name}` is not a sentence."
    if callable(value) and inspect.signature(value).parameters:
        sections = {line.strip() for line in lines}
        assert sections & {"Args:", "Attributes:"}, f"`{name}` does not document its arguments."
