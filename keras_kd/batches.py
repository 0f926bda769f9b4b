"""What a batch will look like, told without reading one: reading would move seeds and drain iterators."""

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
        generator, or data distributed already.

    Example:
        >>> batch_spec(np.zeros((100, 8), "float32"))
        (TensorSpec(shape=(None, 8), dtype=tf.float32, name=None), None)
    """
    if isinstance(x, tf.data.Dataset):
        return _xy(x.element_spec)
    if isinstance(x, keras.utils.PyDataset):
        return _xy(keras.tree.map_structure(spec_of, x[0]))
    if hasattr(x, "__next__") or isinstance(x, tf.distribute.DistributedDataset) or not _is_arrays(x):
        return None
    return keras.tree.map_structure(spec_of, x), None if y is None else keras.tree.map_structure(spec_of, y)


def _xy(batch: Any) -> tuple[Any, Any]:
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return x, y


def _is_arrays(x: Any) -> bool:
    return all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x))


def spec_of(array: Any) -> tf.TensorSpec:
    """Shape and dtype of batches cut from an array."""
    dtype = tf.as_dtype(array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype)
    # Keras hands float64 arrays to the model in its own float type.
    dtype = tf.as_dtype(keras.config.floatx()) if dtype == tf.float64 else dtype
    return tf.TensorSpec((None, *array.shape[1:]), dtype)


def ones_like_spec(specs: Any) -> Any | None:
    """A batch of two ones of the given specs, valid as pixels, tokens and sound alike; `None` if sizes are open."""
    if any(
        not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None or None in spec.shape[1:]
        for spec in keras.tree.flatten(specs)
    ):
        return None

    def ones(spec):
        shape = (spec.shape[0] or 2, *spec.shape[1:])
        return tf.fill(shape, "") if spec.dtype == tf.string else tf.ones(shape, spec.dtype)

    return keras.tree.map_structure(ones, specs)
