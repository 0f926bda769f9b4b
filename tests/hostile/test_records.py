"""What exports and runs leave, read again: pages, metadata, vocabularies, labels, tables of the logs."""

import argparse
import io
import json
import re
import zipfile

import pytest

from keras_kd.cli import export as cli_export
from keras_kd.cli import lessons
from keras_kd.data.multimodal import Text, load_vocabulary
from keras_kd.export.metadata import attach, read_labels, read_metadata
from keras_kd.page import write_report
from keras_kd.page.reading import read_folder
from keras_kd.plots import read_history
from tests.hostile.bounds import bounded, outcome
from tests.hostile.damage import NOT_JSON, changes, damaged
from tests.page import folders

VOCABULARY = {"text": {"length": 4, "vocabulary": ["", "[UNK]", "a", "ß"], "split": "character"}}
RECORD = {
    "teacher": "teacher.keras",
    "dataset": "digits",
    "input_shape": [8, 8, 1],
    "scale": None,
    "augment": "random_shift(max_pixels=2)",
    "views": 1,
}


def check(path, cases, read, told, sound=lambda result: True):
    """Every case is refused as told, or read into what is sound; how many were read."""
    count = 0
    for what, content in cases.items():
        path.write_bytes(content)
        found = outcome(read, told=told, what=what)
        if found is not None:
            count += 1
            assert sound(found), f"{what}: {found}"
    return count


def json_cases(sound, mark):
    return {**damaged(json.dumps(sound).encode(), mark), **NOT_JSON, **dict(changes(sound))}


def test_vocabularies(tmp_path):
    path = tmp_path / "vocabulary.json"
    told = rf"`load_vocabulary`: expected a file that `save_vocabulary` wrote\. Received: {path}, which is not one\."

    def is_sound(texts):
        return all(isinstance(text, Text) and len(text.encode("aß!")) == text.length for text in texts.values())

    cases = json_cases(VOCABULARY, tmp_path / "ran")
    assert 0 < check(path, cases, lambda: load_vocabulary(path), told, is_sound) < len(cases) // 3
    assert not (tmp_path / "ran").exists()


def test_records_of_caches(tmp_path):
    path = tmp_path / "run.json"
    told = rf"{tmp_path} has no run\.json of `keras-kd cache`, .*"

    def is_sound(record):
        scale = record["scale"]
        return isinstance(record["dataset"], str) and (scale is None or abs(scale) < float("inf"))

    cases = json_cases(RECORD, tmp_path / "ran")
    cases["a set of someone's"] = json.dumps({**RECORD, "dataset": "someone:mnist"}).encode()
    cases["huge inputs"] = json.dumps({**RECORD, "input_shape": [10**6, 10**6, 3]}).encode()
    read = check(path, cases, lambda: lessons._record_of(tmp_path), told, is_sound)
    assert 0 < read < len(cases) // 2
    for name in ("a set of someone's", "huge inputs"):
        assert check(path, {name: cases[name]}, lambda: lessons._record_of(tmp_path), told) == 0
    for name in ("mnist:3.0.1", "mnist", "glue/cola:2.0.0", "C:/images"[2:]):
        path.write_text(json.dumps({**RECORD, "dataset": name}), "utf-8")
        assert lessons._record_of(tmp_path)["dataset"] == name
    assert not (tmp_path / "ran").exists()


