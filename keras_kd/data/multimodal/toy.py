"""`tones_and_digits`: a small set of three modalities that needs no download."""

import numpy as np

from keras_kd.data.digits import digits
from keras_kd.data.multimodal.arrays import from_arrays
from keras_kd.data.multimodal.source import SPLITS, MultimodalSource
from keras_kd.data.multimodal.words import number_words

# ITU-T Q.23: a key sounds the frequency of its row and that of its column, in Hz.
_ROWS, _COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)
_KEYS = "123456789*0#"
_RATE, _SAMPLES = 8000, 2000
_PER_CLASS = {"train": 60, "validation": 10, "test": 30}
_PIXEL_NOISE, _TONE_NOISE, _MISSPELLING = 0.35, 5.0, 0.4
_LOUDNESS = 0.06


def tones_and_digits(*, seed: int = 0) -> MultimodalSource:
    """Makes digits that are seen, dialled and written: a toy set for demonstrations and tests.

    The images are the embedded scans of `keras_kd.data.digits` under noise. The sounds are a quarter of a second of the
    keypad tone of the digit, from a random phase, under noise. The text is the digit's name in one of ten languages,
    misspelt. Noise and mistakes are chosen such that no modality alone suffices and that the three together nearly do.
    Scans and tones are no match in real life; what works here may not work elsewhere.

    Args:
        seed: what noise, phases and words are drawn from. The scans in each split do not depend on it.

    Returns:
        The `MultimodalSource`: 600, 100 and 300 examples of "image" (8, 8, 1), "audio" (2000 samples at 8 kHz) and
        "text" (10 characters).

    Example:
        >>> source = tones_and_digits()
        >>> len(source.train), len(source.validation), len(source.test)
        (600, 100, 300)
    """
    images, labels, splits = _scans()
    rng = np.random.default_rng(seed)
    noisy = np.clip(images + rng.normal(0, _PIXEL_NOISE, images.shape), 0, 1)
    words = [
        word
        for number, split in enumerate(SPLITS)
        for word in number_words(labels[splits == split], misspelling=_MISSPELLING, seed=(seed, number))
    ]
    return from_arrays(
        {"image": noisy, "audio": tones(labels, rng), "text": words},
        labels,
        splits=splits.tolist(),
        rate=_RATE,
        length=10,
        class_names=tuple(map(str, range(10))),
        name="tones_and_digits",
    )


def _scans() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    (x_train, y_train), (x_test, y_test) = digits()
    images, labels, splits = [], [], []
    held = {"train": (x_train, y_train, 0), "validation": (x_train, y_train, _PER_CLASS["train"])}
    for split, (x, y, start) in {**held, "test": (x_test, y_test, 0)}.items():
        for digit in range(10):
            rows = np.flatnonzero(y == digit)[start : start + _PER_CLASS[split]]
            images.append(x[rows])
            labels += [digit] * len(rows)
            splits += [split] * len(rows)
    return np.concatenate(images), np.array(labels), np.array(splits)


def tones(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Synthesises the keypad tones of digits under white noise.

    Args:
        labels: digits.
        rng: what phases and noise are drawn from.

    Returns:
        Shape `(len(labels), 2000)`, in [-1, 1].
    """
    keys = np.array([_KEYS.index(str(label)) for label in labels])
    frequencies = np.stack([np.take(_ROWS, keys // 3), np.take(_COLUMNS, keys % 3)], axis=-1)
    phases = rng.uniform(0, 2 * np.pi, frequencies.shape)
    time = np.arange(_SAMPLES) / _RATE
    sounds = np.sin(2 * np.pi * frequencies[..., None] * time + phases[..., None]).sum(axis=1)
    return np.clip(_LOUDNESS * (sounds + rng.normal(0, _TONE_NOISE, sounds.shape)), -1, 1)
