"""Finds NaN and infinity among tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_kd.signals import Signals


def finite(tensor: tf.Tensor, message: str) -> tf.Tensor:
    """Returns the tensor if all its values are finite; dropped where XLA compiles.

    `check_numerics` reads a feature map several times slower than a sum does. A sum of finite values may overflow,
    so only a close look decides.

    Raises:
        tf.errors.InvalidArgumentError: With the message, if a value is NaN or infinite.
    """
    total = tf.reduce_sum(tensor)
    return tf.cond(tf.math.is_finite(total), lambda: tensor, lambda: tf.debugging.check_numerics(tensor, message))


def in_order(
    data: Mapping[str, Any],
    speakers: Mapping[str, Signals],
    losses: Mapping[str, Any],
    gradients: Mapping[str, Any],
) -> dict[str, tf.Tensor]:
    """What a step has read and computed, in the order in which it arose, by the words for NaN or infinity in it."""
    parts = {
        f"the data hold NaN or infinity in `{name}{''.join(f'[{key!r}]' for key in keys)}`": part
        for name, structure in data.items()
        for keys, part in keras.tree.flatten_with_path(structure)
    }
    for speaker, said in speakers.items():
        for name, part in {**said.outputs, **said.taps}.items():
            parts[f"{speaker} gave NaN or infinity in `{name}`"] = part
    parts |= {f"`{name}` came to NaN or infinity": part for name, part in losses.items()}
    parts |= {f"the gradient of `{name}` came to NaN or infinity": part for name, part in gradients.items()}
    return {words: values for words, part in parts.items() for values in floats(part)}


def floats(structure: Any) -> list[tf.Tensor]:
    """The floating tensors of a structure; of sparse and ragged ones, their values."""
    flat = tf.nest.flatten(structure, expand_composites=True)
    return [leaf for leaf in flat if leaf is not None and tf.as_dtype(leaf.dtype).is_floating]


def first_unsound(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Place of the first tensor with NaN or infinity among its values; the last one, if only a sum overflows."""
    unsound = [~tf.reduce_all(tf.math.is_finite(values)) for values in tensors]
    return tf.argmax(tf.cast(tf.stack([*unsound[:-1], True]), "int32"), output_type="int32")
