"""What `speed.py` asks of cached teachers: training from a cache, writing one, and reading a long one."""

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from speed_models import ALPHA, BATCH, TEMPERATURE, compiled, copy_of, fitting
from speed_race import BUILTIN, CACHED, PREDICTING, STUDENT_ALONE, WRITING, Contestants

import keras_kd as kd

AUGMENT = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2))
VIEWS, BUFFER, ROWS = 4, 4096, 1000


def examples_of(steps: int, shape: tuple[int, int, int]) -> tf.data.Dataset:
    """Single examples of noise and of ten classes in turn, in memory."""
    x = np.random.default_rng(0).normal(size=(steps * BATCH, *shape)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, np.arange(len(x)) % 10))


def shuffled(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Shuffled and batched, as one does."""
    return examples.shuffle(BUFFER, seed=0).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def cached_runs(
    student: keras.Model, teacher: keras.Model, steps: int, *, batched: bool = False, augmented: bool = False
) -> Contestants:
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
    soft = keras.distillation.LogitsDistillation(TEMPERATURE, keras.losses.KLDivergence())
    builtin = keras.distillation.Distiller(copy_of(teacher), copy_of(student), soft, student_loss_weight=ALPHA)
    return {
        CACHED: fitting(compiled(kd.Distiller(copy_of(student), None)), cached),
        STUDENT_ALONE: fitting(compiled(copy_of(student)), plain),
        BUILTIN: fitting(compiled(builtin), plain),
    }


def _augmented(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Each example under a seed of its own."""
    seeds = tf.data.Dataset.random(seed=0).batch(2)
    zipped = tf.data.Dataset.zip(examples, seeds)
    return zipped.map(lambda example, seed: (AUGMENT(example[0], seed), example[1]), tf.data.AUTOTUNE)


def writing_runs(student: keras.Model, teacher: keras.Model, steps: int) -> Contestants:
    """What `predict` and `cache_teacher` do with the same images, in batches of the same size; the student rests."""
    examples = examples_of(steps, teacher.input_shape[1:])
    folder = Path(tempfile.mkdtemp())
    return {
        PREDICTING: lambda: teacher.predict(examples.batch(256), verbose=0),
        WRITING: lambda: kd.cache_teacher(teacher, examples, folder / str(time.perf_counter()), verbose=0),
    }


def memory_of_reading(examples: int, every: int, classes: int, top_k: int) -> list[dict[str, Any]]:
    """Reads what a teacher said of many classes, and says what memory the process has as it goes."""
    folder = Path(tempfile.mkdtemp()) / "cache"
    numbers = tf.data.Dataset.range(examples).batch(ROWS).map(lambda n: tf.cast(n, tf.float32)[:, None])
    drawn = np.random.default_rng(0).normal(size=(1, classes)).astype("float32")
    kd.cache_teacher(lambda n: np.sin(n) * drawn, numbers, folder, top_k=top_k, verbose=0)
    points, start = [], time.perf_counter()
    for batch, _ in enumerate(kd.open_cache(folder, numbers), start=1):
        if batch * ROWS % every == 0:
            gc.collect()
            seconds = time.perf_counter() - start
            points.append({"examples": batch * ROWS, "megabytes": _resident(), "seconds": seconds})
    return points


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
