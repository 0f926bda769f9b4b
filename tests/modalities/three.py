"""Small descriptions and batches of three modalities."""

from types import SimpleNamespace

import numpy as np

SAMPLES = 1024
IMAGE = SimpleNamespace(height=8, width=8, channels=1)
AUDIO = SimpleNamespace(samples=SAMPLES, rate=8000)
TEXT = SimpleNamespace(length=6, vocabulary=("", "[UNK]", *"abcdef"))
THREE = {"image": IMAGE, "audio": AUDIO, "text": TEXT}
CLASSES = 3
SUBSETS = [
    subset
    for subset in ({n for n, bit in zip(THREE, f"{i:03b}", strict=True) if bit == "1"} for i in range(8))
    if subset
]


def batch(count=12, seed=0):
    """Each class has a bright row, a tone and a letter of its own, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    image = rng.uniform(0, 0.5, size=(count, 8, 8, 1))
    image[np.arange(count), 2 * labels + 1] += 0.5
    time = np.arange(SAMPLES) / 8000
    audio = 0.3 * np.sin(2 * np.pi * (400 + 700 * labels[:, None]) * time) + 0.01 * rng.normal(size=(count, SAMPLES))
    text = rng.integers(2, 5, size=(count, 6))
    text[:, 3] = 5 + labels
    x = {"image": image.astype("float32"), "audio": audio.astype("float32"), "text": text.astype("int32")}
    return x, labels


def with_presence(x, present):
    """Zeros for what is not in `present`, the same for every example, and the keys that say so."""
    count = len(x["image"])
    x = {name: tensor if name in present else np.zeros_like(tensor) for name, tensor in x.items()}
    return {**x, **{f"{name}_present": np.full(count, name in present) for name in THREE}}
