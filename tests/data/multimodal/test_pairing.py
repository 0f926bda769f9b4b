from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.data import Source
from keras_kd.data.multimodal import Audio, Image, Text, pair_by_class
from tests.data.drawn import check_text
from tests.data.multimodal.examples import SPLITS, contents

COUNTS = {"train": 12, "validation": 6, "test": 9}
AUDIO = {"audio": Audio(5, 8000)}


def numbered(kind, start=0, classes=3):
    """A source each of whose examples holds a number of its own: splits do not share any."""
    splits = {}
    for split, count in COUNTS.items():
        labels = np.arange(count) % classes
        values = np.arange(start, start + count)
        start += count
        x = (
            values[:, None] * np.ones(4, "int64")
            if kind == "audio"
            else values[:, None, None, None] * np.ones((1, 2, 2, 1))
        )
        x = x.astype("int64" if kind == "audio" else "uint8")
        splits[split] = tf.data.Dataset.from_tensor_slices((x, labels))
    shape = (None,) if kind == "audio" else (2, 2, 1)
    return Source(name=f"numbered {kind}", kind=kind, input_shape=shape, class_names=tuple("abc"[:classes]), **splits)


def names(labels, split):
    return [f"{split[:2]}{label}" for label in labels]


def paired(**kwargs):
    arguments = {"per_class": (4, 2, 3), "modalities": AUDIO, "length": 4, **kwargs}
    return pair_by_class({"image": numbered("image"), "audio": numbered("audio"), "text": names}, **arguments)


def pairs(dataset):
    """Numbers of images and of recordings, and labels."""
    x, y = contents(dataset)
    images = np.round(x["image"][:, 0, 0, 0] * 255).astype(int)
    return images, np.round(x["audio"][:, 0] * 32768).astype(int), y


def test_pairs_are_of_one_class_and_one_split():
    source = paired()
    assert (source.name, source.class_names, source.has_missing) == ("pairs", ("a", "b", "c"), False)
    assert source.modalities["image"] == Image(2, 2, 1)
    assert source.modalities["audio"] == Audio(5, 8000)
    assert source.modalities["text"] == Text(4, ("", "[UNK]", "r", "t", "0", "1", "2"))
    starts = {"train": 0, "validation": 12, "test": 18}
    for split, per_class in zip(SPLITS, (4, 2, 3), strict=True):
        images, sounds, labels = pairs(getattr(source, split))
        assert Counter(labels.tolist()) == {0: per_class, 1: per_class, 2: per_class}
        for numbers in (images, sounds):
            # As many are asked for as there are: each is used once.
            assert sorted(numbers) == list(range(starts[split], starts[split] + COUNTS[split]))
            np.testing.assert_array_equal((numbers - starts[split]) % 3, labels)
    x, y = contents(source.test)
    assert [source.modalities["text"].decode(ids) for ids in x["text"]] == [f"t[UNK]{label}" for label in y]
    assert not x["audio"][:, 4].any()


def test_classes_come_mixed_and_modalities_in_orders_of_their_own():
    images, sounds, labels = pairs(paired().train)
    assert labels.tolist() != sorted(labels)
    assert images.tolist() != sounds.tolist()


def test_a_small_set_is_used_again_evenly():
    images, sounds, labels = pairs(paired(per_class=(10, 1, 1)).train)
    assert Counter(labels.tolist()) == {0: 10, 1: 10, 2: 10}
    for numbers in (images, sounds):
        uses = Counter(numbers.tolist())
        assert (len(uses), set(uses.values())) == (12, {2, 3})
        np.testing.assert_array_equal(numbers % 3, labels)


def test_seed_draws_the_pairs():
    first, again, other = (pairs(paired(seed=seed).train) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first[0].tolist() != other[0].tolist()


def test_images_are_brought_to_the_size_that_is_told():
    sources = {"image": numbered("image")}
    source = pair_by_class(sources, per_class=(1, 1, 1), modalities={"image": Image(4, 4, 3)})
    x, _ = contents(source.train)
    assert x["image"].shape == (3, 4, 4, 3)
    np.testing.assert_allclose(x["image"], x["image"][:, :1, :1, :1] * np.ones((1, 4, 4, 3)), atol=1e-6)


def test_a_function_may_make_arrays():
    def tone(labels, split):
        return [np.full(5, label / 4) for label in labels]

    source = pair_by_class({"image": numbered("image"), "audio": tone}, per_class=(2, 1, 1), modalities=AUDIO)
    x, y = contents(source.train)
    np.testing.assert_array_equal(x["audio"], y[:, None] / 4 * np.ones(5))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: paired(per_class=(4, 0, 3)),
            "`pair_by_class`: `per_class (validation)` must be 1 or more. Received: per_class (validation)=0.",
        ),
        (
            lambda: paired(modalities=None),
            "`pair_by_class`: expected 'audio' to be images of one size, or to be told in `modalities`. Received: "
            "audio of shape (None,) from 'numbered audio'.",
        ),
        (
            lambda: pair_by_class({"text": names}, per_class=(1, 1, 1)),
            "`pair_by_class`: expected one or more sources with the same classes. Received: {}.",
        ),
        (
            lambda: pair_by_class(
                {"image": numbered("image"), "audio": numbered("audio", classes=2)}, per_class=(1, 1, 1)
            ),
            "`pair_by_class`: expected one or more sources with the same classes. Received: {'image': ('a', 'b', 'c'), "
            "'audio': ('a', 'b')}.",
        ),
        (
            lambda: pair_by_class(
                {"image": numbered("image"), "text": lambda labels, split: ["x"]}, per_class=(1, 1, 1)
            ),
            "`pair_by_class`: expected the function for 'text' to make one example per label. Received: 3 for 9.",
        ),
        (
            lambda: pair_by_class(
                {"image": numbered("image"), "audio": lambda labels, split: np.full((len(labels), 5), 2.0)},
                per_class=(1, 1, 1),
                modalities=AUDIO,
            ),
            "`pair_by_class`: expected 'audio' from -1 to 1. Received: 2 to 2 in example 0.",
        ),
        (
            lambda: pair_by_class(
                {"image": numbered("image"), "audio": lambda labels, split: np.zeros((len(labels), 3))},
                per_class=(1, 1, 1),
            ),
            "`pair_by_class`: expected the function for 'audio' to make strings, or 'audio' to be told in "
            "`modalities`. Received: ndarray.",
        ),
    ],
)
def test_what_cannot_be_paired(make, text):
    check_text(ValueError, make, text)


def test_a_class_that_a_split_has_not():
    source = numbered("image")
    lacking = Source(**{**vars(source), "test": source.test.take(2)})
    text = (
        "`pair_by_class`: expected examples of every class in every split. Received: none of 'c' in the test split of "
        "'numbered image'."
    )
    check_text(ValueError, lambda: pair_by_class({"image": lacking}, per_class=(1, 1, 1)), text)
