"""`cache_teacher`: asks a teacher once about every view of every example, and writes down what it says."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.cache import store
from keras_kd.cache.codecs import codec_of
from keras_kd.cache.examples import Examples, split, without_id
from keras_kd.cache.fingerprints import checksums_in_graph
from keras_kd.cache.finishing import finish, survey
from keras_kd.cache.manifest import Manifest, Plan
from keras_kd.cache.planning import keys_in, plan_of, seeds_of
from keras_kd.cache.progress import Progress
from keras_kd.cache.speaking import Speaker
from keras_kd.cache.views import Augment, view_of_block
from keras_kd.locking import writing
from keras_kd.teachers import Ensemble, Teacher, as_teacher


def cache_teacher(
    teacher: Any,
    dataset: Any,
    path: str | os.PathLike,
    *,
    taps: Sequence[str] = (),
    top_k: int | None = None,
    samples: int | None = None,
    temperature: float = 4.0,
    dtype: str = "float16",
    views: int = 1,
    augment: Augment | None = None,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    verbose: str | int = "auto",
) -> Manifest | None:
    """Asks a teacher once about every example of a source, in every view, and keeps the answers on disk.

    Bytes per view: a seed of 4, then for logits of C classes 4C in float32, 2C in float16, C + 4 in int8, 4k with
    `top_k`, at most as many with `samples`; two for each number of a feature. An interrupted run, killed or out of
    disk, goes on where it was when it is called again, and ends with the same bytes. Shows a progress bar, with
    examples a second.

    Args:
        teacher: A Keras model, a `Teacher`, a list of models or an `Ensemble`, a SavedModel folder, a `.tflite` file,
            or a function of NumPy arrays.
        dataset: The source in its stable order: a `tf.data.Dataset`, batched or not, or arrays, of `(x, y[,
            sample_weight])` or `x`. Where `x` is a dict with `"tfds_id"` (`tfds.ReadConfig(add_tfds_id=True)`), that
            is the key of an example, and the order does not matter; otherwise its place is.
        path: Folder for the cache.
        taps: Features of the teacher to keep too, float16, as objectives name them.
        top_k: Keeps the `k` greatest classes and one bucket for all the rest, at `temperature`. A KL over these `k + 1`
            outcomes is never negative, and a lower bound of that over all classes. Defaults to all classes.
        samples: Keeps `k` classes drawn at random at `temperature`: the gradient of soft targets is unbiased (Anshumann
            et al., Sparse Logit Sampling, 2025, arXiv:2503.16870). Defaults to all classes.
        temperature: `T > 0` that `top_k`, `samples` and an ensemble are kept at; training at another is refused. All
            classes of one teacher serve any temperature. Defaults to 4.
        dtype: Of the numbers: "float32", "float16", or "int8" with a scale for each row. Defaults to "float16".
        views: How many augmented views of each example. Defaults to 1.
        augment: `(x, seed) -> x` of one example and two integers, which depends on nothing else, as those of
            `keras_kd.data`. Defaults to none.
        seed: What the seeds of the views are drawn from. Defaults to 0.
        shard: `(i, n)` writes only the i-th of n parts, from 0, on one of n machines. Together they write the same
            files as one; the last, or another call without `shard`, writes the manifest. A second process that writes
            the same part is refused.
        verbose: 0 for no progress bar, as in Keras. Defaults to `"auto"`, a bar.

    Returns:
        The `Manifest`; `None` while parts are still to come.

    Raises:
        ValueError: If an argument is none of these, the teacher ends in undeclared probabilities or gives NaN, or the
            folder holds a cache of another teacher, data set, augmentation or form, or another process writes there.
        OSError: If `path` cannot be written to, or the disk is full. What is written is kept.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> x = np.random.default_rng(0).random((100, 8), "float32")
        >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> cache = cache_teacher(teacher, x, tempfile.mkdtemp(), verbose=0)
        >>> cache.examples, cache.bytes_per_example
        (100, 10)

    Reference:
        Wu et al. TinyViT: Fast Pretraining Distillation for Small Vision Transformers. 2022. arXiv:2207.10666: seeds of
        augmented views kept instead of pixels. There as in Shen and Xing, FKD, 2021, arXiv:2112.01528, truncated
        classes are renormalised; here the rest is one outcome more.
    """
    source = as_teacher(teacher)
    if source is None:
        raise ValueError("`cache_teacher`: `teacher` must be a teacher. Received: None.")
    _check(views, augment, seed, shard)
    folder = _folder_of(path)
    codec_of(dtype, top_k, samples, temperature)
    codec = {"dtype": dtype, "top_k": top_k, "samples": samples, "temperature": float(temperature)}
    examples = Examples.of(dataset, "cache_teacher", _ranks(source), seen=source.members[0].inputs_for)
    speaker = Speaker(source, taps, float(temperature))
    plan = plan_of(speaker, examples, codec, views, augment, seed)
    return _Writer(folder, speaker, examples, plan, augment, verbose).run(*shard)


def _check(views: int, augment: Augment | None, seed: int, shard: tuple[int, int]) -> None:
    if not isinstance(views, int) or views < 1:
        raise ValueError(f"`cache_teacher`: `views` must be an integer >= 1. Received: views={views!r}.")
    if views > 1 and augment is None:
        raise ValueError(
            f"`cache_teacher`: without `augment` all views are the same. Received: views={views}. Give `augment`, "
            "as in `keras_kd.data.random_shift(2)`, or leave views=1."
        )
    if augment is not None and not callable(augment):
        raise ValueError(f"`cache_teacher`: `augment` must be a function (x, seed) -> x. Received: {augment!r}.")
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"`cache_teacher`: `seed` must be an integer in [0, 2**32). Received: seed={seed!r}.")
    if not (isinstance(shard, tuple | list) and [type(number) for number in shard] == [int, int]):
        raise ValueError(f"`cache_teacher`: `shard` must be two integers (i, n). Received: shard={shard!r}.")
    if not 0 <= shard[0] < shard[1]:
        raise ValueError(f"`cache_teacher`: `shard` must be (i, n) with 0 <= i < n. Received: shard={shard!r}.")


def _folder_of(path: str | os.PathLike) -> Path:
    """The path of a folder, which need not be there yet."""
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"`cache_teacher`: `path` must be the path of a folder. Received: path={path!r}.")
    if "://" in os.fspath(path):
        raise ValueError(
            f"`cache_teacher`: `path` must be a folder of a mounted file system. Received: path={path!r}. Write to a "
            "folder and copy its files there, or mount the store."
        )
    return Path(path)


def _make(folder: Path) -> None:
    """Makes a folder to write to, where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
    except OSError as error:
        raise OSError(
            error.errno,
            f"`cache_teacher`: `path` must be a folder to write to, there or to be made. Received: {folder} "
            f"({error.strerror})",
        ) from error


