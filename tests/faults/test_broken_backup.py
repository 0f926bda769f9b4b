"""A run that is killed, interrupted or out of disk, wherever it was, goes on to the very bits of an unbroken one."""

import pytest

from keras_kd.backup import STATE, epochs_done
from tests.faults.outcomes import outcomes_of

# Of the second epoch's backup, of which less than half finds room.
CUT = {"epoch": 1, "size": 20_000}
PARTIAL, METADATA = f"partial_{STATE}", "training_metadata.json"
# What happens, how it ends, and the epochs that are done then.
FAULTS = {
    "killed in an epoch": (({"kill": [2, 0]},), "SIGKILL", 2),
    "killed in the backup of a distiller": (({"limit": {**CUT, "kills": True}, "taught": True},), "SIGXFSZ", 1),
    "interrupted in a backup": (({}, ["open", PARTIAL, 2, "interrupt"]), "KeyboardInterrupt", 1),
    "out of disk": (({"limit": {**CUT, "kills": False}},), "OSError", 1),
}
MORE = {
    "killed as it begins a backup": (({}, ["open", PARTIAL, 2, "die"]), "SIGKILL", 1),
    "killed in a backup": (({"limit": {**CUT, "kills": True}},), "SIGXFSZ", 1),
    "killed before a backup has its name": (({}, ["os.rename", STATE, 2, "die"]), "SIGKILL", 1),
    "killed in the first epoch": (({"kill": [0, 1]},), "SIGKILL", 0),
}
KERAS = {
    "killed in a backup": ("keras", ({"limit": {**CUT, "kills": True}},)),
    "killed before the epoch": ("keras, double", ({}, ["open", METADATA, 2, "die"])),
}


def broken_and_resumed(root, faults):
    """The cases of runs that nothing stops, and of others, broken and gone on with."""
    kinds = dict.fromkeys(arguments.get("taught", False) for (arguments, *_), _, _ in faults.values())
    cases = {taught: ("fit", {"folder": root / str(taught), "taught": taught}) for taught in kinds}
    for name, ((arguments, *event), _, _) in faults.items():
        cases[name] = ("fit", {"folder": root / name, **arguments}, *event)
        cases[f"{name}, resumed"] = ("resume", {"folder": root / name, "taught": arguments.get("taught", False)})
    return cases


@pytest.fixture(scope="module")
def more_outcomes(tmp_path_factory):
    """Those of plain Keras, too."""
    root = tmp_path_factory.mktemp("backups")
    cases = broken_and_resumed(root, MORE)
    for name, (backup, (arguments, *event)) in KERAS.items():
        folder = {"folder": root / f"keras, {name}", "backup": backup}
        cases[f"keras, {name}"] = ("fit", {**folder, **arguments}, *event)
        cases[f"keras, {name}, resumed"] = ("fit", folder)
    return outcomes_of(cases)


def check_resumed(name, faults, outcomes):
    (arguments, *_), ending, epochs = faults[name]
    broken, resumed = outcomes[name], outcomes[f"{name}, resumed"]["said"]
    assert (broken["killed"] or broken["error"].partition(":")[0]) == ending
    assert resumed["done"] == epochs
    assert set(resumed["files"]) <= ({STATE, PARTIAL} if broken["killed"] else {STATE})
    unbroken = outcomes[arguments.get("taught", False)]["said"]
    assert resumed["loss"] == unbroken["loss"][epochs:]
    assert resumed["state"] == unbroken["state"]


@pytest.mark.parametrize("name", FAULTS)
def test_it_ends_as_the_unbroken_run(name, outcomes):
    check_resumed(name, FAULTS, outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_wherever_it_was_killed(name, more_outcomes):
    check_resumed(name, MORE, more_outcomes)


def test_a_full_disk_is_told_with_the_file(root, outcomes):
    file = root / "out of disk" / STATE
    assert outcomes["out of disk"]["error"] == (
        f"OSError: [Errno 27] cannot write {file} (File too large). What was there is kept"
    )


@pytest.mark.slow
def test_plain_keras_loses_the_run(more_outcomes):
    """Why there is a backup of our own: should this fail one day, Keras has mended it."""
    assert more_outcomes["keras, killed in a backup"]["killed"] == "SIGXFSZ"
    resumed = more_outcomes["keras, killed in a backup, resumed"]
    assert resumed["error"].startswith("OSError: Unable to synchronously open")
    # The weights are those behind the second epoch, which is trained again.
    again = more_outcomes["keras, killed before the epoch, resumed"]["said"]
    assert len(again["loss"]) == 2
    assert again["state"] != more_outcomes[False]["said"]["state"]


def test_a_damaged_backup_is_named(tmp_path):
    (tmp_path / STATE).write_bytes(b"no backup")
    with pytest.raises(ValueError, match=r"is damaged, or no backup\. Delete it to begin anew"):
        epochs_done(tmp_path)