def tflite(entries, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO(b"a model")
    with zipfile.ZipFile(buffer, "a", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("read", [read_metadata, read_labels])
def test_metadata_and_labels(read, tmp_path):
    path = tmp_path / "student.tflite"
    told = rf"`path` must be a TFLite file that `export_student` wrote with .* inside\. Received: {path}\. .*"
    sound = attach(b"model" * 20, {"student": "small", "parameters": 8}, ["cat", "dög"])
    cases = {
        **damaged(sound, tmp_path / "ran"),
        **{name: tflite({"metadata.json": content}) for name, content in NOT_JSON.items() if name != "no object"},
        "a bomb": tflite(dict.fromkeys(("metadata.json", "labels.txt"), bytes(2**26 + 1)), zipfile.ZIP_DEFLATED),
        "another packer": tflite({"metadata.json": "{}", "labels.txt": "a"}).replace(b"PK\x01\x02", b"PK\x01\x03"),
    }
    allowed = ({"student": "small", "parameters": 8}, ["cat", "dög"], json.loads(NOT_JSON["surrogates"]))
    with bounded(size=2**27):
        read_at_all = check(
            path, cases, lambda: read(path), told, lambda found: found in allowed or read is read_labels
        )
    assert read_at_all < 10
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_is_locked_or_packed_in_an_unknown_way(tmp_path):
    path = tmp_path / "student.tflite"
    told = rf"`path` must be a TFLite file .* Received: {path}\. Export it anew\."
    sound = tflite({"metadata.json": '{"student": "small"}'})
    place = sound.index(b"PK\x01\x02")
    for offset, value in ((8, b"\x01"), (10, b"\x63"), (24, b"\xff\xff\xff\xff"), (42, b"\xff\xff\xff\xff")):
        changed = sound[: place + offset] + value + sound[place + offset + len(value) :]
        assert check(path, {f"{offset}": changed}, lambda: read_metadata(path), told) == 0


STUDENT = folders.EVALUATION["reliability"]["student"]
FEW = {
    "reliability": {"student": STUDENT[:5], "teacher": STUDENT[:1], "ece": {"student": 0.1, "teacher": None}},
    **{name: folders.EVALUATION[name][:1] for name in ("per_class", "differences")},
}
PARTS = {
    "report.json": folders.changed(folders.REPORT, files=folders.FILES[:2]),
    "evaluation.json": folders.changed(folders.EVALUATION, **FEW),
    "run.json": folders.RUN,
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_pages(name, tmp_path):
    folder = folders.write(tmp_path / "export")
    path = folder / name
    told = rf"`write_report`: {re.escape(str(path))}: .*\. Export again, or mend the file\."
    cases = json_cases(PARTS[name], tmp_path / "ran")
    cases = dict(list(cases.items())[::2])
    read = check(path, cases, lambda: read_folder(folder), told)
    assert 0 < read < len(cases)
    # What is read can be shown.
    shown = dict(list(cases.items())[:: max(1, len(cases) // 6)])
    check(path, shown, lambda: write_report(folder), told, lambda page: page.read_text("utf-8").endswith("</html>\n"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_whatever_is_read_can_be_shown(name, tmp_path):
    folder = folders.write(tmp_path / "export")
    path = folder / name
    told = rf"`write_report`: {re.escape(str(path))}: .*\. Export again, or mend the file\."
    cases = dict(changes(PARTS[name]))
    check(path, cases, lambda: write_report(folder), told, lambda page: page.read_text("utf-8").endswith("</html>\n"))


def table_cases(content, mark):
    return {
        **damaged(content, mark),
        "NaN": content.replace(b"0.4", b"nan"),
        "1e400": content.replace(b"0.4", b"1e400"),
        "a cell too few": content.replace(b",2.0\n", b"\n"),
        "a cell too many": content.replace(b",2.0\n", b",2.0,3.0\n"),
        "nothing but a header": content.split(b"\n")[0],
        "a long cell": content.replace(b"0.4", b"4" * 200_000),
    }


def test_tables_of_logs(tmp_path):
    folder = folders.write(tmp_path / "export")
    path = folder / "history.csv"
    told = rf"`write_report`: {re.escape(str(path))}: .*\. Mend the file, or take it away to leave its curves out\."
    cases = table_cases(folders.HISTORY.encode(), tmp_path / "ran")
    read = check(path, cases, lambda: write_report(folder), told, lambda page: page.is_file())
    assert 0 < read < len(cases)
    cases = table_cases(folders.HISTORY.replace("NA", "0.7").encode(), tmp_path / "ran")
    told = rf"`read_history`: {path} is no table of numbers by epoch \(.*\)\. Take it away\."
    assert 0 < check(path, cases, lambda: read_history(path), told, lambda found: isinstance(found, dict)) < len(cases)
    assert not (tmp_path / "ran").exists()


def test_files_of_labels(tmp_path):
    path = tmp_path / "labels.txt"
    told = rf"--labels must be a text file in UTF-8, one name a line\. Received: {path} \(.*\)\. Save it as such\."
    cases = {"UTF-16": "cät\ndog".encode("utf-16"), **damaged("cät\ndög\n".encode(), tmp_path / "ran")}
    assert 0 < check(path, cases, lambda: cli_export._read_labels(path), told) < len(cases)
    assert not (tmp_path / "ran").exists()


def test_a_cache_that_is_none_has_no_record(tmp_path):
    options = argparse.Namespace(cache=str(tmp_path / "gone"))
    told = rf"there is no cache {tmp_path}/gone\. Make one with `keras-kd cache`\."
    assert outcome(lessons._cached, options, None, told=told) is None
