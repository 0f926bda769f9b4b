"""Damaged, missing and foreign files: `open_cache` refuses them, and `cache_teacher` writes them anew."""

import json
import os
import shutil
from pathlib import Path

import pytest

from keras_kd.cache import open_cache
from keras_kd.cache.finishing import survey
from keras_kd.cache.manifest import Manifest
from tests.cache.caching import refusal_of
from tests.cache.writing_program import SHARDS, NotingTeacher, asked, files_of, source, write

OTHER = "signals-00001.tfrecord"
BLOCKS_OF_OTHER = [12, 16, 20]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A whole cache."""
    folder = tmp_path_factory.mktemp("original") / "cache"
    write(folder)
    return folder


@pytest.fixture
def cache(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / "cache")


@pytest.fixture
def bare(cache):
    """A copy without its manifest, as an interrupted writer leaves it."""
    (cache / "manifest.json").unlink()
    return cache


def flip(path: Path, position: int) -> None:
    """Turns one bit of a byte."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


def check_mended(cache, original, blocks):
    """Another call asks about some blocks, and the files are as they were."""
    write(cache, cache.with_name("notes"))
    assert asked(cache.with_name("notes")) == blocks
    assert files_of(cache) == files_of(original)


def refused_by_open_cache(cache):
    return refusal_of(open_cache, cache, source())


REGIONS = {"length": 3, "crc of the length": 9, "header": 40, "length of a block": -160, "a row": -100, "crc of it": -1}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
def test_one_bit_is_found_and_its_shard_written_anew(region, finished, cache, original):
    flip(cache / OTHER, REGIONS[region])
    if not finished:
        (cache / "manifest.json").unlink()
    else:
        assert refused_by_open_cache(cache) == (
            f"`open_cache`: {cache}/{OTHER} is not the file that was written: its checksum differs. Run "
            "`cache_teacher` again, which writes it anew."
        )
    check_mended(cache, original, BLOCKS_OF_OTHER)


def test_any_bit_is_found_without_a_manifest_too(bare, original, capsys):
    plan, size = Manifest.read(original).plan, (original / OTHER).stat().st_size
    for position in range(0, size, 31):
        flip(bare / OTHER, position)
        assert survey(bare, plan) == [0, 2, 3, 4], position
        assert not (bare / OTHER).exists()
        assert capsys.readouterr().out == f"{bare / OTHER} is damaged, and is written anew.\n"
        shutil.copy(original / OTHER, bare)
    assert survey(bare, plan) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b"\0", lambda whole: b""])
def test_a_shard_of_another_length_is_written_anew(change, bare, original):
    (bare / OTHER).write_bytes(change((original / OTHER).read_bytes()))
    check_mended(bare, original, BLOCKS_OF_OTHER)


def test_a_sound_shard_of_too_few_examples_is_that_of_other_data(bare, original):
    (bare / OTHER).write_bytes((original / OTHER).read_bytes()[:-80])  # less its last block
    assert refusal_of(write, bare) == (
        f"`cache_teacher`: {bare}/{OTHER} was written for another data set: it has 8 examples. Delete {bare} and begin "
        "anew."
    )


def test_deleted_shards(cache, original):
    for shard in (1, 4):
        (cache / f"signals-{shard:05}.tfrecord").unlink()
    assert refused_by_open_cache(cache) == (
        f"`open_cache`: {cache} lacks 2 of its 5 shards: signals-00001.tfrecord, signals-00004.tfrecord. Bring them "
        "back, or run `cache_teacher` again."
    )
    check_mended(cache, original, [*BLOCKS_OF_OTHER, 48])


def test_many_deleted_shards_are_not_all_named(cache):
    for shard in range(SHARDS):
        (cache / f"signals-{shard:05}.tfrecord").unlink()
    assert refused_by_open_cache(cache) == (
        f"`open_cache`: {cache} lacks 5 of its 5 shards: signals-00000.tfrecord, signals-00001.tfrecord, "
        "signals-00002.tfrecord and 2 more. Bring them back, or run `cache_teacher` again."
    )


