"""A writer that is killed, runs out of disk or is told nonsense goes on where it was, to the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cache.caching import refusal_of
from tests.cache.writing_program import SHARDS, STARTS, NotingTeacher, asked, files_of, write

# Each shard is renamed when it is begun and when it is whole, and the manifest last.
RENAMES = (1, 2, 3, 4, 2 * SHARDS, 2 * SHARDS + 1)


def outcomes_of(cases):
    """How processes end that write caches."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    root = Path(__file__).parents[2]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.cache.writing_program", json.dumps(cases)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("OUTCOMES")]
    assert lines, finished.stderr[-3000:]
    return json.loads(lines[0].removeprefix("OUTCOMES"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files that an uninterrupted writer leaves."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder / "cache", folder / "notes")
    assert asked(folder / "notes") == STARTS
    assert sorted(files_of(folder / "cache")) == [
        "manifest.json",
        *(f"signals-{shard:05}.tfrecord" for shard in range(SHARDS)),
    ]
    return files_of(folder / "cache")


KILLED = {
    **{f"asked about {start}": {"at": start, "act": "die"} for start in (4, 8, 12, 20, 36, 48)},
    **{f"before rename {number}": {"rename": [number, True]} for number in RENAMES},
    **{f"after rename {number}": {"rename": [number, False]} for number in RENAMES},
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folders of writers that were killed."""
    root = tmp_path_factory.mktemp("killed")
    folders = {name: root / str(number) for number, name in enumerate(KILLED)}
    for folder in folders.values():
        folder.mkdir()
    cases = [
        {**case, "folder": str(folders[name] / "cache"), "notes": str(folders[name] / "notes")}
        for name, case in KILLED.items()
    ]
    assert outcomes_of(cases) == [["SIGKILL"]] * len(cases)
    return folders


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_writer_is_taken_over_where_it_was(name, killed, whole):
    folder = killed[name]
    before = files_of(folder / "cache")
    write(folder / "cache", folder / "notes of the second")
    first, second = asked(folder / "notes"), asked(folder / "notes of the second")
    in_flight = [KILLED[name]["at"]] if "at" in KILLED[name] else []
    assert first[-1:] == in_flight or not in_flight
    assert sorted(first + second) == sorted(STARTS + in_flight)
    assert first + second[len(in_flight) :] == STARTS
    assert before != whole or second == []
    assert files_of(folder / "cache") == whole


def assert_goes_on(folder, whole, at):
    """Another call asks about one block and all behind it, and all is as if nothing had happened."""
    write(folder, folder.with_name("notes of the second"))
    assert asked(folder.with_name("notes of the second")) == STARTS[STARTS.index(at) :]
    assert files_of(folder) == whole


FULL = (
    "OSError: [Errno {code}] `cache_teacher`: cannot write {file} ({text}). What is written is kept: make room and run "
    "the same again"
)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_a_full_disk_is_an_error_of_one_line_and_what_is_written_is_kept(blocks, tmp_path, whole):
    file = tmp_path / "cache" / "signals-00000.tfrecord"
    room = len(whole[file.name]) - 80 * (3 - blocks) + 60  # of three blocks, each of 80 bytes with its frame
    case = {"folder": str(file.parent), "notes": str(tmp_path / "notes"), "bytes_per_file": room}
    assert outcomes_of([case]) == [[FULL.format(code=5, file=file, text="File too large")]]
    assert asked(tmp_path / "notes") == STARTS[: blocks + 1]
    assert_goes_on(file.parent, whole, at=STARTS[blocks])


def test_a_disk_too_full_for_a_header(tmp_path, whole):
    file = tmp_path / "cache" / "signals-00000.tfrecord"
    case = {"folder": str(file.parent), "notes": str(tmp_path / "notes"), "bytes_per_file": 100}
    # The notes are shorter than the header.
    assert outcomes_of([case]) == [[FULL.format(code=5, file=file, text="File too large")]]
    assert_goes_on(file.parent, whole, at=0)


def test_a_disk_too_full_for_the_manifest(tmp_path, whole):
    file = tmp_path / "cache" / "manifest.json"
    case = {"folder": str(file.parent), "bytes_per_file": len(whole[file.name]) - 1}
    assert outcomes_of([case]) == [[FULL.format(code=27, file=file, text="File too large")]]
    write(file.parent, tmp_path / "notes")
    assert asked(tmp_path / "notes") == []
    assert files_of(file.parent) == whole


def test_ctrl_c(tmp_path, whole):
    refusal_of(write, tmp_path / "cache", tmp_path / "notes", at=20, act="interrupt", kind=KeyboardInterrupt)
    assert asked(tmp_path / "notes")[-1] == 20
    write(tmp_path / "cache", tmp_path / "more notes")
    assert asked(tmp_path / "more notes")[0] in (20, 24)  # an interrupt comes at once, or with the next line of Python
    assert files_of(tmp_path / "cache") == whole


def test_an_exception_out_of_the_teacher(tmp_path, whole):
    text = refusal_of(write, tmp_path / "cache", at=16, act="fail", kind=Exception)
    assert "RuntimeError: The teacher is out." in text
    assert_goes_on(tmp_path / "cache", whole, at=16)


def test_nan_from_the_teacher(tmp_path, whole):
    assert refusal_of(write, tmp_path / "cache", at=28, act="nan") == (
        "`cache_teacher`: the teacher `noting` gave NaN, infinity or more than 3.403e+38 in 'output_0' for example 29. "
        "What was written before is kept."
    )
    assert_goes_on(tmp_path / "cache", whole, at=28)


@pytest.fixture
def broken_off(tmp_path):
    """What a writer leaves that has written two blocks of the second shard."""
    refusal_of(write, tmp_path / "cache", at=20, act="fail", kind=Exception)
    return tmp_path / "cache" / "signals-00001.partial"


@pytest.mark.parametrize(("lost", "at"), [(0, 20), (1, 16), (80, 16), (81, 12), (160, 12), (161, 12), (10**6, 12)])
def test_a_shard_that_breaks_off_loses_its_torn_blocks_alone(lost, at, broken_off, whole):
    written = broken_off.read_bytes()  # two records of 64 bytes in a frame of 16 behind the header
    broken_off.write_bytes(written[: max(0, len(written) - lost)])
    assert_goes_on(broken_off.parent, whole, at)


@pytest.mark.parametrize(
    "garbage", [b"", b"\0" * 5000, b"no record", os.urandom(1000)], ids=["empty", "zeros", "text", "noise"]
)
def test_a_begun_shard_of_garbage_is_begun_anew(garbage, broken_off, whole):
    broken_off.write_bytes(garbage)
    assert_goes_on(broken_off.parent, whole, at=12)


def test_a_begun_shard_under_the_name_of_another_is_begun_anew(broken_off, whole):
    os.replace(broken_off, broken_off.with_name("signals-00003.partial"))
    assert_goes_on(broken_off.parent, whole, at=12)


def test_a_begun_shard_beyond_the_end_of_the_data_is_swept(broken_off, whole):
    broken_off.with_name("signals-00009.partial").write_bytes(b"no record")
    assert_goes_on(broken_off.parent, whole, at=20)


def test_the_views_of_a_block_are_written_together_or_not_at_all(tmp_path):
    write(tmp_path / "whole", views=3)
    refusal_of(write, tmp_path / "cache", views=3, at=20, act="fail", kind=Exception)
    begun = tmp_path / "cache" / "signals-00001.partial"
    begun.write_bytes(begun.read_bytes()[:-80])  # the last view of the second block
    write(tmp_path / "cache", tmp_path / "notes", views=3)
    later = [start for start in STARTS if start >= 16]
    assert asked(tmp_path / "notes") == sorted(3 * later)
    assert files_of(tmp_path / "cache") == files_of(tmp_path / "whole")


def test_of_two_writers_of_one_shard_the_later_goes_on(tmp_path, whole):
    folder = tmp_path / "cache"
    # A lock refuses who writes the same part; parts of other numbers may meet.
    text = refusal_of(write, folder, teacher=Overtaken(folder), kind=OSError)
    assert text == (
        f"[Errno 16] `cache_teacher`: another process has taken over {folder}/signals-00001.tfrecord. Let each machine "
        "write a part of its own, as `shard=(i, n)`"
    )
    write(folder, tmp_path / "notes")
    assert asked(tmp_path / "notes") == [24, 28, 32, 48]  # the other did the shards from 12 and from 36
    assert files_of(folder) == whole


class Overtaken(NotingTeacher):
    """A teacher so slow that meanwhile another writer does every second shard."""

    def __init__(self, folder):
        super().__init__(at=16, act=self._overtaken)
        self._folder = folder

    def _overtaken(self, answers):
        write(self._folder, shard=(1, 2))
        return answers
