"""A chain that is killed goes on where it was, and ends where an unbroken one ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_kd.objectives import LogitsMSE
from tests.assistants.chains import accuracy, assert_same, assert_same_histories, chain_of, fit, mlp, models, weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What each run of the program came to."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("chain_program.py")), str(tmp_path_factory.mktemp("runs"))],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, finished.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT"))


def epoch(hop, epoch, batches=2):
    return [[hop, epoch, batch] for batch in range(batches)]


LIVE = {
    "killed in hop 0": [*epoch(0, 0), [0, 1, 0]],
    # The epoch that was begun is begun anew.
    "killed in hop 1 before its state": [*epoch(0, 1), *epoch(1, 0), *epoch(1, 1)],
    # It was logged, but has left no state.
    "killed in hop 2": [*epoch(1, 1), *epoch(2, 0), [2, 1, 0]],
    "finished": epoch(2, 1),
}
CACHED = {
    "killed in hop 2": [*epoch(1, 0), *epoch(1, 1), *epoch(2, 0), [2, 1, 0]],
    "finished": epoch(2, 1),
}


@pytest.mark.parametrize(
    ("run", "batches"),
    [
        *[pytest.param(f"live, {name}", batches, id=f"live-{name}") for name, batches in LIVE.items()],
        *[pytest.param(f"cached, {name}", batches, id=f"cached-{name}") for name, batches in CACHED.items()],
    ],
)
def test_no_epoch_that_is_done_is_trained_again(runs, run, batches):
    assert "error" not in runs[run], runs[run]["error"]
    assert runs[run]["batches"] == batches
    assert runs[run]["signal"] == (signal.SIGKILL if "killed" in run else None)


@pytest.mark.parametrize("run", ["live, finished", "cached, finished"])
def test_it_ends_as_the_unbroken_chain(runs, run):
    resumed, unbroken = runs[run], runs[f"{run.split(',')[0]}, unbroken"]
    assert "error" not in unbroken, unbroken["error"]
    assert_same_histories(resumed["histories"], unbroken["histories"])
    assert_same(resumed["weights"], unbroken["weights"])
    assert (resumed["best"], resumed["results"]) == (unbroken["best"], unbroken["results"])
    finished = ["hop.json", "model.weights.h5"]
    hops = ["hop_0", "hop_1", "hop_2"][3 - len(unbroken["best"]) :]
    assert resumed["files"] == unbroken["files"] == [f"{hop}/{file}" for hop in hops for file in finished]


def test_two_devices_learn_what_one_does(runs):
    one, two = runs["one device"], runs["two devices"]
    assert "error" not in one, one["error"]
    assert "error" not in two, two["error"]
    assert_same_histories(two["histories"], one["histories"], rtol=1e-4)
    assert_same(two["weights"], one["weights"], rtol=1e-4, atol=1e-6)
    assert (two["best"], two["results"]) == (one["best"], one["results"])


class Interrupt(keras.callbacks.Callback):
    """Stops a hop within an epoch or when it is trained, once, as a user would."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch, self._now = epoch, None

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._now == self._epoch:
            self._stop()

    def on_train_end(self, logs=None):
        if self._epoch == "end":
            self._stop()

    def _stop(self):
        self._epoch = None
        raise KeyboardInterrupt


def test_an_interrupted_chain_goes_on_in_the_same_process(tmp_path):
    # Nobody can agree with the teacher of hop 0, which leaves that metric out.
    compile_with = {"metrics": ["accuracy", "agreement"]}
    unbroken, chain = (
        chain_of(models(built=False)[:2], train_teacher=True, compile_with=compile_with) for _ in range(2)
    )
    history = fit(unbroken)
    assert ["agreement" in of_hop for of_hop in history] == [False, True]
    # The first stops in its first epoch, of which nothing but the start is kept.
    stops = [[Interrupt(0)], [Interrupt("end")]]
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            fit(chain, folder=tmp_path, callbacks=stops)
    assert_same_histories(fit(chain, folder=tmp_path, callbacks=stops), history)
    assert_same(weights(chain), weights(unbroken))
    # And whoever trains the teacher on, begins with the first epoch.
    teacher = chain.models[0]
    assert len(teacher.fit(np.ones((4, 4)), np.ones(4), epochs=1, verbose=0).history["loss"]) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a chain that is done."""
    path = tmp_path_factory.mktemp("done")
    fit(chain_of(models()[:2]), folder=path, epochs=1)
    return path


def test_the_same_chain_finds_its_folder_and_its_kept_weights(folder):
    chain = chain_of([mlp(9, 1), mlp(7, 11)])
    assert len(fit(chain, folder=folder, epochs=1)[0]["loss"]) == 1
    np.testing.assert_allclose(chain.records[0].results["accuracy"], accuracy(chain.student), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "fitted", "differs"),
    [
        ({"alpha": 0.5}, {}, "`alpha` is [0.3]. Received: [0.5]"),
        ({"temperature": 2}, {}, "`temperature` is [4.0]. Received: [2.0]"),
        ({"dense": True}, {}, None),
        ({"dense": "ensemble"}, {}, "`dense` is False. Received: ensemble"),
        ({"objectives": LogitsMSE()}, {}, None),
        ({"given": [mlp(9, 2), mlp(7, 2)]}, {}, None),
        ({"given": [mlp(9, 1), mlp(6, 2)]}, {}, "`parameters` is [59]. Received: [51]"),
        ({"train_teacher": True}, {}, None),
        ({}, {"epochs": 2}, "`epochs` is [1]. Received: [2]"),
        ({}, {"monitor": "val_loss"}, "`monitor` is [None]. Received: ['val_loss']"),
        ({}, {"cache": True}, "`cached` is False. Received: True"),
    ],
    ids=lambda case: "-".join(map(str, case)) if isinstance(case, dict) else None,
)
def test_a_folder_of_another_chain_is_refused(folder, given, fitted, differs):
    chain = chain_of(**{"given": models()[:2], **given})
    with pytest.raises(ValueError, match="holds another chain") as refused:
        fit(chain, folder=folder, **{"epochs": 1, **fitted})
    text = str(refused.value)
    name = next((name for name in ("objectives", "teacher") if f"its `{name}` is" in text), None)
    assert "\n" not in text
    if differs is None:
        assert name == ("objectives" if {"objectives", "dense"} & set(given) else "teacher")
    else:
        assert text == f"`TeacherAssistantChain`: {folder} holds another chain: its {differs}. Choose another folder."


def test_a_folder_that_is_not_this_chains_is_left_as_it_was(folder):
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="holds another chain"):
        fit(chain_of(models()[:2], alpha=0.9), folder=folder, epochs=1)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
