"""What is settled before the first row is written: who speaks, about what, and how it is laid out."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_kd.cache.codecs import codec_of
from keras_kd.cache.examples import ID, Examples, size_of, split, without_id
from keras_kd.cache.fingerprints import checksums, checksums_in_graph, digest, keys_of_ids, view_seeds
from keras_kd.cache.manifest import FORMAT, Plan
from keras_kd.cache.speaking import Speaker
from keras_kd.cache.views import Augment, name_of, view_of_block

# What is lost at the most when a writer is killed is a block; a shard is what machines share out.
ROWS_PER_SHARD = 2**15
BYTES_PER_SHARD = 2**26
PROBES = 16


def keys_in(x: Any, first: Any) -> tf.Tensor:
    """The keys of a batch, int64 `(batch,)`: of their ids, or their places from the first on."""
    if isinstance(x, Mapping) and ID in x:
        return keys_of_ids(x[ID])
    return tf.cast(first, tf.int64) + tf.range(size_of(x))


def seeds_of(sums: tf.Tensor, keys: tf.Tensor, view: Any, seed: int) -> tf.Tensor:
    """The seeds of a view of a batch, int32 `(batch,)`, from the checksums and the keys of its examples."""
    halves = tf.bitcast(tf.bitcast(keys, tf.int32), tf.uint32)
    view = tf.reshape(tf.cast(view, tf.uint32), (1,))
    return tf.bitcast(view_seeds(sums, halves, view, seed), tf.int32)


def head_of(examples: Examples, owner: str) -> Any:
    """The inputs of the first block, by which data, augmentation and preprocessing are told from others.

    Raises:
        ValueError: If there are no examples.
    """
    for element in examples.blocks().take(1):
        return split(element)[0]
    raise ValueError(f"`{owner}`: `dataset` has no examples.")


def augmentation_facts(augment: Augment | None, examples: Examples, owner: str) -> dict[str, str | None]:
    """What an augmentation is called, and what it makes of made-up examples, by which it is told from others.

    Raises:
        ValueError: If it draws from more than the seed that it is given.
    """
    if augment is None:
        return {"name": None, "fingerprint": None}
    first, second = _made_of_made_up(augment, examples)
    if first != second:
        raise ValueError(
            f"`{owner}`: `augment` must depend on nothing but the example and the seed. Shown the same twice, "
            f"{name_of(augment)} gave two different things. Draw with `tf.random.stateless_uniform(shape, seed)` and "
            "its like."
        )
    return {"name": name_of(augment), "fingerprint": first}


def _made_of_made_up(augment: Augment, examples: Examples) -> list[str]:
    """Told of the same, shown twice in one pass: two passes draw alike where there is a global seed."""
    try:
        return [
            digest(checksums(views))
            for views in view_of_block(augment, examples.made_up(PROBES), tf.range(PROBES)).repeat(2)
        ]
    except tf.errors.InvalidArgumentError:  # it takes no made-up example: an encoded image, say
        return 2 * [digest(name_of(augment))]


def first_view(augment: Augment | None, head: Any, seed: int) -> Any:
    """View 0 of the first block."""
    x = without_id(head)
    return next(iter(view_of_block(augment, x, seeds_of(checksums_in_graph(x), keys_in(head, 0), 0, seed))))


def plan_of(
    speaker: Speaker, examples: Examples, codec: Mapping[str, Any], views: int, augment: Augment | None, seed: int
) -> Plan:
    """Settles it, by asking the teacher about the first block.

    Raises:
        ValueError: If the teacher's answers cannot be stored so.
    """
    head = head_of(examples, "cache_teacher")
    shown = first_view(augment, head, seed)
    few = keras.tree.map_structure(lambda leaf: leaf[:PROBES], shown)
    speaker.meet(few)
    layout = speaker.layout(codec_of(**codec), few)
    rows = min(ROWS_PER_SHARD, BYTES_PER_SHARD // layout.row.itemsize)
    facts = {
        "format": FORMAT,
        "teacher": speaker.describe(few, layout),
        "data": {
            "inputs": examples.spec,
            "keyed_by": ID if examples.has_ids else "position",
            "beginning": digest(checksums(without_id(head))),
        },
        "preprocessing": speaker.preprocessing(shown),
        "augmentation": augmentation_facts(augment, examples, "cache_teacher"),
        "views": views,
        "seed": seed,
        "codec": dict(codec),
        "signals": layout.as_json(),
        "block": examples.block_size,
        "blocks_per_shard": max(1, rows // (views * examples.block_size)),
    }
    return Plan(facts)
