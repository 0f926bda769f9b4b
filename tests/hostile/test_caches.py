"""Caches: what a manifest says is held against its shards, and shards against the manifest; nothing is believed."""

import json
import os
import shutil
import struct

import numpy as np
import pytest

from keras_kd.cache import open_cache, store
from keras_kd.cache.finishing import survey
from keras_kd.cache.manifest import Manifest
from tests.cache.caching import refusal_of
from tests.cache.writing_program import files_of, source, write
from tests.hostile.bounds import bounded, outcome
from tests.hostile.damage import NOT_JSON, changes, damaged

SHARD = "signals-00001.tfrecord"
REFUSED = r"`open_cache`: .*{path}.* Run `cache_teacher` again.*\.|`open_cache`: {path} has format .* Make it anew\."


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "cache"
    write(folder, top_k=2, dtype="float16")
    return folder


@pytest.fixture
def cache(original, tmp_path):
    return shutil.copytree(original, tmp_path / "cache")


def read(folder):
    """All that is used of a cache."""
    manifest = Manifest.read(folder)
    return {**manifest.plan.facts, "examples": manifest.examples, "sums": manifest.checksums}


def check(cache, original, content, what):
    (cache / "manifest.json").write_bytes(content)
    found = outcome(read, cache, told=REFUSED.format(path=cache), what=what)
    assert found in (None, read(original)), what
    return found


def test_a_manifest_is_whole_or_refused(cache, original, tmp_path):
    sound = (original / "manifest.json").read_bytes()
    cases = {**damaged(sound, tmp_path / "ran"), **NOT_JSON}
    passed = [what for what, content in cases.items() if check(cache, original, content, what)]
    assert {what for what in passed if not what.startswith("flip")} == set()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_any_field_of_a_manifest_may_be_anything(step, cache, original):
    contents = json.loads((original / "manifest.json").read_bytes())
    cases = dict(list(changes(contents))[::step])
    passed = {what for what, content in cases.items() if check(cache, original, content, what)}
    assert len(cases) > 500 / step
    # What tells a cache from others, and nothing reads.
    assert passed == {what for what in cases if what.startswith("('data_fingerprint',)")}


@pytest.mark.parametrize(
    ("changed", "received"),
    [
        ({"examples": 10**15}, "signals-00000.tfrecord and those that follow, 83333333333334 in all"),
        ({"views": 10**12}, "`bytes_per_example` must be 12000000000000"),
        ({"block": 10**18}, "signals-00000.tfrecord and those that follow, 1 in all"),
    ],
)
def test_absurd_numbers_take_neither_memory_nor_time(changed, received, cache):
    manifest = cache / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_bytes()), **changed}), "utf-8")
    with bounded(seconds=2, size=2**28):
        assert received in refusal_of(open_cache, cache, source())


@pytest.mark.parametrize("name", ["../outside.tfrecord", "{absolute}", "linked/outside.tfrecord", SHARD.upper()])
def test_a_manifest_names_no_file_but_its_own_shards(name, cache, tmp_path):
    shutil.copy(cache / SHARD, tmp_path / "outside.tfrecord")
    shutil.copy(cache / SHARD, cache / SHARD.upper())
    os.symlink(tmp_path, cache / "linked")
    manifest = cache / "manifest.json"
    contents = json.loads(manifest.read_bytes())
    contents["shards"][1]["file"] = name.format(absolute=tmp_path / "outside.tfrecord")
    manifest.write_text(json.dumps(contents), "utf-8")
    assert "`shards.file` must be signals-00000.tfrecord and those that follow, 5 in all" in refusal_of(
        open_cache, cache, source()
    )


def test_a_shard_is_whole_or_refused(cache, original, tmp_path):
    sound = (original / SHARD).read_bytes()
    told = REFUSED.format(path=cache) + r"|.* is not the file that was written.*"
    for what, content in damaged(sound, tmp_path / "ran").items():
        (cache / SHARD).write_bytes(content)
        assert outcome(read, cache, told=told, what=what) is None, what
    assert not (tmp_path / "ran").exists()


