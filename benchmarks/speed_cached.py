"""The parts of `speed.py` about cached teachers: training from a cache, writing one, and reading a long one."""

import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from speed_models import BATCH, compiled, copy_of, fitting

import keras_kd as kd

AUGMENT = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2))
VIEWS = 4
LONG, EVERY, CLASSES, TOP_K = 1_000_000, 100_000, 1000, 8


def examples_of(steps: int, shape: tuple[int, int, int]) -> tf.data.Dataset:
    """Single examples of noise and of ten classes in turn, in memory."""
    x = np.random.default_rng(0).normal(size=(steps * BATCH, *shape)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, np.arange(len(x)) % 10))


def shuffled(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Shuffled and batched, as one does."""
    return examples.shuffle(4096, seed=0).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def cached_runs(
    student: keras.Model, teacher: keras.Model, steps: int, *, batched: bool = False, augmented: bool = False
) -> dict[str, Callable[[], Any]]:
    """An epoch of the student alone, of the student and what the teacher said, and of Keras's own distiller."""
    examples = examples_of(steps, student.input_shape[1:])
    options = {"augment": AUGMENT} if augmented else {}
    folder = Path(tempfile.mkdtemp()) / "cache"
    kd.cache_teacher(teacher, examples, folder, views=VIEWS if augmented else 1, verbose=0, **options)
    if batched:
        plain = examples.batch(BATCH).prefetch(tf.data.AUTOTUNE)
        cached = kd.open_cache(folder, examples.batch(BATCH)).prefetch(tf.data.AUTOTUNE)
    else:
        plain = shuffled(_augmented(examples) if augmented else examples)
        cached = shuffled(kd.open_cache(folder, examples, **options))
    soft = keras.distillation.LogitsDistillation(4.0, keras.losses.KLDivergence())
    builtin = keras.distillation.Distiller(copy_of(teacher), copy_of(student), soft, student_loss_weight=0.3)
    return {
        "cached": fitting(compiled(kd.Distiller(copy_of(student), None)), cached),
        "alone": fitting(compiled(copy_of(student)), plain),
        "builtin": fitting(compiled(builtin), plain),
    }


def _augmented(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Each example under a seed of its own."""
    seeds = tf.data.Dataset.random(seed=0).batch(2)
    zipped = tf.data.Dataset.zip(examples, seeds)
    return zipped.map(lambda example, seed: (AUGMENT(example[0], seed), example[1]), tf.data.AUTOTUNE)


def writing_runs(teacher: keras.Model, steps: int) -> dict[str, Callable[[], Any]]:
    """What `predict` and `cache_teacher` do with the same images, in batches of the same size."""
    examples = examples_of(steps, teacher.input_shape[1:])
    folder = Path(tempfile.mkdtemp())
    return {
        "predict": lambda: teacher.predict(examples.batch(256), verbose=0),
        "write": lambda: kd.cache_teacher(teacher, examples, folder / str(time.perf_counter()), verbose=0),
    }


def memory_of_reading() -> list[list[str]]:
    """Reads a million examples of 1,000 classes, top 8, and says what memory the process has as it goes."""
    folder = Path(tempfile.mkdtemp()) / "cache"
    numbers = tf.data.Dataset.range(LONG).batch(1000).map(lambda n: tf.cast(n, tf.float32)[:, None])
    drawn = np.random.default_rng(0).normal(size=(1, CLASSES)).astype("float32")
    kd.cache_teacher(lambda n: np.sin(n) * drawn, numbers, folder, top_k=TOP_K, verbose=0)
    rows, start = [], time.perf_counter()
    for batch, _ in enumerate(kd.open_cache(folder, numbers), start=1):
        if batch * 1000 % EVERY == 0:
            gc.collect()
            rows.append([f"{batch * 1000:,}", f"{_resident():.0f} MB", f"{time.perf_counter() - start:.1f} s"])
    return rows


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
