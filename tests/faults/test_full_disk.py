"""A disk that is full in earnest, a tmpfs. Elsewhere here `RLIMIT_FSIZE` stands for it, which needs no root."""

import subprocess

import pytest

from keras_kd.backup import STATE
from tests.faults.outcomes import outcomes_of


def mounted(folder, options):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A folder with room for one backup and not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        if not mounted(folder, "size=96k"):
            pytest.skip("may not mount a tmpfs")
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
    except FileNotFoundError:
        pytest.skip("has no `mount`")


@pytest.mark.slow
def test_a_run_goes_on_when_there_is_room_again(disk, tmp_path):
    (full,) = outcomes_of({"full": ("fit", {"folder": disk})}).values()
    assert full["error"] == (
        f"OSError: [Errno 28] cannot write {disk / STATE} (No space left on device). What was there is kept"
    )
    assert mounted(disk, "remount,size=1m")
    cases = {"resumed": ("resume", {"folder": disk}), "unbroken": ("fit", {"folder": tmp_path / "unbroken"})}
    resumed, unbroken = (outcome["said"] for outcome in outcomes_of(cases).values())
    assert (resumed["files"], resumed["done"]) == ([STATE], 1)
    assert resumed["state"] == unbroken["state"]
