"""`open_cache`: a data set with what a teacher said of each example beside it."""

import os
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_kd.cache.examples import ID, Examples, split, without_id
from keras_kd.cache.joining import Joiner
from keras_kd.cache.manifest import Manifest
from keras_kd.cache.passes import Passes
from keras_kd.cache.planning import augmentation_facts, head_of
from keras_kd.cache.views import Augment, mixed_labels, mixes, name_of, partners, shown
from keras_kd.replay import WithSignals

SIGNALS_AT_ONCE = 1024


def open_cache(path: str | os.PathLike, dataset: Any, *, augment: Augment | None = None) -> tf.data.Dataset:
    """Gives a data set in which each example has with it what the teacher said, for `Distiller(student, None).fit`.

    Example and answer are joined by the example's key, and each answer is proved to be that example's: its seed was
    drawn from the example's bits. So shuffle, filter, shard, repeat and batch as you like, afterwards.

    Each pass over the data shows the next view, the first after the last; in `fit`, epoch `e` shows view `e` modulo
    the number of views, after an interruption too. A pass that was not read to its end does not count outside `fit`.

    Args:
        path: The folder that `cache_teacher` wrote.
        dataset: The same source: a `tf.data.Dataset`, batched or not, or arrays, `(x, y[, sample_weight])` or `x`.
            In the order in which the teacher saw it; in any order, and any part of it, where `x` is a dict with
            `"tfds_id"`, which is taken out.
        augment: The augmentation that the cache was made with, `None` where it was made without. Labels are mixed too
            where it mixes.

    Returns:
        A data set with the batching of the source, its `x` a `WithSignals` of inputs and signals. Examples that an
        augmentation shows are batched by the size of the source's first batch.

    Raises:
        ValueError: If there is no finished cache, a shard is missing or damaged, or the cache is that of another data
            set or another augmentation. Where examples are not slices of arrays in memory, those beyond the first block
            are compared whenever they are read, and then it is a `tf.errors.InvalidArgumentError`.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> from keras_kd import cache_teacher
        >>> x = np.random.default_rng(0).random((100, 8), "float32")
        >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> cache = cache_teacher(teacher, x, tempfile.mkdtemp(), verbose=0)
        >>> (batch,) = next(iter(open_cache(cache.path, x).shuffle(100).batch(10)))
        >>> bool(np.allclose(batch.heard().outputs["output_0"], teacher(batch.x), atol=1e-2))
        True
    """
    manifest = Manifest.read(Path(path))
    examples = Examples.of(dataset, "open_cache", spec=manifest.contents["data"]["inputs"])
    _check_data(manifest, examples)
    _check_augmentation(manifest, examples, augment)
    joiner, passes = Joiner(manifest), Passes(manifest.views)
    joiner.check(head_of(examples, "open_cache"))
    if examples.tensors is not None and not mixes(augment) and not manifest.plan.geometry.keyed:
        result = _beside(joiner, examples, augment, passes)
    elif augment:
        result = _with_views(joiner, examples, augment, passes)
    else:
        result = _as_stored(joiner, examples, passes)
    if manifest.views > 1:
        result = passes.counting(result)
    size = examples.dataset.cardinality()
    if size >= 0 and not (augment and examples.batched and not examples.has_even_batches(joiner.count)):
        result = result.apply(tf.data.experimental.assert_cardinality(size))
    return passes.mark(result)


def _beside(joiner: Joiner, examples: Examples, augment: Augment | None, passes: Passes) -> tf.data.Dataset:
    """Slices of tensors in memory, proved once, and their signals beside them: no example is copied."""
    for number, element in enumerate(examples.blocks(examples.stretch)):
        joiner.check(split(element)[0], number * examples.stretch)
    x, rest = keras.tree.map_structure(tf.data.Dataset.from_tensor_slices, split(examples.tensors))

    def replay(places, first, view):
        return joiner.replayed(places, view)

    def show(x, said, *rest):
        seed, signals = said
        return (WithSignals(shown(augment, x, seed), signals), *rest)

    said = passes.joined(replay, tf.data.Dataset.range(joiner.count).batch(SIGNALS_AT_ONCE))
    if augment is not None:
        return tf.data.Dataset.zip((x, _one_by_one(said), *rest)).map(show, tf.data.AUTOTUNE)
    signals = said.map(lambda seeds, signals: signals).flat_map(tf.data.Dataset.from_tensor_slices)
    return tf.data.Dataset.zip((WithSignals(x, signals), *rest))


def _as_stored(joiner: Joiner, examples: Examples, passes: Passes) -> tf.data.Dataset:
    """The examples as they are, in the source's own batches."""

    def join(element, first, view):
        x, rest = split(element)
        _, signals = joiner(x, first, view)
        return (WithSignals(without_id(x), signals), *rest)

    if examples.batched and not examples.has_even_batches(joiner.count):
        return passes.joined(join, examples.dataset)
    # Several batches at a time: a call of a NumPy function costs as much as what it does for one.
    joined = passes.joined(join, examples.blocks(examples.stretch))
    return examples.rebatched(joined) if examples.batched else _one_by_one(joined)


def _with_views(joiner: Joiner, examples: Examples, augment: Augment, passes: Passes) -> tf.data.Dataset:
    """The examples as the pass's view shows them; one by one, for that is how they were shown to the teacher."""

    def join(element, first, view):
        x, rest = split(element)
        seeds, signals = joiner(x, first, view)
        both = (without_id(x), rest[:1])
        return *both, rest[1:], seeds, signals, partners(both, seeds) if mixes(augment) else ()

    def show(x, y, beside, seed, signals, partner):
        if partner:
            y = tuple(mixed_labels(augment, label, seed, other) for label, other in zip(y, partner[1], strict=True))
        return (WithSignals(shown(augment, x, seed, *partner[:1]), signals), *y, *beside)

    blocks = examples.blocks(None if mixes(augment) else examples.stretch)
    return examples.batched_alike(_one_by_one(passes.joined(join, blocks)).map(show, tf.data.AUTOTUNE))


def _one_by_one(blocks: tf.data.Dataset) -> tf.data.Dataset:
    """The examples of blocks, as slices: `unbatch` would copy each."""
    return blocks.flat_map(lambda *parts: tf.data.Dataset.from_tensor_slices(parts))


def _check_data(manifest: Manifest, examples: Examples) -> None:
    data, by_id = manifest.contents["data"], manifest.plan.geometry.keyed
    if examples.spec != data["inputs"]:
        _refuse(manifest, f"another data set: its inputs are {data['inputs']}, not {examples.spec}")
    if examples.has_ids != by_id:
        here = "have" if examples.has_ids else "have no"
        _refuse(manifest, f"examples known by their {data['keyed_by']}; these {here} '{ID}'")
    if not by_id and examples.count not in (None, manifest.examples):
        _refuse(manifest, f"another data set: it has {manifest.examples} examples, not {examples.count}")


def _check_augmentation(manifest: Manifest, examples: Examples, augment: Augment | None) -> None:
    held, given = manifest.contents["augmentation"], augmentation_facts(augment, examples, "open_cache")
    if held["fingerprint"] == given["fingerprint"]:
        return
    if augment is None:
        _refuse(manifest, f"augmented views. Give `augment={held['name']}`")
    if held["fingerprint"] is None:
        _refuse(manifest, "examples as they are, without an augmentation. Leave out `augment`")
    _refuse(manifest, f"another augmentation: {held['name']}; {name_of(augment)} shows other pixels")


def _refuse(manifest: Manifest, what: str) -> None:
    raise ValueError(f"`open_cache`: {manifest.path} is the cache of {what}.")
