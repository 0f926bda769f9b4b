"""Which modalities an example has: keys `"<name>_present"` beside the modalities, and zeros where there is none."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

SUFFIX = "_present"


def presence_key(modality: str) -> str:
    """`"audio"` -> `"audio_present"`."""
    return modality + SUFFIX


def modalities_among(keys: Iterable[str]) -> list[str]:
    """The keys that are not the presence of another key."""
    keys = list(keys)
    presence = {presence_key(key) for key in keys}
    return [key for key in keys if key not in presence]


def kept(tensor: Any, keep: Any) -> Any:
    """`(batch, ...)` with zeros where `keep`, bool `(batch,)`, is false, whatever stood there: NaN too."""
    keep = ops.reshape(keep, (-1, *[1] * (len(tensor.shape) - 1)))
    return ops.where(keep, tensor, ops.zeros_like(tensor))


@keras.saving.register_keras_serializable(package="keras_kd")
class KeepPresent(keras.Layer):
    """Zeros for the examples that do not have the modality, whatever stood there.

    Call arguments:
        inputs: Any tensor, `(batch, ...)`.
        present: bool, `(batch,)`.

    Returns:
        The tensor, of the same shape and type.

    Example:
        >>> KeepPresent()(keras.ops.array([[1.0], [float("nan")]]), keras.ops.array([True, False])).numpy().tolist()
        [[1.0], [0.0]]
    """

    def __init__(self, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs: Any, present: Any) -> Any:
        return kept(inputs, present)

    def compute_output_spec(self, inputs: Any, present: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, inputs.dtype)


@keras.saving.register_keras_serializable(package="keras_kd")
class PresentSoftmax(keras.Layer):
    """Softmax over the modalities that an example has.

    `w_m = p_m exp(s_m) / Σ_j p_j exp(s_j)`; all zero for an example that has none.

    Call arguments:
        inputs: Scores, `(batch, modalities)`.
        present: bool, `(batch, modalities)`. Defaults to all.

    Returns:
        Weights, `(batch, modalities)`, 0 for what is absent and adding up to 1.

    Example:
        >>> present = keras.ops.array([[True, False, True]])
        >>> PresentSoftmax()(keras.ops.zeros((1, 3)), present).numpy().tolist()
        [[0.5, 0.0, 0.5]]
    """

    def call(self, inputs: Any, present: Any = None) -> Any:
        if present is None:
            return ops.softmax(inputs, axis=-1)
        # Not minus infinity: an int8 file has 256 levels for all scores together.
        lowest = ops.min(inputs, axis=-1, keepdims=True)
        weights = ops.softmax(ops.where(present, inputs, lowest), axis=-1) * ops.cast(present, inputs.dtype)
        total = ops.sum(weights, axis=-1, keepdims=True)
        return weights / ops.where(total > 0, total, ops.ones_like(total))