def _ranks(teacher: Teacher | Ensemble) -> list[int] | None:
    """Ranks of the batches that the teacher takes, where its inputs tell."""
    member = teacher.members[0]
    inputs = getattr(member.model, "inputs", None)
    if not inputs or member.preprocess is not None:
        return None
    return [len(tensor.shape) for tensor in inputs]


class _Writer:
    """Writes the shards of a plan that are not there yet."""

    def __init__(
        self,
        folder: Path,
        speaker: Speaker,
        examples: Examples,
        plan: Plan,
        augment: Augment | None,
        verbose: str | int,
    ):
        self._folder, self._speaker, self._examples = folder, speaker, examples
        self._plan, self._augment, self._verbose = plan, augment, verbose
        self._layout, self._geometry = plan.layout, plan.geometry
        self._records = self._geometry.views + self._geometry.keyed

    def run(self, part: int, parts: int) -> Manifest | None:
        """Writes one of several parts, and the manifest when all are there."""
        _make(self._folder)
        with writing(self._folder, "`cache_teacher`", part=f"{part}-of-{parts}" if parts > 1 else ""):
            return self._run(part, parts)

    def _run(self, part: int, parts: int) -> Manifest | None:
        there = survey(self._folder, self._plan, self._examples.count)
        if isinstance(there, Manifest):
            if self._verbose:
                print(f"Nothing to do: {there}.")
            return there
        begun = self._begun(part, parts)
        end = self._write(self._views(there, begun, part, parts))
        for shard, blocks in begun.items():
            if blocks and not (self._folder / store.shard_name(shard)).exists():  # all was written but the name
                self._open(shard).finish()
        if parts > 1:
            end = self._examples.counted()
        return finish(self._folder, self._plan, end)

    def _begun(self, part: int, parts: int) -> dict[int, int]:
        """How many blocks of a shard an interrupted run of this part has left."""
        return {
            shard: store.blocks_left(path, self._plan.header(shard), self._records)
            for shard, path in store.shards_in(self._folder, "partial").items()
            if shard % parts == part
        }

    def _open(self, shard: int) -> store.ShardWriter:
        return store.ShardWriter(self._folder, shard, self._plan.header(shard), self._records)

    def _views(self, done: Sequence[int], begun: dict[int, int], part: int, parts: int) -> tf.data.Dataset:
        """What is still to be said: number of the block, view, keys, seeds and inputs, block by block."""
        per_shard = self._geometry.blocks
        done, shards, blocks = (tf.constant(list(of), tf.int64) for of in (done, begun, begun.values()))

        def is_wanted(index, _):
            shard, block = index // per_shard, index % per_shard
            left = tf.reduce_sum(tf.where(shards == shard, blocks, 0))
            return (shard % parts == part) & ~tf.reduce_any(done == shard) & (block >= left)

        def views_of(index, element):
            x, _ = split(element)
            keys, x = keys_in(x, index * self._geometry.block), without_id(x)
            sums = checksums_in_graph(x)  # once for all views

            def view_of(view):
                seeds = seeds_of(sums, keys, view, self._plan.facts["seed"])
                shown = view_of_block(self._augment, x, seeds)
                return tf.data.Dataset.zip(tf.data.Dataset.from_tensors((index, view, keys, seeds)), shown)

            return tf.data.Dataset.range(self._geometry.views).flat_map(view_of)

        wanted = self._examples.blocks().enumerate().filter(is_wanted)
        return wanted.flat_map(views_of).prefetch(tf.data.AUTOTUNE)

    def _write(self, views: tf.data.Dataset) -> int:
        """Asks and writes; returns the place behind the last example seen."""
        progress = Progress(self._examples.count, self._plan.bytes_per_example, self._verbose)
        writer, records, end = None, [], 0
        try:
            for (index, view, keys, seeds), x in views:
                shard = int(index) // self._geometry.blocks
                if writer is None or writer.shard != shard:
                    if writer is not None:
                        writer.finish()
                    writer = self._open(shard)
                first, view = int(index) * self._geometry.block, int(view)
                if view == 0:
                    records = [keys.numpy().astype("<i8").tobytes()] if self._geometry.keyed else []
                records.append(self._rows(first, view, seeds.numpy(), x).tobytes())
                if view == self._geometry.views - 1:
                    writer.write(records)
                    end = first + len(seeds)
                    progress.add(len(seeds))
            if writer is not None:
                writer.finish()
        except BaseException:
            if writer is not None:
                writer.close()
            raise
        progress.close()
        return end

    def _rows(self, first: int, view: int, seeds: np.ndarray, x: Any) -> np.ndarray:
        said = self._speaker.checked(self._speaker(x), self._layout, first)
        # Drawn anew for each block, so that it does not matter who writes it, and when.
        generator = np.random.default_rng([self._plan.facts["seed"], view, first])
        return self._layout.encode(seeds, said, generator)
