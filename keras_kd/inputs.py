"""Which part of a batch's `x` a model sees."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras


class InputSelection:
    """Picks keys of a dict `x`, or positions of a tuple.

    Args:
        keys: Keys or positions; `None` passes `x` on as it is.
        owner: Who asks, for the text of errors.

    Raises:
        ValueError: If `keys` is empty or not a sequence of strings or of integers.
    """

    def __init__(self, keys: Sequence[str] | Sequence[int] | None, owner: str):
        if isinstance(keys, str | int):
            keys = [keys]
        iterable = isinstance(keys, Iterable)
        if keys is not None and (not iterable or not keys or not all(isinstance(key, str | int) for key in keys)):
            raise ValueError(
                f"{owner} must be keys of a dict `x`, or positions of a tuple, as in ['image']. Received: {keys!r}."
            )
        self.keys = None if keys is None else list(keys)
        self.owner = owner

    def __call__(self, x: Any, model: keras.Layer) -> Any:
        """Returns the part of `x` that is meant for the model.

        One key alone is handed over bare, unless the model's own inputs are a dict or a list. Without keys, so is what
        a dict of one holds, to a model known to take a single tensor.

        Raises:
            ValueError: If `x` has no such key or position.
        """
        if self.keys is None:
            alone = isinstance(x, Mapping) and len(x) == 1 and _takes_one_tensor(model)
            return next(iter(x.values())) if alone else x
        available = list(x) if isinstance(x, Mapping) else list(range(len(x))) if isinstance(x, list | tuple) else []
        missing = [key for key in self.keys if key not in available]
        if missing:
            raise ValueError(
                f"{self.owner}: `x` has no {missing}. It has {available or 'no keys: it is a single tensor'}. "
                f"Received: {self.keys}."
            )
        structure = _input_structure(model)
        if len(self.keys) == 1 and not isinstance(structure, dict | list | tuple):
            return x[self.keys[0]]
        if isinstance(x, Mapping) and not isinstance(structure, list | tuple):
            return {key: x[key] for key in self.keys}
        return [x[key] for key in self.keys]


def _takes_one_tensor(model: keras.Layer) -> bool:
    structure = _input_structure(model)
    return structure is not None and not isinstance(structure, dict | list | tuple)


def _input_structure(model: keras.Layer) -> Any:
    """The structure a model takes its inputs in, as far as it is known."""
    try:
        return model.input
    except (AttributeError, ValueError):  # a Sequential, or subclassed
        inputs = getattr(model, "inputs", None) if isinstance(model, keras.Sequential) else None
        if inputs:
            return inputs[0]
        shapes = (model.get_build_config() or {}).get("input_shape")
        return shapes if isinstance(shapes, dict) else None
