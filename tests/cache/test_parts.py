"""Parts that several machines write are together, byte for byte, the files that one machine writes."""

import itertools
import shutil

import pytest

from keras_kd.cache import open_cache
from tests.cache.test_interruptions import outcomes_of
from tests.cache.writing_program import SHARDS, STARTS, asked, files_of, source, write

KINDS = ("arrays", "uncounted", "batched", "batched uncounted", "ids", "ids batched uncounted")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files that one machine writes, by the kind of the source."""
    root = tmp_path_factory.mktemp("whole")
    for kind in ("arrays", "ids"):
        write(root / kind, kind=kind)
    return {kind: files_of(root / ("ids" if "ids" in kind else "arrays")) for kind in KINDS}


def blocks_of(part, parts):
    """What a part asks about: each shard is three blocks."""
    return [start for start in STARTS if start // 12 % parts == part]


def write_part(folder, part, parts, kind="arrays", notes="notes"):
    """Writes a part, and asks about no other."""
    notes = folder.with_name(f"{notes} {part} of {parts}")
    manifest = write(folder, notes, kind=kind, shard=(part, parts))
    assert asked(notes) == blocks_of(part, parts)
    return manifest


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_files_of_one_machine(kind, whole, tmp_path):
    assert [write_part(tmp_path / "cache", part, 2, kind) is None for part in (1, 0)] == [True, False]
    assert files_of(tmp_path / "cache") == whole[kind]


@pytest.mark.parametrize("order", [(0,), (1, 0), (0, 1, 2), (2, 0, 1), (4, 1, 3, 0, 2), (6, 5, 4, 3, 2, 1, 0)])
def test_parts_in_any_order(order, whole, tmp_path):
    manifests = [write_part(tmp_path / "cache", part, len(order)) for part in order]
    # Parts 5 and 6 of 7 have nothing to write: there are five shards.
    finished = 1 + max(place for place, part in enumerate(order) if part < SHARDS)
    assert [manifest is not None for manifest in manifests] == [place + 1 >= finished for place in range(len(order))]
    assert manifests[-1].examples == 50
    assert files_of(tmp_path / "cache") == whole["arrays"]


def test_a_part_says_what_is_still_to_come(tmp_path, capsys):
    write(tmp_path / "cache", shard=(1, 5))
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{tmp_path / 'cache'}: 4 of 5 shards are still to come: signals-00000.tfrecord, signals-00002.tfrecord, "
        "signals-00003.tfrecord and 1 more."
    )


def test_a_call_without_shard_writes_what_is_missing(whole, tmp_path):
    write_part(tmp_path / "cache", 1, 3)
    write(tmp_path / "cache", tmp_path / "notes of the last")
    assert asked(tmp_path / "notes of the last") == blocks_of(0, 3)[:3] + blocks_of(2, 3)[:3] + blocks_of(0, 3)[3:]
    assert files_of(tmp_path / "cache") == whole["arrays"]


def test_several_views_and_numbers_drawn_do_not_depend_on_the_parts(tmp_path):
    settings = {"views": 2, "samples": 4, "kind": "ids", "dtype": "float16"}
    for parts in (1, 3):
        for part in range(parts):
            write(tmp_path / str(parts), shard=(part, parts), **settings)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "3")
    assert len(files_of(tmp_path / "1")) == SHARDS + 1


@pytest.mark.parametrize("kind", ["arrays", "batched uncounted"])
def test_two_processes_at_once_in_one_folder(kind, whole, tmp_path):
    folders = [tmp_path / f"cache {number}" for number in range(3)]
    cases = [[{"folder": str(folder), "kind": kind, "shard": [part, 2]} for part in (0, 1)] for folder in folders]
    assert outcomes_of(cases) == [["", ""]] * len(folders)
    assert [files_of(folder) for folder in folders] == [whole[kind]] * len(folders)


def test_folders_of_several_machines_copied_together(whole, tmp_path):
    for part in range(3):
        write(tmp_path / str(part), shard=(part, 3))
        assert "manifest.json" not in files_of(tmp_path / str(part))
        shutil.copytree(tmp_path / str(part), tmp_path / "together", dirs_exist_ok=True)
    write(tmp_path / "together", tmp_path / "notes")
    assert asked(tmp_path / "notes") == []
    assert files_of(tmp_path / "together") == whole["arrays"]
    opened = open_cache(tmp_path / "together", source())
    assert sum(1 for _ in opened) == 50


def test_a_part_that_was_killed_goes_on_beside_the_others(whole, tmp_path):
    folder = tmp_path / "cache"
    case = {"folder": str(folder), "notes": str(tmp_path / "notes"), "at": 40, "act": "die", "shard": [1, 2]}
    assert outcomes_of([case]) == [["SIGKILL"]]
    write_part(folder, 0, 2)
    assert sorted(files_of(folder))[-1] == "signals-00004.tfrecord"
    assert "signals-00003.partial" in files_of(folder)
    write(folder, tmp_path / "notes of the second", shard=(1, 2))
    assert asked(tmp_path / "notes of the second") == [40, 44]
    assert files_of(folder) == whole["arrays"]


def test_parts_of_other_numbers_fit_together(whole, tmp_path):
    for part, parts in itertools.chain([(0, 2)], [(1, 3), (2, 3), (0, 3)]):
        write(tmp_path / "cache", shard=(part, parts))
    assert files_of(tmp_path / "cache") == whole["arrays"]
