"""What holds of every augmentation, and of several in a row."""

import hashlib
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_kd import data
from keras_kd.data import Augmentation, compose, cutmix, mixup, random_flip, random_shift
from tests.data.drawn import check_text

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(size=(40, 30, 3)).astype("float32")
EXAMPLES = {
    "image": IMAGE,
    "uint8 image": (IMAGE * 255).astype("uint8"),
    "waveform": RNG.normal(size=20_000).astype("float32"),
    "int16 waveform": RNG.integers(-9000, 9000, (20_000, 1)).astype("int16"),
    "spectrogram": RNG.normal(size=(50, 20)).astype("float32"),
}
REPRS = {
    "image": (
        "random_shift(max_pixels=2)",
        "random_flip()",
        "random_crop(scale=(0.08, 1.0), aspect=(0.75, 1.3333333333333333))",
        "random_rotation(max_degrees=15.0)",
        "random_colour(brightness=0.2, contrast=0.2, saturation=0.3, hue=0.1)",
        "random_cutout(size=9)",
        "mixup(alpha=0.2, num_classes=3)",
        "cutmix(alpha=1.0, num_classes=3, image_size=(40, 30))",
        "compose(random_flip(), random_shift(max_pixels=2))",
        "compose(random_flip(), compose(random_shift(max_pixels=1), mixup(alpha=0.2, num_classes=None)))",
    ),
    "waveform": (
        "random_gain(max_decibels=6.0)",
        "random_noise(min_decibels=10.0, max_decibels=30.0)",
        "random_time_shift(max_samples=100)",
    ),
    "spectrogram": ("spec_augment(max_frames=9, max_bands=5, frame_masks=2, band_masks=2, max_share=1.0)",),
}
CASES = [(name, text) for name in EXAMPLES for text in REPRS[name.split()[-1]]]
every_case = pytest.mark.parametrize(("example", "text"), CASES)
SEEDS = np.concatenate([RNG.integers(0, 2**32, (40, 2)), [[-1, 0], [0, 2**62]]])


def made(text):
    return eval(text, {name: getattr(data, name) for name in data.__all__})


def apply(augment, x, seed):
    return augment(x, seed, x[::-1]) if augment.mixes else augment(x, seed)


def in_a_dataset(augment, x, spec=None):
    elements = tf.data.Dataset.from_generator(
        lambda: ((x, seed) for seed in SEEDS),
        output_signature=(spec or tf.TensorSpec(x.shape, x.dtype), tf.TensorSpec((2,), tf.int64)),
    )
    return elements.map(lambda x, seed: apply(augment, x, seed))


@every_case
def test_repr_reads_as_it_is_made(example, text):
    augment = made(text)
    assert repr(augment) == text
    assert augment == made(text)
    assert hash(augment) == hash(made(text))
    assert pickle.loads(pickle.dumps(augment)) == augment


@every_case
def test_same_bits_in_eager_and_in_a_dataset_with_the_shape_and_dtype_of_the_example(example, text):
    augment, x = made(text), EXAMPLES[example]
    dataset = in_a_dataset(augment, x)
    assert dataset.element_spec == tf.TensorSpec(x.shape, x.dtype)
    views = list(dataset.as_numpy_iterator())
    for seed, view in zip(SEEDS, views, strict=True):
        np.testing.assert_array_equal(view, apply(augment, x, tuple(seed)).numpy())
    assert len({view.tobytes() for view in views}) > 1


@every_case
def test_same_bits_where_the_size_is_not_known_beforehand(example, text):
    augment, x = made(text), EXAMPLES[example]
    last = x.shape[-1:] if x.ndim > 1 else ()
    spec = tf.TensorSpec([None] * (x.ndim - len(last)) + list(last), x.dtype)
    for view, other in zip(in_a_dataset(augment, x), in_a_dataset(augment, x, spec), strict=True):
        np.testing.assert_array_equal(view, other)


@every_case
def test_an_int32_seed_draws_what_an_int64_seed_draws(example, text):
    augment, x = made(text), EXAMPLES[example]
    for seed in SEEDS[:5] % 2**31:
        views = (apply(augment, x, tf.constant(seed, dtype)).numpy() for dtype in ("int32", "int64"))
        np.testing.assert_array_equal(*views)


def digests():
    """One digest of all views of each augmentation, drawn eagerly."""
    found = []
    for example, text in CASES:
        views = (apply(made(text), EXAMPLES[example], seed).numpy().tobytes() for seed in SEEDS)
        found.append(hashlib.sha256(b"".join(views)).hexdigest())
    return found


