"""What a chain leaves on disk, damaged before it goes on: refused by name, or read as it was written."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.assistants.records import HopFolder, HopRecord, claim
from tests.hostile.bounds import outcome
from tests.hostile.damage import NOT_JSON, changes, damaged

RECORD = HopRecord("small", 8, 32, {"loss": [1.0, 0.5]}, 1, {"val_loss": 0.5}, 2.5)
EPOCHS = [{"logs": {"loss": 1.0}, "seconds": 0.5, "seeds": {"dropout": [1, 2]}}]


@pytest.fixture
def hop(tmp_path):
    return HopFolder(tmp_path / "hop")


def check(path, sound, read, mark):
    """Every change of a JSON file is refused in its name, or read."""
    told = rf"`TeacherAssistantChain`: {path} is damaged\. Delete {path.parent} to begin anew\."
    cases = {**damaged(json.dumps(sound).encode(), mark), **NOT_JSON, **dict(changes(sound))}
    found = []
    for what, content in cases.items():
        path.write_bytes(content)
        found.append(outcome(read, told=told, what=what) is not None)
    assert 0 < sum(found) < len(found)
    assert not mark.exists()


def test_records_of_hops(hop, tmp_path):
    hop.finish(RECORD)
    assert hop.finished() == RECORD
    path = tmp_path / "hop" / "hop.json"
    check(path, json.loads(path.read_bytes()), hop.finished, tmp_path / "ran")


def test_records_of_epochs(hop, tmp_path):
    hop.write_epochs(EPOCHS)
    assert hop.read_epochs() == EPOCHS
    check(tmp_path / "hop" / "epochs.json", EPOCHS, hop.read_epochs, tmp_path / "ran")


def test_settings_of_chains(tmp_path):
    (tmp_path / "chain").mkdir()
    path = tmp_path / "chain" / "chain.json"
    check(path, {"alpha": 0.3}, lambda: claim(path.parent, {"models": 3}) or True, tmp_path / "ran")


def test_weights(hop, tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    hop.save(model, hop.weights)
    before, sound = [np.array(weight) for weight in model.get_weights()], hop.weights.read_bytes()
    told = (
        rf"`TeacherAssistantChain`: {hop.weights} is damaged, or of another model \(.*\)\. Delete .* to train it anew\."
    )
    refused = 0
    for what, content in damaged(sound, tmp_path / "ran").items():
        hop.weights.write_bytes(content)
        refused += outcome(lambda: hop.load(model, hop.weights) or True, told=told, what=what) is None
    assert refused > 5
    hop.weights.write_bytes(sound)
    hop.load(model, hop.weights)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / "ran").exists()
