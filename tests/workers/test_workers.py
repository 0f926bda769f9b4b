"""Several workers under MultiWorkerMirroredStrategy log and learn what one process does on the same global batch."""

import signal
from contextlib import nullcontext

import keras
import numpy as np
import pytest

from tests.distiller.small_models import answers
from tests.workers import cluster, runs

LONG = ("cached", "cached_on_disk", "cached_by_id", "sharded", "related", "normalised", "shuffled")
FOUR = ("live", "cached", "sharded", "normalised")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def caches(folder):
    runs.write_caches(folder)
    return folder


@pytest.fixture(scope="module")
def two(folder):
    return cluster.run(2, folder, "live", "refusals")


@pytest.fixture(scope="module")
def two_longer(caches):
    return cluster.run(2, caches, *LONG, "normalised_by_share")


@pytest.fixture(scope="module")
def four(caches):
    return cluster.run(4, caches, *FOUR)


def test_two_workers_do_what_one_process_does(two, folder):
    assert_as_one_process("live", two, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_two_workers_do_so_with_all_kinds_of_data(name, two_longer, folder):
    assert_as_one_process(name, two_longer, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUR)
def test_four_workers_do_what_one_process_does(name, four, folder):
    assert_as_one_process(name, four, folder)


@pytest.mark.slow
def test_statistics_of_shares_are_averaged_by_their_sizes(two_longer):
    found = two_longer[0]["normalised_by_share"]
    assert two_longer[1]["normalised_by_share"] == found
    # The first worker has two of the three examples, the second one; half of what was before, 0 and 1, remains.
    hidden = np.array(found["hidden"])
    np.testing.assert_allclose(found["mean"], hidden.mean(0) / 2, rtol=1e-5)
    np.testing.assert_allclose(found["variance"], 1 / 2 + (2 / 3 * hidden[:2].var(0)) / 2, rtol=1e-5)


def test_what_several_workers_cannot_do_is_refused(two):
    for worker in two:
        texts = worker["refusals"]
        assert texts["adversarial"] == (
            "`AdversarialDistiller`: it does not train in several processes. Received a `MultiWorkerMirroredStrategy`. "
            "Make it under a `MirroredStrategy`, or take a `Distiller`."
        )
        assert texts["several steps"] == (
            "`Distiller`: several processes take one step at a time. Received: steps_per_execution=2. Compile without."
        )
        assert texts["backups"] == (
            "`Distiller`: all workers must go on from one backup. Received those of the epochs [0, 1]. Give "
            "`BackupAndRestore` a folder that every worker reads."
        )
        assert texts["jit_compile"] is False


@pytest.mark.slow
@pytest.mark.parametrize("backup", ["own", "keras"])
def test_a_cluster_of_which_a_worker_was_killed_goes_on(backup, tmp_path):
    codes = cluster.end(cluster.start(2, tmp_path, f"dying-{backup}"))
    assert codes[1] == -signal.SIGKILL
    assert "UnavailableError" in cluster.said(tmp_path, 0)  # it does not wait for ever
    logged, *left = runs.resumed(nullcontext())
    received = [worker[backup] for worker in cluster.run(2, tmp_path, backup)]
    assert received[0] == received[1]
    for key, values in logged.items():
        np.testing.assert_allclose(received[0][0][key], values[2:], rtol=1e-4, err_msg=key)  # two epochs were left
    compare(received[0][1:], left)
    compare(answers(keras.models.load_model(tmp_path / "last.keras").student, runs.X), received[0][2])
    lines = (tmp_path / "log.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2", "3"]  # written once
    assert not (tmp_path / backup).exists()


def assert_as_one_process(name, workers, folder):
    """All workers end alike to the bit, and as one process does."""
    first = workers[0][name]
    assert not isinstance(first, str), first
    assert all(worker[name] == first for worker in workers)
    logged, *left = getattr(runs, name)(nullcontext(), folder)
    assert set(first[0]) == set(logged)
    for key, values in logged.items():
        np.testing.assert_allclose(first[0][key], values, rtol=1e-4, err_msg=key)
    compare(first[1:], left)


def compare(received, expected):
    """Arrays, in lists of lists."""
    if isinstance(expected, list | tuple) and isinstance(expected[0], list | tuple):
        for one, other in zip(received, expected, strict=True):
            compare(one, other)
    else:
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
