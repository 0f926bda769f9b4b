"""`open_cache`: a data set with what a teacher said of each example beside it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_kd.cache.examples import ID, Examples, split, without_id
from keras_kd.cache.joining import Joiner
from keras_kd.cache.layout import Layout
from keras_kd.cache.manifest import Manifest, differences
from keras_kd.cache.passes import Passes
from keras_kd.cache.planning import augmentation_facts, head_of
from keras_kd.cache.views import Augment, mixed_labels, mixes, name_of, partners, shown
from keras_kd.replay import WithSignals

SIGNALS_IN_MEMORY_BYTES = 2**28


def open_cache(
    path: str | os.PathLike | Sequence[str | os.PathLike], dataset: Any, *, augment: Augment | None = None
) -> tf.data.Dataset:
    """Gives a data set in which each example has with it what the teacher said, for `Distiller(student, None).fit`.

    Example and answer are joined by the example's key, and each answer is proved to be that example's: its seed was
    drawn from the example's bits. So shuffle, filter, shard, repeat and batch as you like, afterwards.

    Each pass over the data shows the next view, the first after the last; in `fit`, epoch `e` shows view `e` modulo
    the number of views, after an interruption too. A pass that was not read to its end does not count outside `fit`.

    Of a list of caches, of several teachers, each batch has what every one of them said, in the order of the list. The
    student learns as it would from the live ones, `Distiller(student, [a, b])`: from the mean of their probabilities at
    the temperature that it asks for, with equal weights.

    Args:
        path: The folder that `cache_teacher` wrote, or a list of such: caches of all logits, without taps, that differ
            in their teacher and dtype alone.
        dataset: The same source: a `tf.data.Dataset`, batched or not, or arrays, `(x, y[, sample_weight])` or `x`.
            In the order in which the teacher saw it; in any order, and any part of it, where `x` is a dict with
            `"tfds_id"`, which is taken out.
        augment: The augmentation that the cache was made with, `None` where it was made without. Labels are mixed too
            where it mixes.

    Returns:
        A data set with the batching of the source, its `x` a `WithSignals` of inputs and signals. Examples that an
        augmentation shows are batched by the size of the source's first batch.

    Raises:
        ValueError: If there is no finished cache, a shard is missing or damaged, the cache is that of another data set
            or another augmentation, or several caches do not go together. Where examples are not slices of arrays in
            memory, those beyond the first block are compared whenever they are read, and then it is a
            `tf.errors.InvalidArgumentError`.

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
    manifests = _manifests_of(path)
    examples = Examples.of(dataset, "open_cache", spec=manifests[0].contents["data"]["inputs"])
    # What is asked of the first, the others have in common with it; but each proves its rows itself.
    _check_data(manifests[0], examples)
    _check_augmentation(manifests[0], examples, augment)
    joiner = Joiner(manifests)
    passes = Passes(joiner.views)
    joiner.check(head_of(examples, "open_cache"))
    if _fits_in_memory(joiner, examples) and not mixes(augment) and not joiner.keyed:
        result = _in_memory(joiner, examples, augment, passes)
    elif augment:
        result = _with_views(joiner, examples, augment, passes)
    else:
        result = _as_stored(joiner, examples, passes)
    if joiner.views > 1:
        result = passes.counting(result)
    size = examples.dataset.cardinality()
    if size >= 0 and not (augment and examples.batched and not examples.has_even_batches(joiner.count)):
        result = result.apply(tf.data.experimental.assert_cardinality(size))
    return passes.mark(result)


def _manifests_of(path: Any) -> list[Manifest]:
    """The caches that are opened, which go together."""
    paths = path if isinstance(path, list | tuple) else [path]
    if not paths:
        raise ValueError(f"`open_cache`: `path` must be the folder of a cache, or a list of such. Received: {path}.")
    manifests = [Manifest.read(Path(one)) for one in paths]
    if len(manifests) > 1:
        for manifest in manifests:
            _check_averaged(manifest)
            _check_alike(manifest, manifests[0])
    return manifests


