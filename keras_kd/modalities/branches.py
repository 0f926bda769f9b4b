"""One branch of a model for each kind of modality, from its input to an embedding."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_kd.modalities.log_mel import LogMel

# Attributes by which a description of a modality is known.
_IMAGE, _AUDIO, _TEXT = ("height", "width", "channels"), ("samples", "rate"), ("length", "vocabulary")


class Branch(NamedTuple):
    """What a modality's input is, and how it becomes a vector.

    Attributes:
        shape: Of one example.
        dtype: Of the input.
        vector: `(tensor, width, modality) -> (batch, channels)`, the branch up to its last layer.
    """

    shape: tuple[int, ...]
    dtype: str
    vector: Callable[[Any, int, str], Any]


def speech_front_end(rate: int, **options: Any) -> LogMel:
    """What a model hears of recordings whose loudness tells nothing: 56 dB below the loudest sine wave is silence."""
    return LogMel(rate, **{"floor": 1e-2, "normalize": True, **options})


def branch_inputs(modalities: Mapping[str, Any], mel: bool | LogMel) -> tuple[dict[str, Any], dict[str, Branch]]:
    """The Keras inputs and the branches by modality."""
    branches = {name: _branch(name, spec, mel) for name, spec in modalities.items()}
    inputs = {name: keras.Input(branch.shape, dtype=branch.dtype, name=name) for name, branch in branches.items()}
    return inputs, branches


def embed(modality: str, branch: Branch, tensor: Any, width: int) -> Any:
    """The modality's embedding, `(batch, 2 · width)`, in a layer of its name."""
    return layers.Dense(2 * width, name=f"{modality}_embedding")(branch.vector(tensor, width, modality))


def _branch(name: str, spec: Any, mel: bool | LogMel) -> Branch:
    if _has(spec, _IMAGE):
        return Branch((spec.height, spec.width, spec.channels), "float32", _grid_vector)
    if _has(spec, _AUDIO):
        front_end = _own(speech_front_end(spec.rate) if isinstance(mel, bool) else mel, f"{name}_log_mel")
        if mel is False:
            return Branch(front_end.compute_output_shape((None, spec.samples))[1:], "float32", _sequence_vector)
        return Branch((spec.samples,), "float32", lambda x, width, m: _sequence_vector(front_end(x), width, m))
    if _has(spec, _TEXT):
        symbols = len(spec.vocabulary)
        return Branch((spec.length,), "int32", lambda x, width, m: _text_vector(x, symbols, width, m))
    shape = tuple(spec) if isinstance(spec, list | tuple) else ()
    by_rank = {1: _plain_vector, 2: _sequence_vector, 3: _grid_vector}
    if len(shape) not in by_rank or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(
            f"`fusion_model`: modality {name!r} must be a shape of one to three sizes, or have the attributes "
            f"{', '.join(_IMAGE)}; {', '.join(_AUDIO)}; or {', '.join(_TEXT)}. Received: {spec!r}."
        )
    return Branch(shape, "float32", by_rank[len(shape)])


def _has(spec: Any, attributes: tuple[str, ...]) -> bool:
    return all(hasattr(spec, attribute) for attribute in attributes)


def _own(mel: LogMel, name: str) -> LogMel:
    """A layer of the same settings: one of its own for each model."""
    return LogMel.from_config({**mel.get_config(), "name": name})


def _grid_vector(x: Any, width: int, modality: str) -> Any:
    x = _convolved(x, width, modality, layers.Conv2D, layers.MaxPooling2D)
    return layers.GlobalAveragePooling2D()(x)


def _sequence_vector(x: Any, width: int, modality: str) -> Any:
    # Along time alone, the bands being the channels: where in the spectrum a sound lies is what tells it apart.
    x = _convolved(x, width, modality, layers.Conv1D, layers.MaxPooling1D)
    return layers.GlobalMaxPooling1D()(x)


def _convolved(x: Any, width: int, modality: str, convolution: type, pooling: type) -> Any:
    x = layers.BatchNormalization(name=f"{modality}_normalized")(x)
    for index, channels in enumerate((width, 2 * width, 2 * width), 1):
        x = _normalized_relu(convolution, x, channels, f"{modality}_conv{index}")
        if index < 3:
            x = pooling(padding="same")(x)
    return x


def _text_vector(x: Any, symbols: int, width: int, modality: str) -> Any:
    x = layers.Embedding(symbols, width, name=f"{modality}_symbols")(x)
    for index in (1, 2):
        x = _normalized_relu(layers.Conv1D, x, 2 * width, f"{modality}_conv{index}")
    return layers.GlobalMaxPooling1D()(x)


def _plain_vector(x: Any, width: int, modality: str) -> Any:
    return layers.Dense(2 * width, activation="relu", name=f"{modality}_dense")(x)


def _normalized_relu(convolution: type, x: Any, channels: int, name: str) -> Any:
    """Batch normalisation folds into the convolution when exported, and ReLU into both."""
    x = convolution(channels, 3, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU()(layers.BatchNormalization(name=f"{name}_normalized")(x))
