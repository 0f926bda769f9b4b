"""An export over an older one that is killed, interrupted or out of disk leaves whole files; the same again ends it."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.export import LiteRTModel, read_metadata
from tests.faults.breaking_program import SEEN, export, network
from tests.faults.outcomes import outcomes_of

OLD, NEW = 1, 2
CUT = {"size": 3_000}  # in the variables of the SavedModel
NAMES = ["labels.txt", "report.json", "saved_model", "student.tflite"]
# What happens, how it ends, and which files are new by then.
FAULTS = {
    "killed in a SavedModel": (({"limit": {**CUT, "kills": True}},), "SIGXFSZ", []),
    "export out of disk": (({"limit": {**CUT, "kills": False}},), "OSError", []),
}
MORE = {
    # That file is opened a first time when the old export is copied.
    "interrupted before the report": (({}, ["open", "report.json", 2, "interrupt"]), "KeyboardInterrupt", []),
    "killed before the report": (({}, ["open", "report.json", 2, "die"]), "SIGKILL", []),
    "killed as names are given": (({}, ["os.rename", "student.tflite", 1, "die"]), "SIGKILL", ["saved_model"]),
    "killed as the last is given": (
        ({}, ["os.rename", "report.json", 1, "die"]),
        "SIGKILL",
        ["saved_model", "student.tflite"],
    ),
}


def broken(root, faults):
    """The cases of an export, and of others that are broken, each into a copy of it."""
    cases = {"old": ("export", {"folder": root / "old", "seed": OLD})}
    for name, ((arguments, *event), _, _) in faults.items():
        given = {"folder": root / name, "seed": NEW, "over": root / "old", **arguments}
        cases[name] = ("export", given, *event)
    return cases


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """Their folder, and how they end."""
    root = tmp_path_factory.mktemp("exports")
    return root, outcomes_of(broken(root, MORE))


def bytes_of(path):
    return path.read_bytes() if path.is_file() else {file.name: bytes_of(file) for file in path.iterdir()}


def seed_of(path):
    """The student that a file holds, by what it computes and what it says."""
    if path.suffix == ".tflite":
        said, seed = LiteRTModel(path)(SEEN), read_metadata(path)["seed"]
    else:
        loaded = tf.saved_model.load(path)
        said = loaded.serve(SEEN).numpy()
        seed = next(seed for seed in (OLD, NEW) if np.allclose(said, network(128, seed)(SEEN), atol=1e-4))
    np.testing.assert_allclose(said, network(128, seed)(SEEN), atol=1e-4)
    return seed


def check(name, faults, outcomes, root):
    assert outcomes["old"] == {"killed": None, "said": None}
    (_, ending, new), left, folder = faults[name], outcomes[name], root / name
    assert (left["killed"] or left["error"].partition(":")[0]) == ending
    files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert files == NAMES
    for file in files:
        if file not in new:
            assert bytes_of(folder / file) == bytes_of(root / "old" / file)
    assert [seed_of(folder / file) for file in new] == [NEW] * len(new)
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert bool(hidden) == bool(left["killed"])


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_but_whole_files_is_there(name, outcomes, root):
    check(name, FAULTS, outcomes, root)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_wherever_it_was_killed(name, more):
    root, outcomes = more
    check(name, MORE, outcomes, root)


def test_the_same_again_ends_it(outcomes, root):
    folder = root / "killed in a SavedModel"
    export(folder, NEW)
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert [seed_of(folder / file) for file in ("saved_model", "student.tflite")] == [NEW, NEW]


def test_a_full_disk_is_told_in_a_line(outcomes, root):
    folder = root / "export out of disk"
    before, inside, after = outcomes["export out of disk"]["error"].partition("/.export-")
    assert before == f"OSError: [Errno 27] `export_student`: cannot write {folder}"
    assert Path(inside + after).name == (
        "saved_model (File too large). What was there is kept: make room and run the same again"
    )
