import numpy as np
import pytest

from keras_kd.data.multimodal import Audio, Image, Text, from_arrays
from tests.data.drawn import check_text
from tests.data.multimodal.examples import SPLITS, contents, everything

RNG = np.random.default_rng(0)
LABELS = np.arange(30) % 3


def sizes(source):
    return [len(getattr(source, split)) for split in SPLITS]


def test_kinds_follow_from_what_is_given():
    images = RNG.integers(0, 256, (30, 4, 5), dtype="uint8")
    sounds = [RNG.integers(-(2**15), 2**15, 3 + row % 3, dtype="int16") for row in range(30)]
    words = [f"w{row % 3}" for row in range(30)]
    source = from_arrays({"image": images, "audio": sounds, "text": words}, LABELS, rate=16000, length=3)
    assert source.modalities == {
        "image": Image(4, 5, 1),
        "audio": Audio(5, 16000),
        "text": Text(3, ("", "[UNK]", "w", "0", "1", "2")),
    }
    assert (source.name, source.class_names, source.has_missing) == ("arrays", ("0", "1", "2"), False)
    assert sizes(source) == [24, 3, 3]
    x, y = everything(source)
    rows = [int(np.flatnonzero((images == np.round(image[..., 0] * 255)).all((1, 2)))[0]) for image in x["image"]]
    assert sorted(rows) == list(range(30))
    np.testing.assert_array_equal(y, LABELS[rows])
    for row, image, sound, text in zip(rows, x["image"], x["audio"], x["text"], strict=True):
        np.testing.assert_allclose(image[..., 0], images[row] / 255, rtol=1e-6)
        np.testing.assert_array_equal(sound, np.pad(sounds[row] / 32768, (0, 5 - len(sounds[row]))))
        assert source.modalities["text"].decode(text) == words[row]


def test_none_and_masks_are_both_absence():
    images = RNG.uniform(0.1, 1, (30, 2, 2, 3))
    words = [None if row % 5 == 0 else "abc" for row in range(30)]
    present = {"image": [row % 2 == 1 or row % 5 == 0 for row in range(30)]}
    source = from_arrays({"image": images, "text": words}, LABELS, present=present, length=4)
    assert source.has_missing
    x, _ = everything(source)
    assert x["text_present"].sum() == 24
    assert x["image_present"].sum() == 18
    np.testing.assert_array_equal(x["image"].any((1, 2, 3)), x["image_present"])
    np.testing.assert_array_equal(x["text"].any(1), x["text_present"])


def test_splits_and_specifications_that_are_given():
    splits = ["train"] * 24 + ["validation"] * 3 + ["test"] * 3
    text = Text(2, ("", "[UNK]", "a"), "word")
    ids = RNG.integers(0, 3, (30, 2))
    vectors = RNG.uniform(-1, 1, (30, 6))
    modalities = {"text": text, "voice": Audio(4, 100)}
    source = from_arrays(
        {"text": ids, "voice": vectors}, LABELS, splits=splits, modalities=modalities, class_names="xyz", name="mine"
    )
    assert (source.name, source.class_names, source.modalities) == ("mine", ("x", "y", "z"), modalities)
    x, y = contents(source.test)
    np.testing.assert_array_equal(np.sort(y), [0, 1, 2])
    order = [27 + list(LABELS[27:]).index(label) for label in y]
    np.testing.assert_array_equal(x["text"], ids[order])
    np.testing.assert_array_equal(x["voice"], vectors[order, :4].astype("float32"))


def test_vocabulary_is_that_of_training():
    source = from_arrays({"text": ["a", "b", "c"]}, [0, 0, 0], splits=SPLITS, length=1)
    assert source.modalities["text"].vocabulary == ("", "[UNK]", "a")
    assert contents(source.test)[0]["text"].tolist() == [[1]]


WORDS = ["a"] * 30


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: from_arrays({"text": WORDS[1:]}, LABELS),
            "`from_arrays`: expected modalities of 30 examples each, as many as `y` has, and `present` of them. "
            "Received: {'text': 29}.",
        ),
        (
            lambda: from_arrays({"text": WORDS}, LABELS, present={"image": [True] * 30}),
            "`from_arrays`: expected modalities of 30 examples each, as many as `y` has, and `present` of them. "
            "Received: {'text': 30, 'image_present': 30}.",
        ),
        (
            lambda: from_arrays({"text": [*WORDS[1:], None]}, LABELS),
            "`from_arrays`: expected every example to have a modality. Received: none in example 29. Leave it out.",
        ),
        (
            lambda: from_arrays({"image": [np.zeros((2, 2)), np.zeros((2, 3))] * 15}, LABELS),
            "`from_arrays`: expected 'image' to hold strings, vectors, or images of one size. Received: shapes "
            "[(2, 2), (2, 3)]. Say what it is in `modalities`.",
        ),
        (
            lambda: from_arrays({"image": np.zeros((30, 2, 2))}, LABELS, modalities={"image": Image(3, 3, 1)}),
            "`from_arrays`: expected 'image' of shape (3, 3, 1). Received: shape (2, 2, 1) in example 0.",
        ),
        (
            lambda: from_arrays({"image": np.full((30, 2, 2), 255.0)}, LABELS),
            "`from_arrays`: expected 'image' from 0 to 1. Received: 255 to 255 in example 0.",
        ),
        (
            lambda: from_arrays({"audio": [[0.5, np.nan]] * 30}, LABELS),
            "`from_arrays`: expected 'audio' from -1 to 1. Received: nan to nan in example 0.",
        ),
        (
            lambda: from_arrays({"text": [[1, 7]] * 30}, LABELS, modalities={"text": Text(2, ("", "[UNK]", "a"))}),
            "`from_arrays`: expected 'text' from 0 to 2. Received: 1 to 7 in example 0.",
        ),
        (
            lambda: from_arrays({"text": WORDS}, LABELS / 2),
            "`from_arrays`: `y` must be whole numbers. Received: dtype='float64'.",
        ),
        (
            lambda: from_arrays({"text": []}, []),
            "`from_arrays`: `y` must be class indices. Received: shape=(0,).",
        ),
        (
            lambda: from_arrays({"text": WORDS}, LABELS, class_names=["a", "b"]),
            "`from_arrays`: expected class indices from 0 to 1. Received: 0 to 2.",
        ),
        (
            lambda: from_arrays({"text": WORDS}, LABELS, splits=["dev"] * 30),
            "`from_arrays`: `splits` must be train, validation or test. Received: splits=['dev'].",
        ),
        (
            lambda: from_arrays({"text": WORDS}, LABELS, splits=["train"]),
            "`from_arrays`: `splits` must be as many as `y`. Received: splits=1.",
        ),
        (
            lambda: from_arrays({"text": WORDS}, [3, 3, *LABELS[2:]]),
            "`from_arrays`: expected at least 3 training examples of each class. Received: 2 of class '3'.",
        ),
    ],
)
def test_arrays_that_do_not_fit(make, text):
    check_text(ValueError, make, text)
