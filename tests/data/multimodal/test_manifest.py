from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from keras_kd.data import pipeline
from keras_kd.data.multimodal import Audio, Image, Text, from_manifest
from tests.data.multimodal.examples import (
    SPLITS,
    contents,
    everything,
    write_csv,
    write_image,
    write_jsonl,
    write_sound,
)

SMALL = {"image": (4, 4, 1), "audio": (8000, 0.001), "text": 6}


def write_examples(folder, count=30):
    """`count` rows of all three modalities; the shade, the sound and the text of each tell its number."""
    rows = []
    for number in range(count):
        write_image(folder / "images" / f"{number}.png", number)
        write_sound(folder / "sounds" / f"{number}.wav", [number / 64] * 5)
        rows.append(
            {
                "image": f"images/{number}.png",
                "audio": f"sounds/{number}.wav",
                "text": f"n{number}",
                "label": "odd" if number % 2 else "even",
            }
        )
    return rows


def numbers(x):
    return np.round(x["image"][:, 0, 0, 0] * 255).astype(int)


@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_three_modalities_from_files(tmp_path, write):
    path = write(tmp_path, write_examples(tmp_path))
    source = from_manifest(path, **SMALL)
    assert (source.name, source.class_names, source.num_classes) == ("examples", ("even", "odd"), 2)
    assert (source.has_missing, source.skipped) == (False, ())
    assert source.modalities["image"] == Image(4, 4, 1)
    assert source.modalities["audio"] == Audio(8, 8000)
    assert source.train.element_spec == (
        {
            "image": tf.TensorSpec((4, 4, 1), tf.float32),
            "audio": tf.TensorSpec((8,), tf.float32),
            "text": tf.TensorSpec((6,), tf.int32),
        },
        tf.TensorSpec((), tf.int64),
    )
    x, y = everything(source)
    order = numbers(x)
    assert sorted(order) == list(range(30))
    np.testing.assert_array_equal(y, order % 2)
    for shown, heard, read, number in zip(x["image"], x["audio"], x["text"], order, strict=True):
        np.testing.assert_allclose(shown, np.full((4, 4, 1), number / 255), rtol=1e-6)
        np.testing.assert_array_equal(heard, [number / 64] * 5 + [0] * 3)
        assert source.modalities["text"].decode(read) == f"n{number}"


def test_a_tenth_of_each_class_is_cut_and_neither_place_nor_order_matters(tmp_path):
    rows = write_examples(tmp_path / "one")
    first = from_manifest(write_csv(tmp_path / "one", rows), **SMALL)
    counts = [Counter(contents(getattr(first, split))[1].tolist()) for split in SPLITS]
    assert counts == [{0: 11, 1: 11}, {0: 2, 1: 2}, {0: 2, 1: 2}]
    second = from_manifest(write_jsonl(tmp_path, rows[::-1]), root=tmp_path / "one", **SMALL)
    for split in SPLITS:
        (x, y), (other_x, other_y) = contents(getattr(first, split)), contents(getattr(second, split))
        np.testing.assert_array_equal(y, other_y)
        for name in x:
            np.testing.assert_array_equal(x[name], other_x[name])


