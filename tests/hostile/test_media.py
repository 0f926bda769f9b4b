"""Examples in files: manifests in CSV and JSONL, and the sounds, images and texts that they name."""

import io
import json
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_kd.data import load
from keras_kd.data.multimodal import from_manifest
from keras_kd.data.multimodal.files import read_audio, read_image
from tests.data.multimodal.examples import everything, write_csv, write_sound
from tests.hostile.bounds import bounded, outcome
from tests.hostile.damage import NOT_JSON, damaged, pickled

GOOD = [{"text": "fine", "label": label} for label in "aaabbb"]
FORM = {"image": (4, 4, 3), "audio": (8000, 0.01)}
REFUSED = r"`from_manifest`: .*{path}.*\."
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), "uint8")


def encoded(form):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form)
    return buffer.getvalue()


def sound(folder):
    path = folder / "sound.wav"
    write_sound(path, np.sin(np.arange(400) / 8))
    return path.read_bytes()


def read(path):
    return from_manifest(path, **FORM)


def check_media(folder, column, name, cases):
    """Each file is refused with its name, or read into what the modality promises; how many were read."""
    manifest = write_csv(folder, [*GOOD, {column: name, "label": "a"}], columns=[column, "text", "label"])
    told = REFUSED.format(path=re.escape(str(folder / name)))
    read_at_all = 0
    for what, content in cases.items():
        (folder / name).write_bytes(content)
        found = outcome(read, manifest, told=told, what=what)
        if found is not None and column != "text_file":
            spec = found.modalities[column]
            values = np.asarray({"image": read_image, "audio": read_audio}[column](str(folder / name), spec))
            assert values.shape == spec.shape, what
            assert np.isfinite(values).all(), what
            assert (np.abs(values) <= 1).all(), what
        read_at_all += found is not None
    return read_at_all


RARER = [pytest.param(form, marks=pytest.mark.slow) for form in ("gif", "bmp")]


@pytest.mark.parametrize("form", ["png", "jpeg", *RARER])
def test_images(form, tmp_path):
    cases = damaged(encoded(form), tmp_path / "ran")
    assert check_media(tmp_path, "image", f"a.{form}", {"sound": encoded(form)}) == 1
    assert 0 < check_media(tmp_path, "image", f"a.{form}", cases) < len(cases)
    assert not (tmp_path / "ran").exists()


def test_sounds(tmp_path):
    cases = damaged(sound(tmp_path), tmp_path / "ran")
    assert check_media(tmp_path, "audio", "a.wav", {"sound": sound(tmp_path)}) == 1
    assert 0 < check_media(tmp_path, "audio", "a.wav", cases) < len(cases)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_texts(tmp_path):
    cases = damaged("Grüße, 再见".encode(), tmp_path / "ran")
    assert 0 < check_media(tmp_path, "text_file", "a.txt", cases) < len(cases)
    assert not (tmp_path / "ran").exists()


def wav(kind=1, channels=1, rate=8000, bits=16, data=b"\1\0" * 400, claim=None):
    size = len(data) if claim is None else claim
    head = struct.pack("<HHIIHH", kind, channels, rate, 0, 0, bits)
    return b"RIFF____WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size) + data


def test_absurd_claims_of_sounds(tmp_path):
    cases = {
        "two billion bytes": wav(claim=2**31),
        "four billion Hz": wav(rate=2**32 - 1),
        "a large prime of Hz": wav(rate=999_983),
        "no Hz": wav(rate=0),
        "65535 channels": wav(channels=65535),
        "no channels": wav(channels=0),
        "no bits": wav(bits=0),
        "64 bits": wav(bits=64),
        "floats of 16 bits": wav(kind=3),
        "NaN": wav(kind=3, bits=32, data=struct.pack("<f", float("nan")) * 8),
        "infinity": wav(kind=3, bits=64, data=struct.pack("<d", float("inf")) * 8),
        "compressed": wav(kind=0x55),
        "no data": wav(data=b""),
        "less than a frame": wav(channels=2, data=b"\1"),
        "chunks of nothing": b"RIFF____WAVE" + b"junk\0\0\0\0" * 50_000,
    }
    assert check_media(tmp_path, "audio", "a.wav", cases) == 0
    odd = {"1 Hz": wav(rate=1), "a prime of Hz": wav(rate=44_101), "a million Hz": wav(rate=1_000_000)}
    assert check_media(tmp_path, "audio", "a.wav", odd) == 3