def test_a_shard_whose_sum_the_manifest_has_is_still_held_against_its_size_and_header(cache):
    manifest = cache / "manifest.json"
    contents = json.loads(manifest.read_bytes())
    whole = (cache / SHARD).read_bytes()
    for content in (whole + b"\0", whole[:-1], whole.replace(b'"seed": 0', b'"seed": 1'), b"short"):
        (cache / SHARD).write_bytes(content)
        contents["shards"][1]["sha256"] = store.sha256(cache / SHARD)
        manifest.write_text(json.dumps(contents), "utf-8")
        assert refusal_of(open_cache, cache, source()) == (
            f"`open_cache`: {cache / SHARD} is no shard of the cache that manifest.json tells of. Run `cache_teacher` "
            "again."
        )


def masked_checksum(content):
    """CRC-32C as a TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(content, length=None):
    head = struct.pack("<Q", len(content) if length is None else length)
    return head + masked_checksum(head) + content + masked_checksum(content)


def test_the_records_of_the_test_are_those_of_tensorflow(original):
    assert (original / SHARD).read_bytes().startswith(record(Manifest.read(original).plan.header(1)))


@pytest.mark.parametrize("length", [1000, 2**50, 2**64 - 1])
@pytest.mark.parametrize("begun", [False, True], ids=["a shard", "begun"])
def test_a_record_that_claims_to_be_huge_is_no_record(length, begun, original, cache):
    plan = Manifest.read(original).plan
    (cache / "manifest.json").unlink()
    path = (cache / SHARD).with_suffix(".partial") if begun else cache / SHARD
    path.write_bytes(record(b"more", length))
    with bounded(size=2**29):
        assert list(store.records_of(path)) == []
        assert survey(cache, plan) == ([0, 1, 2, 3, 4] if begun else [0, 2, 3, 4])
    path.write_bytes(record(plan.header(1)) + record(b"more", length))
    assert list(store.records_of(path)) == [plan.header(1)]


HEADERS = [b"[" * 100_000, b"null", b"[]", b'{"codec": 1}', b'{"signals": [1], "codec": null}', b"\x80\x04N."]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_sound_record_of_an_odd_header_is_damage_or_another_cache(header, original, cache):
    plan, before = Manifest.read(original).plan, files_of(original)
    (cache / "manifest.json").unlink()
    (cache / SHARD).write_bytes(record(header))
    told = rf"`cache_teacher`: {cache} holds a cache of another .* Choose another folder\."
    assert outcome(survey, cache, plan, told=told) in (None, [0, 2, 3, 4])
    assert {name: content for name, content in files_of(cache).items() if name != SHARD} == {
        name: content for name, content in before.items() if name not in (SHARD, "manifest.json")
    }


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_cache_teacher_takes_any_manifest_for_damage_or_for_another_cache(step, original, cache):
    plan, contents = Manifest.read(original).plan, json.loads((original / "manifest.json").read_bytes())
    told = rf"`cache_teacher`: {cache} holds a cache of .* Choose another folder\."
    shards = {name: content for name, content in files_of(original).items() if name != "manifest.json"}
    for what, content in [*NOT_JSON.items(), *changes(contents)][::step]:
        (cache / "manifest.json").write_bytes(content)
        found = outcome(survey, cache, plan, told=told, what=what)
        left = {name: content for name, content in files_of(cache).items() if name != "manifest.json"}
        assert left.items() <= shards.items(), what
        if isinstance(found, Manifest):
            assert (found.plan.facts, left) == (plan.facts, shards), what
        elif found is not None:
            assert found == [number for number, name in enumerate(sorted(shards)) if name in left], what
        for name in shards.keys() - left.keys():
            (cache / name).write_bytes(shards[name])


def test_the_sound_cache_opens(original):
    opened = open_cache(original, source())
    assert sum(1 for _ in opened) == 50
    classes = np.concatenate([next(iter(said[0].signals.values()))["classes"] for said in opened.batch(50)])
    assert sorted(set(classes.ravel())) == [0, 1, 2]