def swap(folder):
    first, second = (folder / f"signals-{shard:05}.tfrecord" for shard in (1, 3))
    os.replace(first, folder / "aside")
    os.replace(second, first)
    os.replace(folder / "aside", second)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
def test_shards_swapped_by_name(finished, cache, original):
    swap(cache)
    if not finished:
        (cache / "manifest.json").unlink()
    else:
        assert refused_by_open_cache(cache).startswith(
            f"`open_cache`: {cache}/{OTHER} is not the file that was written"
        )
    check_mended(cache, original, [*BLOCKS_OF_OTHER, 36, 40, 44])


class OtherTeacher(NotingTeacher):
    __name__ = "another"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The cache of another teacher about the same examples."""
    folder = tmp_path_factory.mktemp("foreign") / "cache"
    write(folder, teacher=OtherTeacher())
    return folder


def test_a_shard_of_another_teacher_is_written_anew(cache, original, foreign):
    shutil.copy(foreign / OTHER, cache)
    assert refused_by_open_cache(cache).startswith(f"`open_cache`: {cache}/{OTHER} is not the file that was written")
    check_mended(cache, original, BLOCKS_OF_OTHER)


def test_a_shard_of_another_teacher_among_unfinished_ones_is_refused(bare, foreign):
    shutil.copy(foreign / OTHER, bare)
    before = files_of(bare)
    assert "holds a cache of another teacher: " in refusal_of(write, bare)
    assert files_of(bare) == before


def test_the_manifest_of_another_cache_is_refused(cache, foreign):
    shutil.copy(foreign / "manifest.json", cache)
    before = files_of(cache)
    assert "holds a cache of another teacher: " in refusal_of(write, cache)
    assert refused_by_open_cache(cache).startswith(f"`open_cache`: {cache}/signals-00000.tfrecord is not the file")
    assert files_of(cache) == before


def test_a_missing_manifest_is_written_without_asking(bare, original):
    assert refused_by_open_cache(bare) == (
        f"`open_cache`: there is no finished cache in {bare}: it holds 5 shards and no manifest.json. Run "
        "`cache_teacher` to make or to finish it."
    )
    check_mended(bare, original, [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"format": 1', "Expecting ',' delimiter: line 1 column 13 (char 12)"),
        ("{}", "'format'"),
        ('{"format": 1}', "'views'"),
        ("[]", "list indices must be integers or slices, not str"),
        ('{"format": 1, "views": 0, "shards": [1]}', "`views` must be a whole number of at least 1. Received: 0"),
    ],
)
def test_a_damaged_manifest_is_written_anew_without_asking(text, complaint, cache, original):
    manifest = cache / "manifest.json"
    manifest.write_text(text, "utf-8")
    assert refused_by_open_cache(cache) == (
        f"`open_cache`: {manifest} is damaged ({complaint}). Run `cache_teacher` again."
    )
    check_mended(cache, original, [])


def test_another_format_is_refused(cache):
    manifest = cache / "manifest.json"
    contents = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps({**contents, "format": 2}), "utf-8")
    assert refused_by_open_cache(cache) == (
        f"`open_cache`: {cache} has format 2; this version reads format 1. Make it anew."
    )
    assert refusal_of(write, cache) == (
        f"`cache_teacher`: {cache} holds a cache of another format: 2, not 1. Choose another folder."
    )


def test_files_of_others_are_left_alone(cache):
    beside = {"signals-old.tfrecord": b"a copy", "README.md": b"what this is"}
    for name, content in beside.items():
        (cache / name).write_bytes(content)
    (cache / OTHER).unlink()
    write(cache)
    assert {name: files_of(cache)[name] for name in beside} == beside


def test_nothing_is_asked_for_a_finished_cache(cache, original):
    check_mended(cache, original, [])
