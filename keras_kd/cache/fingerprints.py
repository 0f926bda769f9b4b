"""How examples, augmentations and teachers are told from others of their kind."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.cache.examples import flat_with_names
from keras_kd.foreign import ForeignLayer
from keras_kd.teachers import Ensemble, Teacher

# How a model was trained and with what batch it was built: the data tell the rest of its input's shape.
_ASIDE = ("batch_shape", "build_config", "build_input_shape", "compile_config", "trainable")


Numbers = Any  # uint32, of NumPy or of TensorFlow: the same operators make the same bits


def mixed(numbers: Numbers) -> Numbers:
    """Spreads each bit of a uint32 over all 32.

    The constants are those of C. Wellons's search for such functions ("hash-prospector", 2018), of low bias.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        numbers = (numbers ^ (numbers // 2**shift)) * factor
    return numbers ^ (numbers // 2**16)


def checksums(x: Any) -> np.ndarray:
    """32 bits for each example of a batch, which change with any bit of its inputs: `Σ_j bits_j · w_j mod 2³²`.

    Args:
        x: Arrays of shape `(batch, ...)`, of numbers or strings, in any structure.

    Returns:
        uint32 `(batch,)`.
    """
    return sums_of(*(leaf for _, leaf in flat_with_names(x)))


def checksums_in_graph(x: Any) -> tf.Tensor:
    """The same, of tensors. NumPy is faster here than TensorFlow's operations, and leaves its threads to the models."""
    sums = tf.numpy_function(sums_of, [leaf for _, leaf in flat_with_names(x)], tf.uint32)
    sums.set_shape((None,))
    return sums


def sums_of(*leaves: Any) -> np.ndarray:
    """The checksums of a batch whose leaves come in the order of their names."""
    total = np.zeros(1, np.uint32)
    for index, leaf in enumerate(leaves):
        words = _words(np.asarray(leaf))
        total = mixed(total + np.einsum("ij,j->i", words, _weights(words.shape[1], index)))
    return total


def _words(leaf: np.ndarray) -> np.ndarray:
    """The bits of a batch, uint32 `(batch, n)`."""
    if leaf.dtype.kind in "OSU":
        leaf = keys_of_ids(leaf).numpy()
    if leaf.dtype.kind in "fV":  # V: the small floats that NumPy has not
        leaf = leaf.view(f"i{leaf.dtype.itemsize}")
    if leaf.dtype.itemsize == 8:
        leaf = np.ascontiguousarray(leaf)[..., None].view(np.int32)
    return np.ascontiguousarray(leaf.reshape(len(leaf), -1).astype(np.int32, copy=False)).view(np.uint32)


@functools.lru_cache(maxsize=64)
def _weights(count: int, index: int) -> np.ndarray:
    places = np.arange(count, dtype=np.uint32) + np.uint32(index << 27)
    return mixed(places) | np.uint32(1)  # odd: no bit is lost


def view_seeds(sums: Numbers, keys: Numbers, view: Numbers, seed: int) -> Numbers:
    """The seeds of a view, uint32 `(batch,)`, drawn from example, key, view and the cache's own seed.

    An example that has changed has another seed, so a stored seed proves the example, too.

    Args:
        sums: Checksums of the examples, uint32 `(batch,)`.
        keys: The two halves of their keys, uint32 `(batch, 2)`.
        view: uint32 `(1,)`.
        seed: The cache's own.
    """
    number = mixed(view + mixed(np.array([seed % 2**32], np.uint32)))
    for part in (keys[:, 0], keys[:, 1], sums):
        number = mixed(number + part)
    return number


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


def teacher_fingerprint(teacher: Teacher | Ensemble, sample: bytes = b"") -> str:
    """Of architecture, weights and declaration; names of layers have no say, nor how the model was trained.

    A function has no weights to look at, and one that weighs the members no numbers: a sample of what it gives stands
    for it.
    """
    weights = getattr(teacher, "weights", [1.0])
    weights = "by example" if callable(weights) else weights
    return digest(*(part for member in teacher.members for part in _of_member(member)), weights, sample)


def is_function(member: Teacher) -> bool:
    """Whether a teacher is a function, of which only its answers can be told."""
    return isinstance(member.model, ForeignLayer) and member.model.fingerprint() is None


def _of_member(member: Teacher) -> list[Any]:
    model = member.model
    if isinstance(model, ForeignLayer):
        return [model.name, model.fingerprint(), member.outputs]
    # Not `variables`, which has the states of random generators, too.
    return [_architecture(model), *(np.asarray(weight) for weight in model.weights), member.outputs]


def _architecture(model: keras.Layer) -> str:
    # All its layers too: what a subclass is made of need not stand in its own config.
    names: dict[str, int] = {}
    configs = [_said_of(_config(layer), names) for layer in model._flatten_layers()]
    return json.dumps(configs, sort_keys=True, default=str)


def _config(layer: keras.Layer) -> Any:
    try:
        return keras.saving.serialize_keras_object(layer)
    except Exception:  # a subclass may have no config at all, and says so in its own way
        return type(layer).__qualname__


def _said_of(config: Any, names: dict[str, int]) -> Any:
    """A config less what does not bear on what a model says, with a number for each name of a layer."""
    if isinstance(config, Mapping):
        return {
            key: names.setdefault(value, len(names)) if key == "name" else _said_of(value, names)
            for key, value in config.items()
            if key not in _ASIDE
        }
    if not isinstance(config, list | tuple):
        return config
    if [type(part) for part in config] == [str, int, int]:  # how a graph refers to a layer
        return [names.setdefault(config[0], len(names)), *config[1:]]
    return [_said_of(part, names) for part in config]
