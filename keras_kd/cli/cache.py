"""`keras-kd cache`: asks a teacher once about a data set, and keeps the answers for any number of students."""

import argparse
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_kd import data
from keras_kd.cache import cache_teacher, store
from keras_kd.cache.codecs import DTYPES
from keras_kd.cli.augmentations import augmentation_of
from keras_kd.cli.models import load_teacher, teacher_of
from keras_kd.cli.runs import write_record
from keras_kd.cli.sources import checked_shape, probe_of, scale_for, steady_name
from keras_kd.locking import contents

ASKED = ("views", "seed", "top_k", "samples", "temperature", "dtype")


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "cache",
        help="ask a teacher once, for `distill --cache`",
        description="Asks a teacher once about every training example, in every augmented view, and keeps what it says "
        "on disk. `keras-kd distill --cache DIR` trains students from it, without the teacher. Interrupted, the same "
        "command goes on.",
    )
    parser.add_argument("--teacher", required=True, metavar="T", help=".keras or .tflite file, or SavedModel folder")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a TFDS set, or a folder of images by class")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the cache")
    parser.add_argument("--views", type=int, default=1, metavar="N", help="augmented views of each (default 1)")
    parser.add_argument("--augment", metavar="CALLS", help='of keras_kd.data, as in "random_shift(2), random_flip()"')
    parser.add_argument("--top-k", type=int, metavar="K", help="keep the greatest classes, the rest as one")
    parser.add_argument("--samples", type=int, metavar="K", help="keep classes drawn at random")
    parser.add_argument("--temperature", type=float, default=4.0, metavar="T", help="of --top-k, --samples (default 4)")
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of the numbers kept (default float16)")
    parser.add_argument("--taps", metavar="A,B", help="layers whose features to keep, for objectives in Python")
    parser.add_argument("--seed", type=int, default=0, help="what the views are drawn from (default 0)")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="only part I of N, from 0, on one of N machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    out, shard = Path(options.out), _shard_of(options.shard)
    _check_folder(out)
    augment = augmentation_of(options.augment) if options.augment is not None else None
    model = load_teacher(options.teacher)
    source = data.load(options.dataset)
    shape = checked_shape(model, "teacher", source)
    teacher = teacher_of(model, probe=probe_of(source, shape))
    scale = scale_for(model, shape, source)
    examples = teacher_form(source, shape, scale)
    _try(augment, examples, source.num_classes)
    asked = {name: getattr(options, name) for name in ASKED}
    asked["taps"] = options.taps.split(",") if options.taps else []
    before = _stamp(out)
    try:
        manifest = cache_teacher(teacher, examples, out, augment=augment, shard=shard, **asked)
    except KeyboardInterrupt:
        print("\nkeras-kd cache: interrupted. The same command goes on where it was.", file=sys.stderr)
        return 130
    read = {"teacher": options.teacher, "dataset": steady_name(options.dataset), "input_shape": shape, "scale": scale}
    # Only now is the folder known to hold this cache, and not another's.
    write_record(out, {**read, "augment": augment and repr(augment), **asked})
    if manifest is not None and _stamp(out) != before:
        print(manifest)
    return 0


def teacher_form(source: data.Source, shape: tuple[int | None, ...], scale: float | None) -> tf.data.Dataset:
    """The training examples as the teacher takes them, which is how a cache knows them."""
    transform = data.input_transform(source, shape, scale=scale)
    return source.train.map(lambda x, y: (transform(x), y), tf.data.AUTOTUNE)


def _shard_of(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise ValueError(f"--shard must be I/N, two numbers with 0 <= I < N, as in 0/4. Received: {text}")
    return int(part), int(parts)


def _check_folder(out: Path) -> None:
    if contents(out) and not (_stamp(out) or any(out.glob("signals-*"))):
        raise ValueError(f"the output folder holds something else than a cache: {out}. Choose another.")


def _stamp(out: Path) -> int:
    """When the manifest was written; 0 without one."""
    file = out / store.MANIFEST
    return file.stat().st_mtime_ns if file.is_file() else 0


def _try(augment: Any, examples: tf.data.Dataset, classes: int) -> None:
    """Applies an augmentation once outside of `tf.data`, which would wrap its complaints in pages of its own."""
    if augment is None:
        return
    x, y = next(iter(examples))
    if not augment.mixes:
        augment(x, (0, 0))
        return
    augment(x, (0, 0), x)
    scores = augment.mix_labels(y, (0, 0), y)
    if scores.shape != (classes,):
        raise ValueError(f"{augment!r} gives labels of {scores.shape[-1]} classes, but the data set has {classes}.")