def _in_memory(joiner: Joiner, examples: Examples, augment: Augment | None, passes: Passes) -> tf.data.Dataset:
    """Slices of tensors in memory, proved once, and with them the signals of the pass's view, read in one go."""
    for number, element in enumerate(examples.blocks(examples.stretch)):
        joiner.check(split(element)[0], number * examples.stretch)
    x, rest = split(examples.tensors)

    def slices(view):
        seeds, signals = joiner.replayed(tf.range(joiner.count, dtype=tf.int64), view)
        if augment is None:
            return tf.data.Dataset.from_tensor_slices((WithSignals(x, signals), *rest))
        return tf.data.Dataset.from_tensor_slices((x, seeds, signals, *rest))

    def show(x, seed, signals, *rest):
        return (WithSignals(shown(augment, x, seed), signals), *rest)

    # A pass that need not ask for its view is spared what `flat_map` costs an example, as much as slicing it.
    result = slices(tf.constant(0)) if joiner.views == 1 else passes.views().flat_map(slices)
    return examples.batched_alike(result if augment is None else result.map(show, tf.data.AUTOTUNE))


def _fits_in_memory(joiner: Joiner, examples: Examples) -> bool:
    """Whether all examples are there, with room for what was said of them."""
    tensors = tf.nest.flatten(examples.tensors)
    complete = tensors[0] is not None and len(tensors[0]) == joiner.count
    return complete and joiner.bytes_of_a_view <= SIGNALS_IN_MEMORY_BYTES


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


def _check_averaged(manifest: Manifest) -> None:
    keys = manifest.plan.layout.keys
    in_part = [key for key in keys if key.kind in ("top_k", "sampled")]
    if in_part:
        raise ValueError(
            f"`open_cache`: the mean of several teachers is that of all classes. {manifest.path} holds "
            f"'{in_part[0].name}' as {in_part[0].kind}. Make it without `top_k` and `samples`, or open it alone."
        )
    taps = [key.name for key in keys if key.kind == "tap"]
    if taps:
        raise ValueError(
            f"`open_cache`: features of several teachers have no mean. {manifest.path} holds those of {taps}. Make it "
            "without `taps`, or open it alone."
        )


def _check_alike(manifest: Manifest, first: Manifest) -> None:
    held, wanted = _shared(manifest), _shared(first)
    # Its fingerprint tells an augmentation from others, and teachers need not call their outputs alike.
    if held["augmentation"]["fingerprint"] == wanted["augmentation"]["fingerprint"]:
        del held["augmentation"], wanted["augmentation"]
    if _outputs_match(manifest.plan.layout, first.plan.layout):
        del held["signals"], wanted["signals"]
    if what := differences(held, wanted):
        raise ValueError(
            f"`open_cache`: {manifest.path} does not go with {first.path}: {what}. Caches that are opened together "
            "differ in their teacher and dtype alone; make it as that one was made."
        )


def _shared(manifest: Manifest) -> dict[str, Any]:
    """What caches that are opened together have in common."""
    contents = manifest.contents
    # Not their beginning: examples with ids come in any order, and each cache proves its own rows.
    data = {key: contents["data"][key] for key in ("inputs", "keyed_by")}
    return {
        "data": {**data, "examples": manifest.examples},
        **{key: contents[key] for key in ("augmentation", "views", "seed", "signals")},
    }


def _outputs_match(layout: Layout, other: Layout) -> bool:
    """Whether two teachers' logits pair, as those of an `Ensemble`: by key where both have keys, else by place."""
    shapes = [{key.name: shape for key, shape in zip(one.keys, one.shapes, strict=True)} for one in (layout, other)]
    if layout.keys[0].keyed and other.keys[0].keyed:
        return shapes[0] == shapes[1]
    return list(shapes[0].values()) == list(shapes[1].values())


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
