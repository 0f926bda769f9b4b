"""`keras-kd` that is killed again and again, or out of disk, ends with the very student of an unbroken run."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.export import LiteRTModel
from keras_kd.plots import read_history
from tests.faults.outcomes import outcomes_of

pytestmark = pytest.mark.slow
layers = keras.layers

LEARNT = ("--dataset", "digits", "--epochs", "4", "--seed", "3")
COMMANDS = ("distill", "adversarial", "chain", "chain --cache", "multimodal")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a teacher and a student that draws Dropout masks."""
    folder = tmp_path_factory.mktemp("commands")
    keras.utils.set_random_seed(0)
    flat = [keras.Input((8, 8, 1)), layers.Flatten()]
    keras.Sequential([*flat, layers.Dense(32, "relu"), layers.Dense(10)], name="large").save(folder / "teacher.keras")
    dropping = [layers.Dense(16, "relu"), layers.Dropout(0.3, seed=1), layers.Dense(10)]
    keras.Sequential([*flat, *dropping], name="small").save(folder / "student.keras")
    return folder


def words(command, root, out):
    if command == "multimodal":
        return [command, "--manifest", "toy", "--epochs", "3", "--modality-dropout", "0.2", "--out", str(out)]
    models = ["--teacher", str(root / "teacher.keras"), "--student", str(root / "student.keras")]
    return [*command.split(), *models, *LEARNT, "--out", str(out)]


@pytest.fixture(scope="module")
def outcomes(root):
    """Of each command twice without a break, once killed again and again, and of one out of disk."""
    cases = {}
    for command in COMMANDS:
        for again in ("first", "second"):
            cases[command, again] = ("command", {"words": words(command, root, root / f"{command} {again}")})
        out = root / f"{command} killed"
        cases[command, "killed"] = ("persevere", {"words": words(command, root, out), "out": out})
    full = words("distill", root, root / "full")
    cases["full"] = ("command", {"words": full, "limit": {"size": 4_000, "kills": False}})
    cases["full", "resumed"] = ("command", {"words": [*full, "--resume"]})
    return outcomes_of(cases)


def assert_same_student(one, other):
    """The same bits in each form; a `.keras` file also says when it was saved."""
    for first, second in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (one / "student.tflite").read_bytes() == (other / "student.tflite").read_bytes()
    for first, second in zip(variables(one), variables(other), strict=True):
        np.testing.assert_array_equal(first, second)


def weights(folder):
    return keras.saving.load_model(folder / "student.keras").get_weights()


def variables(folder):
    loaded = tf.saved_model.load(folder / "saved_model")
    return [variable.numpy() for variable in loaded.variables]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_seed_gives_the_same_bits_twice(command, root, outcomes):
    assert [outcomes[command, again]["said"]["code"] for again in ("first", "second")] == [0, 0]
    assert_same_student(root / f"{command} first", root / f"{command} second")


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_again_and_again_it_ends_as_the_unbroken_run(command, root, outcomes):
    *killed, last = outcomes[command, "killed"]
    assert len(killed) >= 2
    assert {ending["killed"] for ending in killed} == {"SIGPROF"}
    assert [ending["torn"] for ending in (*killed, last)] == [[]] * (len(killed) + 1)
    assert last["said"]["code"] == 0, last["said"]["told"]
    unbroken, resumed = root / f"{command} first", root / f"{command} killed"
    assert_same_student(resumed, unbroken)
    assert sorted(path.name for path in resumed.iterdir()) == sorted(path.name for path in unbroken.iterdir())
    for log in unbroken.glob("*history.csv"):
        assert read_history(resumed / log.name) == read_history(log)
    LiteRTModel(resumed / "student.tflite")


def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on(root, outcomes):
    said = outcomes["full"]["said"]
    state = root / "full" / "checkpoint" / "latest.weights.h5"
    assert said["code"] == 2
    assert said["told"].splitlines()[-1] == (
        f"keras-kd distill: [Errno 27] cannot write {state} (File too large). What was there is kept"
    )
    assert outcomes["full", "resumed"]["said"]["code"] == 0
    assert_same_student(root / "full", root / "distill first")
