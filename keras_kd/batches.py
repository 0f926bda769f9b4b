"""What a batch will look like, told without reading one: reading would move seeds and drain iterators."""

import itertools
import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def batch_spec(x: Any, y: Any = None) -> tuple[Any, Any] | None:
    """Shapes and dtypes of the inputs and labels that `fit` will see.

    Args:
        x: Anything `fit` takes as `x`.
        y: Anything `fit` takes as `y`.

    Returns:
        `tf.TypeSpec`s of `x` and of `y` (`None` without labels), or `None` where only reading would tell: a
        generator or a `PyDataset`.

    Example:
        >>> batch_spec(np.zeros((100, 8), "float32"))
        (TensorSpec(shape=(None, 8), dtype=tf.float32, name=None), None)
    """
    if isinstance(x, tf.data.Dataset):
        return _xy(x.element_spec)
    if isinstance(x, tf.distribute.DistributedDataset):
        return _xy(keras.tree.map_structure(spec_of_one_replica, x.element_spec))
    if isinstance(x, keras.utils.PyDataset) or hasattr(x, "__next__"):
        return None
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x)):
        return None
    return keras.tree.map_structure(spec_of, x), None if y is None else keras.tree.map_structure(spec_of, y)


def read_first(x: Any) -> tuple[Any, tuple[Any, Any] | None]:
    """Reads one batch where only reading tells, and puts it back.

    Args:
        x: A generator or a `PyDataset`; other data are left alone.

    Returns:
        The data, whole again, and the specs of inputs and labels as `batch_spec` gives them.
    """
    if isinstance(x, keras.utils.PyDataset):
        return x, _xy(keras.tree.map_structure(spec_of, x[0]))
    if not isinstance(x, types.GeneratorType):
        return x, None
    first = next(x, None)
    if first is None:
        return x, None
    # A generator again: Keras takes no other iterator.
    return (batch for batch in itertools.chain([first], x)), _xy(keras.tree.map_structure(spec_of, first))


def _xy(batch: Any) -> tuple[Any, Any]:
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return x, y


def spec_of_one_replica(spec: Any) -> Any:
    """Shape and dtype of a part of a distributed batch, as each replica sees it."""
    spec = getattr(spec, "_value_specs", (spec,))[0]
    return spec if spec is None else tf.TensorSpec((None, *spec.shape[1:]), spec.dtype)


def spec_of(array: Any) -> tf.TensorSpec | None:
    """Shape and dtype of batches cut from an array."""
    if array is None:
        return None
    dtype = tf.as_dtype(array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype)
    # Keras hands float64 arrays to the model in its own float type.
    dtype = tf.as_dtype(keras.config.floatx()) if dtype == tf.float64 else dtype
    return tf.TensorSpec((None, *array.shape[1:]), dtype)


def probe_of_spec(specs: Any, rows: int = 2) -> Any | None:
    """A small batch that suits the specs, to see what a model gives; `None` where a size is open.

    Its rows differ: ones, then noise in [0, 1), in floats; token ids are 1, then 1 followed by 0.

    Args:
        specs: `tf.TensorSpec`s of the inputs.
        rows: Size of the batch. Defaults to 2.

    Returns:
        Tensors in the structure of the specs, or `None`.
    """
    if any(
        not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None or None in spec.shape[1:]
        for spec in keras.tree.flatten(specs)
    ):
        return None
    return keras.tree.map_structure(lambda spec: _probe(spec, rows), specs)


def _probe(spec: tf.TensorSpec, rows: int) -> tf.Tensor:
    shape = (rows, *spec.shape[1:])
    if spec.dtype == tf.string:
        return tf.fill(shape, "")
    values = np.ones(shape)
    noise = np.random.default_rng(0).random(values[1:].shape)
    values[1:] = noise if spec.dtype.is_floating else 0
    if not spec.dtype.is_floating and values.ndim > 1:
        values[1:, ..., 0] = 1
    return tf.cast(values, spec.dtype)
