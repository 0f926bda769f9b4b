"""How the signals of an example are laid out in bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_kd.cache.codecs import Codec
from keras_kd.replay import SignalKey

SEED = "seed"
_FEATURE = "feature"


@dataclass(frozen=True)
class Layout:
    """One row: the seed of a view in 4 bytes, then the signals that the teacher gave for it.

    Attributes:
        codec: How logits are stored; features of taps are float16.
        keys: What each signal is.
        shapes: The shape of each for one example, all sizes known.
    """

    codec: Codec
    keys: Sequence[SignalKey]
    shapes: Sequence[tuple[int, ...]]

    @property
    def row(self) -> np.dtype:
        """The bytes of a row, packed."""
        fields = [(SEED, "<i4")]
        for key, shape in zip(self.keys, self.shapes, strict=True):
            stored = [(_FEATURE, "<f2", shape)] if key.kind == "tap" else self.codec.fields(shape)
            fields += [(f"{key.index}/{name}", dtype, size) for name, dtype, size in stored]
        return np.dtype(fields)

    def encode(self, seeds: np.ndarray, said: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
        """Rows of a batch from what the teacher said, signal by signal."""
        rows = np.empty(len(seeds), self.row)
        rows[SEED] = seeds
        for key, values in zip(self.keys, said, strict=True):
            stored = {_FEATURE: values} if key.kind == "tap" else self.codec.encode(values, generator)
            for name, array in stored.items():
                rows[f"{key.index}/{name}"] = array
        return rows

    def decode(self, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """The tensors of each signal, by the text of its key."""
        return {str(key): self._decode(key, rows) for key in self.keys}

    def _decode(self, key: SignalKey, rows: np.ndarray) -> dict[str, np.ndarray]:
        prefix = f"{key.index}/"
        stored = {name.removeprefix(prefix): rows[name] for name in rows.dtype.names if name.startswith(prefix)}
        if key.kind == "tap":
            return {_FEATURE: np.ascontiguousarray(stored[_FEATURE])}
        return self.codec.decode(stored)

    def as_json(self) -> list[dict[str, Any]]:
        """The signals, to be written down."""
        return [{"key": str(key), "shape": list(shape)} for key, shape in zip(self.keys, self.shapes, strict=True)]

    @classmethod
    def from_json(cls, codec: Codec, signals: Sequence[Mapping[str, Any]]) -> "Layout":
        """Reads what `as_json` wrote."""
        keys = [SignalKey.parse(signal["key"]) for signal in signals]
        return cls(codec, keys, [tuple(signal["shape"]) for signal in signals])
