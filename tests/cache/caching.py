"""Data, teachers and comparisons that the tests of cached signals share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_kd.cache import cache_teacher, open_cache
from keras_kd.replay import keys_of
from tests.distiller.small_models import answers, assert_same, compiled_distiller, mlp, values_of

ids = np.array([f"train-{place:03}" for place in range(600)])


def batched(data, size=4, **kwargs):
    return tf.data.Dataset.from_tensor_slices(data).batch(size, **kwargs)


def identified(x, *rest):
    """A source as TFDS gives it: examples that carry their id."""
    return tf.data.Dataset.from_tensor_slices(({"image": x, "tfds_id": ids[: len(x)]}, *rest))


def signals_of(batch, kind="dense"):
    """The tensors of the signals of a kind, in the teacher's order."""
    return [batch.signals[str(key)] for key in keys_of(batch.signals) if key.kind == kind]


def logits_of(batch):
    (signal,) = signals_of(batch)
    return signal["logits"].numpy()


def inputs_and_logits(dataset):
    """All inputs and signals of a pass over batches of `(WithSignals, ...)`."""
    pairs = [(element[0].x, logits_of(element[0])) for element in dataset]
    return np.concatenate([x for x, _ in pairs]), np.concatenate([logits for _, logits in pairs])


def check_aligned(dataset, teacher, examples=None, atol=1e-6):
    """Every signal is what the live teacher says of the very inputs beside it."""
    x, logits = inputs_and_logits(dataset)
    assert len(x) == (len(x) if examples is None else examples)
    np.testing.assert_allclose(logits, answers(teacher, x), rtol=0, atol=atol)
    return x


def refusal_of(function, *args, kind=ValueError, **kwargs):
    """The whole text of the error."""
    try:
        function(*args, **kwargs)
    except kind as error:
        return str(error)
    raise AssertionError(f"No {kind.__name__}.")


def printed_by(module, *arguments):
    """What a program of this folder, in a process of its own, prints behind `RESULT`."""
    finished = subprocess.run(
        [sys.executable, "-m", f"tests.cache.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=300,
    )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, finished.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT"))


def trained(student, teacher, data, objectives=None, *, compile_with=None, epochs=2, **settings):
    """What a run logs and the weights that it leaves."""
    distiller = compiled_distiller(student, teacher, objectives, compile_with=compile_with, **settings)
    logged = distiller.fit(data, epochs=epochs, shuffle=False, verbose=0).history
    return logged, values_of(student.weights)


def assert_same_run(received, expected, rtol=2e-6, atol=1e-6):
    (received, weights), (expected, expected_weights) = received, expected
    assert list(received) == list(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(received[key], values, rtol=rtol, atol=atol, err_msg=key)
    assert_same(weights, expected_weights, rtol=rtol, atol=atol)


def check_replayed_exactly(
    folder,
    teacher,
    data,
    student=mlp,
    *,
    live=None,
    batch=None,
    objectives=lambda: None,
    caching=None,
    tolerance=None,
    **settings,
):
    """Training on the cache of a teacher logs and leaves what training with the teacher does."""
    cache_teacher(teacher, data, folder, **{"dtype": "float32", **(caching or {})})
    opened = open_cache(folder, data)
    before = values_of(student().weights)
    expected = trained(student(), teacher, data if live is None else live, objectives(), **settings)
    received = trained(student(), None, opened.batch(batch) if batch else opened, objectives(), **settings)
    assert_same_run(received, expected, **(tolerance or {}))
    assert any(np.abs(now - then).max() > 1e-3 for now, then in zip(received[1], before, strict=True))
    return received


def lifted(x, seed):
    """A view that tells its seed: a number drawn from it is added to the example."""
    return x + tf.random.stateless_normal((), seed)
