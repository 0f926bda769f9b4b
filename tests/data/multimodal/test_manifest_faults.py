import json

import pytest

from keras_kd.data.multimodal import from_manifest
from tests.data.drawn import check_text
from tests.data.multimodal.examples import everything, write_csv, write_image, write_jsonl, write_sound

GOOD = [{"text": "fine", "label": label} for label in "aaabbb"]
REMEDY = ", or leave such rows out by `skip_bad=True`."


def check_row(path, line, fault, good=6):
    """The fault is raised whole, and under `skip_bad` noted whole while the other rows are read."""
    check_text(ValueError, lambda: from_manifest(path), f"`from_manifest`: line {line} of {path}: {fault}{REMEDY}")
    source = from_manifest(path, skip_bad=True)
    assert source.skipped == (f"line {line}: {fault}.",)
    assert len(everything(source)[1]) == good


@pytest.mark.parametrize("column", ["image", "audio", "text_file"])
@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_a_missing_file(tmp_path, column, write):
    path = write(tmp_path, [*GOOD, {column: "no/such", "label": "a"}])
    fault = f"{column} {tmp_path / 'no/such'} does not exist. Correct the path"
    check_row(path, 8 if write is write_csv else 7, fault)


@pytest.mark.parametrize(
    ("column", "content", "fault"),
    [
        ("image", b"GIF?", "is not an image that can be read (TensorFlow cannot decode it)"),
        ("image", b"", "is not an image that can be read (TensorFlow cannot decode it)"),
        ("audio", b"OggS", "is not a WAV that can be read (it is not a WAV file)"),
        (
            "text_file",
            "Grüße".encode("latin-1"),
            "is not a UTF-8 text that can be read ('utf-8' codec can't decode byte 0xfc in position 2: invalid start "
            "byte)",
        ),
        ("text_file", b" \n", "is not a UTF-8 text that can be read (it is empty)"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, column, content, fault):
    file = tmp_path / "broken"
    file.write_bytes(content)
    path = write_csv(tmp_path, [{column: "broken", "label": "a"}, *GOOD], columns=[column, "text", "label"])
    check_row(path, 2, f"{column} {file} {fault}. Replace it")


def test_a_truncated_png_and_a_truncated_wav(tmp_path):
    write_image(tmp_path / "a.png", 3, size=(64, 64))
    write_sound(tmp_path / "a.wav", [0.5] * 100)
    for name in ("a.png", "a.wav"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40])
    path = write_csv(tmp_path, [*GOOD, {"image": "a.png", "label": "a"}])
    fault = f"image {tmp_path / 'a.png'} is not an image that can be read (TensorFlow cannot decode it). Replace it"
    check_row(path, 8, fault)
    path = write_csv(tmp_path, [*GOOD, {"audio": "a.wav", "label": "a"}])
    check_row(path, 8, f"audio {tmp_path / 'a.wav'} is not a WAV that can be read (it is cut short). Replace it")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"text": "fine"}, "it has no label. Fill in `label`"),
        ({"label": "a"}, "it has no modality. Fill in one of image, audio, text, text_file"),
        (
            {"text": "fine", "text_file": "a.txt", "label": "a"},
            "it has both `text` and `text_file`. Keep one",
        ),
        (
            {"text": "fine", "label": "a", "split": "dev"},
            "its split is 'dev'. Write train, validation or test",
        ),
        (
            {"text": "fine", "label": "c"},
            "its label 'c' has 1 training rows, and 3 are needed. Add some",
        ),
    ],
)
@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_rows_that_say_too_little_or_too_much(tmp_path, row, fault, write):
    check_row(write(tmp_path, [*GOOD, row]), 8 if write is write_csv else 7, fault)