def test_same_bits_in_another_process_with_one_thread():
    code = (
        "import importlib.util, json, sys, tensorflow as tf\n"
        "tf.config.threading.set_intra_op_parallelism_threads(1)\n"
        "spec = importlib.util.spec_from_file_location('cases', sys.argv[1])\n"
        "cases = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(cases)\n"
        "print(json.dumps(cases.digests()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, __file__],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == digests()


def test_compose_applies_each_with_its_own_seed():
    flip, shift = random_flip(), random_shift(2)
    for seed in SEEDS:
        first, second = tf.random.split(seed, 2)
        expected = shift(flip(IMAGE, first), second).numpy()
        np.testing.assert_array_equal(compose(flip, shift)(IMAGE, seed), expected)


def test_compose_takes_a_function_that_was_given_a_name():
    augment = compose(Augmentation("double", lambda x, seed: 2 * x), random_shift(1))
    assert repr(augment) == "compose(double(), random_shift(max_pixels=1))"
    expected = 2 * random_shift(1)(IMAGE, tf.random.split((3, 4), 2)[1]).numpy()
    np.testing.assert_array_equal(augment(IMAGE, (3, 4)), expected)


def test_compose_draws_its_parts_independently():
    x = np.pad([[[1.0], [2.0]]], ((2, 2), (2, 2), (0, 0)))
    both = compose(random_flip(), random_flip(), random_shift(1))
    counts = {}
    for index in range(300):
        view = both(x, (index, 7)).numpy()
        (row, column, _), flipped = np.argwhere(view == view.max())[0], view.sum(axis=(0, 2)).argmax()
        left = np.argwhere(view > 0)[:, 1].min()
        outcome = (int(row), int(left), bool(flipped == left))
        counts[outcome] = counts.get(outcome, 0) + 1
        assert column == flipped
    assert len(counts) == 18
    chi_square = sum((count - 300 / 18) ** 2 / (300 / 18) for count in counts.values())
    assert chi_square < 40.8  # 17 degrees of freedom: one in 1,000 is above


def test_a_composed_mixture_changes_the_partner_as_the_example():
    augment = compose(random_flip(), random_shift(2), mixup(alpha=1.0, num_classes=2))
    partner = IMAGE[::-1]
    for seed in SEEDS:
        flip_seed, shift_seed, mix_seed = tf.random.split(seed, 3)
        one, other = (random_shift(2)(random_flip()(x, flip_seed), shift_seed).numpy() for x in (IMAGE, partner))
        share = float(augment.mix_labels(0, seed, 1)[0])
        np.testing.assert_allclose(augment(IMAGE, seed, partner), share * one + (1 - share) * other, atol=1e-6)
        np.testing.assert_array_equal(augment.mix_labels(0, seed, 1), augment.parts[-1].mix_labels(0, mix_seed, 1))


@pytest.mark.parametrize(
    ("augment", "mixes"),
    [(random_flip(), False), (compose(random_flip()), False), (mixup(), True), (compose(random_flip(), mixup()), True)],
)
def test_mixes_follows_the_last(augment, mixes):
    assert augment.mixes is mixes


def test_compose_of_nothing_is_refused():
    check_text(ValueError, compose, "`compose`: expected one augmentation or more. Received: augmentations=().")


def test_compose_of_a_function_is_refused():
    text = (
        "`compose`: expected augmentations of `keras_kd.data`, whose `repr` names the views they give. Received: "
        "<built-in function abs>. Wrap a function as `Augmentation(name, function)`."
    )
    check_text(TypeError, lambda: compose(random_flip(), abs), text)


@pytest.mark.parametrize("parts", [(mixup(), random_flip()), (cutmix(), mixup())])
def test_one_that_mixes_is_the_last(parts):
    text = f"`compose`: expected one augmentation that mixes at most, as the last. Received: augmentations={parts!r}."
    check_text(ValueError, lambda: compose(*parts), text)


@pytest.mark.parametrize(
    ("augment", "shape", "expected"),
    [
        (random_flip(), (2, 4, 4, 3), "one image of shape (height, width, channels)"),
        (random_shift(1), (4, 4), "one image of shape (height, width, channels)"),
        (data.random_gain(), (8, 100), "one waveform of shape (samples,) or (samples, 1)"),
        (data.spec_augment(), (9,), "one spectrogram of shape (time, bands) or (time, bands, channels)"),
    ],
)
def test_another_shape_is_refused(augment, shape, expected):
    text = f"`{augment.name}`: expected {expected}. Received: shape={tf.TensorShape(shape)!r}."
    check_text(ValueError, lambda: augment(np.zeros(shape), (0, 1)), text)