def png(width, height, rows=1):
    """A PNG of any claim, with so many rows of zeros packed."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packed = zlib.compress(bytes(rows * (width + 1)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def claiming(form, width, height):
    """A small image that says it is larger."""
    content = bytearray(encoded(form))
    if form == "jpeg":
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", height, width)
    elif form == "gif":
        content[6:10] = struct.pack("<HH", width, height)
    else:
        content[18:26] = struct.pack("<ii", width, -height)
    return bytes(content)


HUGE = {
    "png": png(2**31 - 1, 2**31 - 1),
    "packed": png(9000, 9000, 9000),
    "jpeg": claiming("jpeg", 65_500, 65_500),
    "gif": claiming("gif", 65_535, 65_535),
    "bmp": claiming("bmp", 100_000, 100_000),
}


@pytest.mark.parametrize("name", HUGE)
def test_an_image_that_would_fill_the_memory_is_not_decoded(name, tmp_path):
    manifest = write_csv(tmp_path, [*GOOD, {"image": "a", "label": "a"}], columns=["image", "text", "label"])
    (tmp_path / "a").write_bytes(HUGE[name])
    told = r"`from_manifest`: line 8 .*it has [\d,]+ pixels, and 67,108,864 are read at the most\).*\."
    with bounded(size=2**27):
        assert outcome(read, manifest, told=told) is None
    folder = tmp_path / "images"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for index in range(3):
            (folder / label / f"{index}.png").write_bytes(encoded("png"))
    (folder / "b" / "1.png").write_bytes(HUGE[name])
    told = rf"`load`: cannot read {folder}/b/1\.png: it has .* are read at the most\. Scale it down, or remove it\."
    with bounded(size=2**27):
        assert outcome(load, folder, told=told) is None


@pytest.mark.slow
def test_a_folder_of_damaged_images_names_the_one(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for index in range(3):
            (tmp_path / label / f"{index}.png").write_bytes(encoded("png"))
    path = tmp_path / "b" / "1.png"
    told = rf"`load`: (expected an image that TensorFlow can read\. Received:|cannot read) {path}[,:] .* remove it\."
    for what, content in damaged(encoded("png"), tmp_path / "ran").items():
        path.write_bytes(content)
        outcome(load, tmp_path, told=told, what=what)
    assert not (tmp_path / "ran").exists()


def manifest_cases(content, mark):
    return {**damaged(content, mark), **NOT_JSON, "one long line": b"x" * 10**6, "nothing but commas": b"," * 10**6}


def test_csv_manifests(tmp_path):
    path = write_csv(tmp_path, GOOD)
    for what, content in manifest_cases(path.read_bytes(), tmp_path / "ran").items():
        path.write_bytes(content)
        outcome(read, path, told=REFUSED.format(path=path), what=what)
    assert not (tmp_path / "ran").exists()


def test_jsonl_manifests(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [json.dumps(row).encode() for row in GOOD]
    for what, content in manifest_cases(b"\n".join(rows), tmp_path / "ran").items():
        path.write_bytes(content)
        outcome(read, path, told=REFUSED.format(path=path), what=what)
    for what, content in NOT_JSON.items():  # one bad line among good ones
        path.write_bytes(b"\n".join([*rows, content]))
        found = outcome(read, path, told=rf"`from_manifest`: line \d+ of {path}: .* `skip_bad=True`\.", what=what)
        assert found is None, what
    for value in (None, True, 1.5, 10**30, float("nan"), [], {"a": 1}, "x" * 10**6, "a\0b"):
        for key in ("image", "text", "text_file", "label", "split"):
            path.write_bytes(b"\n".join([*rows, json.dumps({"text": "a", "label": "a", key: value}).encode()]))
            outcome(read, path, told=REFUSED.format(path=path), what=f"{key}: {str(value)[:20]}")
    assert not (tmp_path / "ran").exists()


OUTSIDE = ["../outside.txt", "{absolute}", "linked/outside.txt", "link.txt", "inside/../../outside.txt", "/etc/passwd"]


@pytest.mark.parametrize("cell", OUTSIDE)
def test_a_manifest_whose_paths_leave_its_folder_is_refused(cell, tmp_path):
    folder = tmp_path / "set"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret", "utf-8")
    os.symlink(tmp_path, folder / "linked")
    os.symlink(tmp_path / "outside.txt", folder / "link.txt")
    cell = cell.format(absolute=tmp_path / "outside.txt")
    rows = [*GOOD, {"text_file": cell, "label": "a"}]
    path = write_csv(folder, rows, columns=["text", "text_file", "label"])
    told = (
        rf"`from_manifest`: line 8 of {path}: text_file {re.escape(str(folder / cell))} is outside of {folder}\. Copy "
        r"it there, or give a folder of all as `root`, or leave such rows out by `skip_bad=True`\."
    )
    assert outcome(read, path, told=told) is None
    assert len(from_manifest(path, skip_bad=True, **FORM).skipped) == 1


def test_whoever_opens_a_manifest_may_name_a_wider_folder(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "outside.txt").write_text("there", "utf-8")
    rows = [{"text_file": str(tmp_path / "outside.txt"), "label": "a"}] * 3
    path = write_csv(tmp_path / "set", rows)
    source = from_manifest(path, root=tmp_path, **FORM)
    x, _ = everything(source)
    assert [source.modalities["text"].decode(ids) for ids in x["text"]] == ["there"] * 3


def test_names_that_no_file_can_have(tmp_path):
    for name in ("x" * 300, "x/" * 3000, "~", "a\0b", "\n", "*", "con"):
        path = tmp_path / "a.jsonl"
        rows = [*GOOD, {"image": name, "label": "a"}]
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        assert outcome(read, path, told=rf"`from_manifest`: line 7 of {path}: .*", what=name) is None


def test_a_pickle_among_the_files_is_not_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(pickled(tmp_path / "ran"))
    for column in ("image", "audio", "text_file"):
        rows = [*GOOD, {column: "a.npy", "label": "a"}]
        path = write_csv(tmp_path, rows, columns=["text", column, "label"])
        assert outcome(read, path, told=REFUSED.format(path=tmp_path / "a.npy")) is None
    assert not (tmp_path / "ran").exists()