def test_splits_that_rows_name(tmp_path):
    rows = write_examples(tmp_path, 20)
    for number, row in enumerate(rows):
        row["split"] = {0: "test", 1: "val", 2: "validation", 3: ""}.get(number // 2, "train")
    source = from_manifest(write_csv(tmp_path, rows), **SMALL)
    held = {split: sorted(numbers(contents(getattr(source, split))[0])) for split in SPLITS}
    assert held == {"test": [0, 1], "validation": [2, 3, 4, 5], "train": list(range(6, 20))}
    for row in rows[2:]:
        row["split"] = ""
    source = from_manifest(write_csv(tmp_path, rows), **SMALL)
    held = {split: numbers(contents(getattr(source, split))[0]) for split in SPLITS}
    assert sorted(held["test"]) == [0, 1]
    assert sorted(held["validation"] % 2) == [0, 1]
    assert sorted(np.concatenate([held["train"], held["validation"]])) == list(range(2, 20))


def test_the_vocabulary_is_that_of_the_training_rows(tmp_path):
    rows = [{"text": "aab", "label": "x", "split": "train"}, {"text": "cab", "label": "x", "split": "test"}]
    rows.append({"text": "b", "label": "x", "split": "validation"})
    source = from_manifest(write_csv(tmp_path, rows), text=4)
    assert source.modalities == {"text": Text(4, ("", "[UNK]", "a", "b"))}
    x, _ = contents(source.test)
    assert x["text"].tolist() == [[1, 2, 3, 0]]


def test_words_with_a_limit_and_a_vocabulary_from_elsewhere(tmp_path):
    rows = [{"text": "to be or not to be to", "label": label} for label in "xxxyyy"]
    path = write_csv(tmp_path, rows)
    source = from_manifest(path, text=3, split="word", max_tokens=4)
    assert source.modalities["text"] == Text(3, ("", "[UNK]", "to", "be"), "word")
    given = Text(4, ("", "[UNK]", "or"), "word")
    source = from_manifest(path, text=given)
    assert source.modalities["text"] is given
    assert contents(source.test)[0]["text"].tolist() == [[1, 1, 2, 1]] * 2


def test_missing_modalities_are_zeros_with_masks(tmp_path):
    rows = write_examples(tmp_path, 30)
    for number, row in enumerate(rows):
        for bit, name in enumerate(("image", "audio", "text")):
            if number // 2 % 7 >> bit & 1:
                row[name] = "" if number % 3 else None
    source = from_manifest(write_jsonl(tmp_path, rows), **SMALL)
    assert source.has_missing
    x, _ = everything(source)
    assert x["image_present"].dtype == bool
    masks = np.stack([x[f"{name}_present"] for name in ("image", "audio", "text")], axis=1)
    wanted = [[not number // 2 % 7 >> bit & 1 for bit in range(3)] for number in range(30)]
    assert sorted(masks.tolist()) == sorted(wanted)
    for name in ("image", "audio", "text"):
        absent = ~x[f"{name}_present"]
        assert not x[name][absent].any()
    assert x["text"][x["text_present"]].any(axis=1).all()


def test_a_modality_that_no_row_has_is_no_part(tmp_path):
    rows = [{"image": "", "text": "a", "label": "x"} for _ in range(3)]
    source = from_manifest(write_csv(tmp_path, rows))
    assert (list(source.modalities), source.has_missing) == (["text"], False)


def test_text_files_byte_order_marks_and_absolute_paths(tmp_path):
    rows = []
    for number in range(3):
        file = tmp_path / f"{number}.txt"
        file.write_bytes(b"\xef\xbb\xbf" + "  Grüße\n".encode())
        rows.append({"text_file": str(file) if number else file.name, "label": "x"})
    path = write_csv(tmp_path, rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    source = from_manifest(path, text=8)
    x, _ = everything(source)
    assert [source.modalities["text"].decode(ids) for ids in x["text"]] == ["grüße"] * 3


def test_numbers_as_labels_go_by_value_and_other_labels_by_name(tmp_path):
    rows = [{"text": "a", "label": label} for label in (10, 9, 2) for _ in range(3)]
    assert from_manifest(write_jsonl(tmp_path, rows)).class_names == ("2", "9", "10")
    rows += [{"text": "a", "label": "b"}] * 3
    assert from_manifest(write_jsonl(tmp_path, rows)).class_names == ("10", "2", "9", "b")


def test_sizes_and_rates_are_brought_to_what_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    sounds = rng.uniform(-0.4, 0.4, (3, 441))
    for number in range(3):
        write_image(tmp_path / f"{number}.png", 51, size=(7 + number, 9))
        write_sound(tmp_path / f"{number}.wav", sounds[number], 44100)
    rows = [{"image": f"{n}.png", "audio": f"{n}.wav", "label": "x"} for n in range(3)]
    source = from_manifest(write_csv(tmp_path, rows), image=(5, 6, 3), audio=(8000, 0.02))
    x, _ = everything(source)
    np.testing.assert_allclose(x["image"], np.full((3, 5, 6, 3), 0.2), atol=1e-6)
    expected = [np.pad(signal.resample_poly(sound, 80, 441), (0, 80)) for sound in sounds]
    assert sorted(x["audio"][:, 0]) == pytest.approx(sorted(sound[0] for sound in expected), abs=1e-6)
    for sound in x["audio"]:
        np.testing.assert_allclose(sound, min(expected, key=lambda other: abs(other[0] - sound[0])), atol=1e-6)


def test_the_pipeline_batches_dicts(tmp_path):
    source = from_manifest(write_csv(tmp_path, write_examples(tmp_path)), **SMALL)
    batches = list(pipeline(source.train, batch_size=8, training=True).as_numpy_iterator())
    assert [len(y) for _, y in batches] == [8, 8, 6]
    x = {name: np.concatenate([batch[name] for batch, _ in batches]) for name in batches[0][0]}
    y = np.concatenate([labels for _, labels in batches])
    assert sorted(numbers(x)) == sorted(numbers(contents(source.train)[0]))
    np.testing.assert_array_equal(y, numbers(x) % 2)
    np.testing.assert_allclose(x["audio"][:, 0], numbers(x) / 64)

    def halved(x):
        return {**x, "image": x["image"] / 2}

    first = next(iter(pipeline(source.test, transform=halved)))[0]["image"]
    np.testing.assert_allclose(first, contents(source.test)[0]["image"] / 2)
