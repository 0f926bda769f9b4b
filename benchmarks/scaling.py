"""What a long run would take, told from its measured parts, and held to a run made here.

    taskset -c 0 python benchmarks/run.py scaling

Everything runs on one core, so that seconds are core-seconds. The parts: what a cache takes on disk and in time, what
a picture takes to decode, what a teacher takes to ask, what a batch takes to read and to learn. A whole run, of other
sizes than the parts were measured at, is predicted from them, and then made. No data are needed: images are noise.
"""

import functools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from pipelines import untuned
from records import Record, Run
from rendering import Page, Table
from scaling_plan import Line, readers_for, seconds_of_asking, seconds_of_epoch
from speed_models import compiled, convolutional

import keras_kd as kd

SEEDS = 3
CLASSES, IMAGES = 21_841, 14_197_122  # ImageNet-21k
CODECS = {
    "all logits, float16": {},
    "top 32": {"top_k": 32},
    "top 8": {"top_k": 8},
    "32 drawn": {"samples": 32},
}
RUN = {"teacher": (64, 96, 208), "student": (16, 24, 40), "shape": (28, 28, 1), "batch": 128, "epochs": 4}
PARTS = {**RUN, "asked": (1024, 4096), "examples": 4096}
WHOLE = {**RUN, "examples": 16_384}
QUICK = {"asked": (128, 256), "examples": 256}
RATES = (500, 1000, 2000, 4000)


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The codecs, the pictures, the parts of a run, and the run."""
    for name, codec in CODECS.items():
        settings = {"classes": CLASSES, "examples": 64 if quick else 2048, **codec}
        yield Run(name, seed, settings, functools.partial(cached, **settings))
    pictures = {"height": 375, "width": 500, "cut": 224, "examples": 16 if quick else 400}
    yield Run("pictures", seed, pictures, functools.partial(decoded, **pictures))
    parts = {**PARTS, **(QUICK if quick else {})}
    yield Run("parts", seed, parts, functools.partial(parts_of_a_run, **parts))
    whole = {**WHOLE, **({"examples": 512} if quick else {})}
    yield Run("whole", seed, whole, functools.partial(whole_run, **whole))


def seconds_of(call: Any) -> float:
    """What a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cached(classes: int, examples: int, **codec: Any) -> dict[str, float]:
    """Bytes of an example in a cache; seconds to write and to read one, the teacher's own left out."""
    numbers = np.arange(examples, dtype="float32")[:, None]
    said = np.random.default_rng(0).normal(size=(examples, classes)).astype("float32")
    folder = Path(tempfile.mkdtemp()) / "cache"

    def teacher(batch):
        return said[batch[:, 0].astype(int) % examples]

    write = seconds_of(lambda: kd.cache_teacher(teacher, numbers, folder, verbose=0, **codec))
    data = untuned(kd.open_cache(folder, numbers).batch(128))
    read = min(seconds_of(lambda: list(map(len, data))) for _ in range(3))
    size = sum(path.stat().st_size for path in folder.glob("*.tfrecord"))
    return {"bytes": size / examples, "write": write / examples, "read": read / examples}


def decoded(height: int, width: int, cut: int, examples: int) -> dict[str, float]:
    """Seconds to decode, cut and resize a JPEG of a photograph's size."""
    coarse = np.random.default_rng(0).uniform(0, 255, (height // 8, width // 8, 3))
    grained = tf.image.resize(coarse, (height, width)) + np.random.default_rng(1).normal(0, 12, (height, width, 3))
    jpeg = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(grained, 0, 255), "uint8"), quality=95)

    def read(_):
        return tf.image.resize(tf.io.decode_jpeg(jpeg)[:height, :height], (cut, cut))

    data = untuned(tf.data.Dataset.range(examples).map(read).batch(32))
    return {
        "bytes": len(jpeg.numpy()),
        "read": min(seconds_of(lambda: list(map(len, data))) for _ in range(2)) / examples,
    }


def images_of(shape: tuple[int, ...], examples: int) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(0).normal(size=(examples, *shape)).astype("float32")


def models_of(teacher: tuple[int, ...], student: tuple[int, ...], shape: tuple[int, ...]) -> list[keras.Model]:
    """Teacher and student."""
    keras.utils.set_random_seed(0)
    return [convolutional(widths, shape) for widths in (teacher, student)]


def learner(student: keras.Model) -> kd.Distiller:
    """What learns from a cache."""
    distiller = kd.Distiller(student, None, alpha=0.0)
    return compiled(distiller)


