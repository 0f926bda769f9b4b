import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.decomposition import PCA

from keras_kd.data import Source, load
from keras_kd.data.multimodal import Audio, Image, keep_energy, number_words, spoken, spoken_digits, spoken_mnist
from keras_kd.data.multimodal.spoken import split_speakers
from tests.data.drawn import check_text
from tests.data.multimodal.examples import SPLITS, contents, everything
from tests.data.test_tfds_sets import builder_class

RNG = np.random.default_rng(0)
SPEAKERS = ("ann", "bob", "cat", "dan", "eve")
IMAGES = RNG.integers(0, 256, (120, 28, 28, 1), dtype="uint8")
TFDS_DATA_DIR = Path(os.environ.get("TFDS_DATA_DIR", "none"))
HAS_SETS = all((TFDS_DATA_DIR / name).is_dir() for name in ("mnist", "spoken_digit"))


def prepare(folder, name, version, features, splits, keys):
    """Puts a small set on disk under the name and version of one that TFDS knows."""
    builder = builder_class(name, features, splits, supervised_keys=keys, skip_registration=True)
    builder.VERSION = tfds.core.Version(version)
    builder(data_dir=folder).download_and_prepare()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`spoken_digit` of five speakers, whose samples tell who speaks, and `mnist` of 120 images."""
    folder = tmp_path_factory.mktemp("tfds")
    recordings = [
        {
            "audio": np.full(3 + digit, 1000 * number + digit, "int64"),
            "audio/filename": f"{digit}_{speaker}_{take}.wav",
            "label": digit,
        }
        for number, speaker in enumerate(SPEAKERS)
        for digit in range(10)
        for take in range(2)
    ]
    digit = tfds.features.ClassLabel(num_classes=10)
    audio = {"audio": tfds.features.Audio(sample_rate=8000), "audio/filename": tfds.features.Text(), "label": digit}
    prepare(folder, "spoken_digit", "1.0.9", audio, {"train": recordings}, ("audio", "label"))
    pictures = [{"image": image, "label": row % 10} for row, image in enumerate(IMAGES)]
    image = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": digit}
    splits = {"train": pictures[:90], "validation": pictures[90:100], "test": pictures[100:]}
    prepare(folder, "mnist", "3.0.1", image, splits, ("image", "label"))
    return folder


def speakers(samples):
    return {SPEAKERS[value // 1000] for value in samples}


def test_recordings_are_split_by_speaker(folder):
    source = spoken_digits(folder, samples=5)
    assert (source.name, source.kind, source.input_shape, source.num_classes) == ("spoken_digit", "audio", (5,), 10)
    held = {}
    for split in SPLITS:
        sounds, labels = map(np.stack, zip(*getattr(source, split).as_numpy_iterator(), strict=True))
        assert (sounds.dtype, sounds.shape[1]) == (np.int16, 5)
        np.testing.assert_array_equal(sounds[:, 0] % 1000, labels)
        np.testing.assert_array_equal((sounds != 0).sum(axis=1)[labels > 0], np.minimum(labels + 3, 5)[labels > 0])
        assert len(labels) == 20 * len(speakers(sounds[:, 0]))
        held[split] = speakers(sounds[:, 0])
    assert held == {"test": {"ann"}, "validation": {"bob"}, "train": {"cat", "dan", "eve"}}


def test_folds_turn_the_speakers():
    for fold, test in enumerate(SPEAKERS):
        parts = split_speakers(SPEAKERS[::-1] * 2, fold)
        assert parts["test"] == [test]
        assert sorted(name for names in parts.values() for name in names) == sorted(SPEAKERS)
    parts = split_speakers([f"s{number:02}" for number in range(12)], 0)
    assert [len(parts[split]) for split in SPLITS] == [8, 2, 2]


def test_three_modalities_share_nothing_between_splits(folder):
    source = spoken_mnist(folder, per_class=(9, 1, 2), image_energy=1, seconds=0.002, languages=["Polish"], length=8)
    assert (source.name, source.class_names) == ("spoken_mnist", tuple("0123456789"))
    assert source.modalities["image"] == Image(28, 28, 1)
    assert source.modalities["audio"] == Audio(16, 8000)
    shown, heard = {}, {}
    for split, count in zip(SPLITS, (90, 10, 20), strict=True):
        x, y = contents(getattr(source, split))
        np.testing.assert_array_equal(np.bincount(y), [count // 10] * 10)
        pixels = np.round(x["image"] * 255).astype("uint8")
        rows = [int(np.flatnonzero((image == IMAGES).all((1, 2, 3)))[0]) for image in pixels]
        np.testing.assert_array_equal(np.array(rows) % 10, y)
        samples = np.round(x["audio"][:, 0] * 32768).astype(int)
        np.testing.assert_array_equal(samples % 1000, y)
        shown[split], heard[split] = set(rows), speakers(samples)
        if split == "train":
            words = [source.modalities["text"].decode(ids) for ids in x["text"]]
            assert {word == "sześć" for word, label in zip(words, y, strict=True) if label != 6} == {False}
    assert shown["test"] == set(range(100, 120))
    assert shown["train"] == set(range(90))
    assert heard == {"test": {"ann"}, "validation": {"bob"}, "train": {"cat", "dan", "eve"}}


def test_misspellings_are_drawn_anew_in_each_split(folder, monkeypatch):
    seeds = []

    def recorded(*args, seed, **kwargs):
        seeds.append(seed)
        return number_words(*args, seed=seed, **kwargs)

    def words(seed):
        source = spoken_mnist(folder, per_class=(1, 1, 1), image_energy=1, misspelling=0.5, seconds=0.001, seed=seed)
        return [source.modalities["text"].decode(x["text"]) for x, _ in source.train.as_numpy_iterator()]

    monkeypatch.setattr(spoken, "number_words", recorded)
    first = words(seed=0)
    assert len(set(seeds)) == 3
    assert words(seed=0) == first != words(seed=1)
    assert len(set(seeds)) == 6


def small_images(count=40):
    # Of unequal variance, so that the components are well apart; within [0.2, 0.8], so that nothing is clipped.
    x = (0.5 + RNG.normal(size=(count, 3, 3, 1)) * np.linspace(0.01, 0.1, 9).reshape(3, 3, 1)).astype("float32")
    parts = (x[:20], x[20:30], x[30:])
    datasets = [tf.data.Dataset.from_tensor_slices((part, np.zeros(len(part), "int64"))) for part in parts]
    return x, Source("s", "image", *datasets, input_shape=(3, 3, 1), class_names=("0",))


@pytest.mark.parametrize("energy", [0.05, 0.4, 0.9])
def test_energy_that_is_kept_is_that_of_scikit_learn(energy):
    x, source = small_images()
    flat = x.reshape(len(x), -1).astype("float64")
    pca = PCA(n_components=energy, svd_solver="full").fit(flat[:20])
    expected = pca.inverse_transform(pca.transform(flat)).reshape(x.shape)
    reduced = keep_energy(source, energy)
    held = [image for split in SPLITS for image, _ in getattr(reduced, split).as_numpy_iterator()]
    np.testing.assert_allclose(held, np.clip(expected, 0, 1), atol=1e-5)
    assert (len(reduced.train), reduced.input_shape) == (20, (3, 3, 1))


def test_all_energy_leaves_images_as_they_are_but_for_their_scale(folder):
    source = load("mnist", data_dir=folder)
    for (x, _), (kept, _) in zip(source.test, keep_energy(source, 1).test, strict=True):
        np.testing.assert_allclose(kept, x.numpy() / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: keep_energy(small_images()[1], 0),
            "`keep_energy`: `energy` must be above 0 and up to 1. Received: energy=0.",
        ),
        (
            lambda: keep_energy(Source("s", "audio", None, None, None, (None,), ("0",)), 0.5),
            "`keep_energy`: `source` must be images of one size. Received: kind='audio', input_shape=(None,).",
        ),
        (
            lambda: spoken_digits(samples=0),
            "`spoken_digits`: `samples` must be 1 or more. Received: samples=0.",
        ),
        (
            lambda: split_speakers(["ann", "bob"], 0),
            "`spoken_digits`: there must be three speakers or more. Received: speakers=['ann', 'bob'].",
        ),
        (
            lambda: split_speakers(SPEAKERS, 5),
            "`spoken_digits`: `fold` must be from 0 to 4. Received: fold=5.",
        ),
        (
            lambda: spoken_mnist(seconds=0),
            "`spoken_mnist`: `seconds` must be 0.000125 or more. Received: seconds=0.",
        ),
    ],
)
def test_what_cannot_be_made(make, text):
    check_text(ValueError, make, text)


@pytest.mark.skipif(not HAS_SETS, reason="TFDS_DATA_DIR has not mnist and spoken_digit")
def test_the_real_recordings():
    source = spoken_digits()
    assert [len(getattr(source, split)) for split in SPLITS] == [2000, 500, 500]
    for split in SPLITS:
        labels = [int(y) for _, y in getattr(source, split)]
        assert np.bincount(labels).tolist() == [len(labels) // 10] * 10


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SETS, reason="TFDS_DATA_DIR has not mnist and spoken_digit")
def test_the_real_pairs():
    source = spoken_mnist(per_class=(20, 5, 5))
    x, y = everything(source)
    assert np.bincount(y).tolist() == [30] * 10
    assert (x["image"].shape, x["audio"].shape, x["text"].shape) == ((300, 28, 28, 1), (300, 8000), (300, 16))
    flat = x["image"].reshape(300, -1)
    # Four components hold a quarter of the variance of MNIST; clipping adds a little to the others.
    assert PCA(4).fit(flat).explained_variance_ratio_.sum() > 0.9