def test_a_label_that_training_has_not(tmp_path):
    splits = ["train", "validation", "test"] * 2
    rows = [{**row, "split": split} for row, split in zip(GOOD, splits, strict=True)]
    path = write_csv(tmp_path, [*rows, {"text": "x", "label": "c", "split": "test"}])
    check_row(path, 8, "its label 'c' has 0 training rows, and 1 are needed. Add some")


def test_when_the_only_test_row_goes_the_test_is_cut_from_training(tmp_path):
    rows = [{**row, "split": ""} for row in GOOD] + [{"text": "x", "label": "c", "split": "test"}]
    source = from_manifest(write_csv(tmp_path, rows), skip_bad=True)
    assert (len(source.train), len(source.validation), len(source.test)) == (2, 2, 2)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            b"{'text': 1}",
            "it is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)). Write one "
            "object per line",
        ),
        (b'["a"]', "it is JSON but not an object: ['a']. Write one object per line"),
        (
            b'{"text": "a", "label": "a", "video": "a.mp4"}',
            "unknown 'video'. Use image, audio, text, text_file, label, split only",
        ),
        (b'{"text": 7, "label": "a"}', "`text` is 7. Write a string"),
        ('{"text": "Grüße", "label": "a"}'.encode("latin-1"), "it is not UTF-8. Save the manifest as UTF-8"),
    ],
)
def test_lines_of_jsonl(tmp_path, line, fault):
    path = tmp_path / "a.jsonl"
    good = [json.dumps(row).encode() for row in GOOD]
    path.write_bytes(b"\n".join([good[0], b"", line, *good[1:]]))
    check_row(path, 3, fault)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            b"well, fine,a",
            "3 cells under 2 columns. Put text that holds a comma in double quotes",
        ),
        ("Grüße,a".encode("latin-1"), "it is not UTF-8. Save the manifest as UTF-8"),
    ],
)
def test_lines_of_csv(tmp_path, line, fault):
    path = tmp_path / "a.csv"
    lines = [f"{row['text']},{row['label']}".encode() for row in GOOD]
    path.write_bytes(b"\r\n".join([b"text,label", b'"two\r\nlines",a', *lines[1:], b"", line]))
    check_row(path, 10, fault)


def test_several_bad_rows_are_counted_in_their_order(tmp_path):
    rows = [{"text": "x", "label": "rare"}, *GOOD, {"text": "x", "label": ""}]
    source = from_manifest(write_csv(tmp_path, rows), skip_bad=True)
    assert source.skipped == (
        "line 2: its label 'rare' has 1 training rows, and 3 are needed. Add some.",
        "line 9: it has no label. Fill in `label`.",
    )


def test_files_that_are_no_manifest(tmp_path):
    known = "image, audio, text, text_file, label, split"
    path = write_csv(tmp_path, [{"text": "a", "label": "a", "video": "x"}])
    check_text(
        ValueError,
        lambda: from_manifest(path, skip_bad=True),
        f"`from_manifest`: expected the columns of {path} to be among {known}. Received: 'video'. Rename or remove "
        "what is not a modality.",
    )
    start = f"`from_manifest`: expected the first line of {path} to name its columns, each once and `label` among them"
    for content, received in (("text,split\na,test\n", "text, split"), ("", "an empty line")):
        path.write_text(content)
        check_text(ValueError, lambda: from_manifest(path), f"{start}, of {known}. Received: {received}.")
    path.write_text("text,label\n,a\n")
    text = f"`from_manifest`: expected rows that can be used in {path}. Received: none, 1 skipped."
    check_text(ValueError, lambda: from_manifest(path, skip_bad=True), text)
    for name in ("no.csv", "examples.txt"):
        text = f"`from_manifest`: expected an existing .csv or .jsonl file. Received: {tmp_path / name}."
        check_text(ValueError, lambda name=name: from_manifest(tmp_path / name), text)
    text = '`from_manifest`: `split` must be "character" or "word". Received: split=\'line\'.'
    check_text(ValueError, lambda: from_manifest(path, split="line"), text)