def parts_of_a_run(teacher, student, shape, batch, epochs, asked, examples) -> dict[str, Any]:
    """Seconds of each part: asking fewer and more examples, the first step, and a batch read and learnt."""
    teacher, student = models_of(teacher, student, shape)
    x, folder = images_of(shape, max(examples, *asked)), Path(tempfile.mkdtemp())
    seconds = {
        count: seconds_of(lambda count=count: kd.cache_teacher(teacher, x[:count], folder / str(count), verbose=0))
        for count in asked
    }
    data = untuned(kd.open_cache(folder / str(examples), x[:examples]).batch(batch))
    batches = -(-examples // batch)
    distiller = learner(student)
    one = untuned(data.take(1).cache().repeat())
    first = seconds_of(lambda: distiller.fit(one, steps_per_epoch=1, verbose=0))
    steps = min(seconds_of(lambda: distiller.fit(one, steps_per_epoch=batches, verbose=0)) for _ in range(3))
    read = min(seconds_of(lambda: list(map(len, data))) for _ in range(3))
    return {
        "asked": [[count, taken] for count, taken in seconds.items()],
        "first": first,
        "step": steps / batches,
        "read": read / batches,
    }


def whole_run(teacher, student, shape, batch, epochs, examples) -> dict[str, float]:
    """Seconds of a run of more examples: asking, and learning for some epochs."""
    teacher, student = models_of(teacher, student, shape)
    x, folder = images_of(shape, examples), Path(tempfile.mkdtemp()) / "cache"
    asking = seconds_of(lambda: kd.cache_teacher(teacher, x, folder, verbose=0))
    data = untuned(kd.open_cache(folder, x).batch(batch))
    return {"asking": asking, "learning": seconds_of(lambda: learner(student).fit(data, epochs=epochs, verbose=0))}


def predicted(parts: Record, whole: Record) -> dict[str, float]:
    """What the parts say of the run."""
    settings, figures = whole.settings, parts.figures
    batches = -(-settings["examples"] // settings["batch"])
    epoch = seconds_of_epoch(batches, figures["read"], figures["step"])
    return {
        "asking": seconds_of_asking(Line.through(*figures["asked"]), settings["examples"], workers=1),
        "learning": figures["first"] + settings["epochs"] * epoch,
    }


def of(records: Sequence[Record], setting: str) -> list[Record]:
    """The records of a setting, seed by seed."""
    return sorted((record for record in records if record.setting == setting), key=lambda record: record.seed)


def median(records: Sequence[Record], setting: str, figure: str) -> float:
    """Of the seeds."""
    return float(np.median([record.figures[figure] for record in of(records, setting)]))


def page(records: Sequence[Record]) -> Page:
    """The run against its prediction, then the measured parts, then what they mean for ImageNet-21k."""
    parts = [
        "All on one core; medians of the seeds. The prediction stands on parts measured with a quarter of the "
        "examples.",
        _held(records),
        f"## A cache of {CLASSES:,} classes, and {IMAGES / 1e6:.1f} million images of it",
        _caches(records),
        "## Readers that keep up with an accelerator",
        "Cores that do nothing but read, for so many images a second: decoding a JPEG of 500 × 375 pixels takes "
        f"{1e3 * median(records, 'pictures', 'read'):.2f} ms of a core, the signals what the table above says.",
        _readers(records),
    ]
    return Page("Scaling", parts)


def _held(records: Sequence[Record]) -> Table:
    rows = []
    for parts, whole in zip(of(records, "parts"), of(records, "whole"), strict=True):
        told, made = predicted(parts, whole), whole.figures
        for name, say in (("asking", "asking the teacher"), ("learning", f"{whole.settings['epochs']} epochs")):
            off = told[name] / made[name] - 1
            rows.append([str(whole.seed), say, f"{told[name]:.1f} s", f"{made[name]:.1f} s", f"{100 * off:+.1f} %"])
        off = sum(told.values()) / (made["asking"] + made["learning"]) - 1
        all_told, all_made = sum(told.values()), made["asking"] + made["learning"]
        rows.append([str(whole.seed), "the run", f"{all_told:.1f} s", f"{all_made:.1f} s", f"{100 * off:+.1f} %"])
    return Table(["seed", "what", "predicted", "measured", "off by"], rows)


def _caches(records: Sequence[Record]) -> Table:
    rows = []
    for name in CODECS:
        size, write, read = (median(records, name, figure) for figure in ("bytes", "write", "read"))
        rows.append(
            [
                name,
                f"{size:,.0f}",
                f"{size * IMAGES / 1e9:,.1f} GB",
                f"{1e6 * write:.0f} µs",
                f"{write * IMAGES / 3600:.1f} h",
                f"{1e6 * read:.1f} µs",
                f"{read * IMAGES / 3600:.2f} h",
            ]
        )
    head = ["codec", "bytes an example", "of all", "to write", "of all", "to read", "of all"]
    return Table(head, rows)


def _readers(records: Sequence[Record]) -> Table:
    picture = median(records, "pictures", "read")
    rows = [
        [f"{rate:,}", str(readers_for(rate, picture))]
        + [str(readers_for(rate, picture + median(records, name, "read"))) for name in CODECS]
        for rate in RATES
    ]
    return Table(["images a second", "pictures alone", *(f"and {name}" for name in CODECS)], rows)
