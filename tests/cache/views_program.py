"""Views of small images under an augmentation; run as a program, it opens a cache and prints what it shows, as JSON."""

import hashlib
import json
import sys

import numpy as np

import keras_kd as kd
from keras_kd.cache import open_cache

VIEWS = 2


def images():
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (20, 6, 6, 1)).astype("uint8"), np.arange(20) % 3


def augmentation():
    return kd.data.compose(kd.data.random_flip(), kd.data.random_shift(max_pixels=2), kd.data.random_rotation())


def shown(path):
    """SHA-256 of the pixels of each view."""
    opened = open_cache(path, images(), augment=augmentation())
    return [
        hashlib.sha256(b"".join(signals.x.numpy().tobytes() for signals, _ in opened)).hexdigest() for _ in range(VIEWS)
    ]


if __name__ == "__main__":
    print("RESULT" + json.dumps(shown(sys.argv[1])))
