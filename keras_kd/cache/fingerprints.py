"""How examples, augmentations and teachers are told from others of their kind."""

import hashlib
import json
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.cache.examples import flat_with_names
from keras_kd.teachers import Ensemble, Teacher


def mixed(numbers: tf.Tensor) -> tf.Tensor:
    """Spreads each bit of a uint32 over all 32.

    The constants are those of C. Wellons's search for such functions ("hash-prospector", 2018), of low bias.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        numbers = _folded(numbers, shift) * tf.constant(factor, tf.uint32)
    return _folded(numbers, 16)


def _folded(numbers: tf.Tensor, shift: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, tf.constant(shift, tf.uint32)))


def checksums(x: Any) -> tf.Tensor:
    """32 bits for each example of a batch, which change with any bit of its inputs: `Σ_j bits_j · w_j mod 2³²`.

    Args:
        x: Tensors of shape `(batch, ...)`, of numbers or strings, in any structure.

    Returns:
        uint32 `(batch,)`.
    """
    total = tf.constant(0, tf.uint32)
    for index, (_, leaf) in enumerate(flat_with_names(x)):
        bits = _bits(leaf)
        places = tf.cast(tf.range(tf.shape(bits)[1]), tf.uint32) + tf.constant(index << 27, tf.uint32)
        weights = tf.bitwise.bitwise_or(mixed(places), tf.constant(1, tf.uint32))  # odd: no bit is lost
        total = mixed(total + tf.bitcast(tf.linalg.matvec(bits, tf.bitcast(weights, tf.int32)), tf.uint32))
    return total


def _bits(leaf: tf.Tensor) -> tf.Tensor:
    """The bits of a batch as int32 `(batch, n)`: integers wrap around as the sums need it."""
    if leaf.dtype == tf.string:
        leaf = tf.strings.to_hash_bucket_fast(leaf, 2**63 - 1)
    if leaf.dtype.size == 8:
        leaf = tf.bitcast(leaf, tf.int32)
    elif leaf.dtype.is_floating:
        leaf = tf.bitcast(leaf, tf.int32 if leaf.dtype.size == 4 else tf.int16)
    return tf.reshape(tf.cast(leaf, tf.int32), (tf.shape(leaf)[0], -1))


def view_seeds(sums: tf.Tensor, keys: tf.Tensor, view: Any, seed: int) -> tf.Tensor:
    """The seeds of a view, int32 `(batch,)`, drawn from example, key, view and the cache's own seed.

    An example that has changed has another seed, so a stored seed proves the example, too.
    """
    low, high = tf.unstack(tf.bitcast(tf.bitcast(keys, tf.int32), tf.uint32), axis=-1)
    number = mixed(tf.cast(view, tf.uint32) + mixed(tf.constant(seed % 2**32, tf.uint32)))
    for part in (low, high, sums):
        number = mixed(number + part)
    return tf.bitcast(number, tf.int32)


def keys_of_ids(ids: tf.Tensor) -> tf.Tensor:
    """63 bits for each string id, int64."""
    return tf.strings.to_hash_bucket_fast(ids, 2**63 - 1)


def digest(*parts: Any) -> str:
    """SHA-256 of bytes, arrays and texts, in hexadecimal."""
    total = hashlib.sha256()
    for part in parts:
        part = np.ascontiguousarray(part).tobytes() if hasattr(part, "shape") else part
        total.update(part if isinstance(part, bytes) else str(part).encode())
    return total.hexdigest()


def teacher_fingerprint(teacher: Teacher | Ensemble) -> str:
    """Of architecture, weights and declaration; names that Keras counts up by itself have no say."""
    weights = getattr(teacher, "weights", [1.0])
    return digest(*(part for member in teacher.members for part in _of_member(member)), weights)


def _of_member(member: Teacher) -> list[Any]:
    model = member.model
    own = getattr(model, "fingerprint", None)  # what is no Keras model speaks for itself
    parts = [own()] if own else [_architecture(model), *(np.asarray(variable) for variable in model.variables)]
    return [*parts, member.outputs]


def _architecture(model: keras.Layer) -> str:
    try:
        config = {**keras.saving.serialize_keras_object(model), "compile_config": None}
        text = json.dumps(config, sort_keys=True, default=str)
    except Exception:  # a subclass may have no config at all, and says so in its own way
        text = " ".join(type(layer).__qualname__ for layer in model._flatten_layers())
    for index, layer in enumerate(model._flatten_layers()):
        text = text.replace(f'"{layer.name}"', f'"layer {index}"')
    return text
