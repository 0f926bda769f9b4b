"""Hears what layers say while a model runs, and what a model's own `call` names with `tap`."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

_NAME = re.compile(r"[^/:\[\]]+")


@dataclass
class Hearing:
    """What one forward pass says, in the thread that listens.

    Attributes:
        calls: By the identity of a layer, its calls in their order, each with its `"input"` and `"output"`.
        named: What `tap` was given, in that order: the name, the tensor, and the layers that it was said within.
    """

    calls: dict[int, list[dict[str, Any]]]
    named: list[tuple[str, Any, frozenset[int]]] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    def named_within(self, layer: keras.Layer | None) -> dict[str, list[Any]]:
        """Named tensors of a layer, or of the whole pass: those of the layers within it too."""
        found: dict[str, list[Any]] = {}
        for name, tensor, within in self.named:
            if layer is None or id(layer) in within:
                found.setdefault(name, []).append(tensor)
        return found


class _Hearings(threading.local):
    # Of the thread's own: replicas of one model trace in threads of their own, and must not hear each other.
    def __init__(self):
        self.all: list[Hearing] = []


@dataclass
class _Tapped:
    """How many listen to a layer, and the `call` that the user had set on it, if any."""

    own_call: Callable | None
    listeners: int = 0


_hearings = _Hearings()
_tapped: dict[int, _Tapped] = {}
_lock = threading.Lock()


def tap(name: str, tensor: Any) -> Any:
    """Names a tensor in the `call` of a model or a layer of your own, for objectives to listen at.

    A tap `"gated"` finds it as it finds a layer of that name; `"block/gated"` finds the one in the layer `block`, and
    `"gated[1]"` the second of several. Costs nothing where no one listens. Not for branches and loops on tensors,
    whose tensors no one outside can use.

    Args:
        name: A name that no layer beside it has, without `/`, `:`, `[` and `]`.
        tensor: One tensor, any shape and dtype.

    Returns:
        The tensor, unchanged.

    Raises:
        ValueError: If the name holds one of these characters, or the tensor is not one: a structure of several, or a
            symbol of a Functional model that is being put together.

    Example:
        >>> from keras_kd.taps import forward
        >>> class Doubled(keras.Model):
        ...     def call(self, x):
        ...         return tap("twice", 2.0 * x) + 1.0
        >>> forward(Doubled(), keras.ops.ones((1, 2)), taps=["twice"]).taps["twice"].numpy().tolist()
        [[2.0, 2.0]]
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(
            "`tap`: the name must be a string without '/', ':', '[' and ']', which say where to listen. "
            f"Received: {name!r}."
        )
    if isinstance(tensor, keras.KerasTensor):
        raise ValueError(
            f"`tap`: {name!r} must be a tensor in the `call` of a model or a layer. Received a symbol of a Functional "
            f"model: there, tap the layer that gives it, or `keras.layers.Identity(name={name!r})`."
        )
    if tensor is None or keras.tree.is_nested(tensor):
        raise ValueError(f"`tap`: {name!r} must be one tensor. Received: {type(tensor).__name__}.")
    for hearing in _hearings.all:
        hearing.named.append((name, keras.ops.convert_to_tensor(tensor), frozenset(hearing.running)))
    return tensor


@contextmanager
def listening(layers: Iterable[keras.Layer]) -> Iterator[Hearing]:
    """Hears every call of the layers, and every named tensor, in this thread."""
    unique = {id(layer): layer for layer in layers}
    hearing = Hearing({key: [] for key in unique})
    _listen(unique)
    _hearings.all.append(hearing)
    try:
        yield hearing
    finally:
        _hearings.all.pop()
        _unlisten(unique)


def _listen(layers: dict[int, keras.Layer]) -> None:
    with _lock:
        for key, layer in layers.items():
            if key not in _tapped:
                _tapped[key] = _Tapped(layer.__dict__.get("call"))
                # Not through `setattr`, with which Keras would track and TensorFlow save what is set.
                object.__setattr__(layer, "call", _recorded(layer.call, key))
            _tapped[key].listeners += 1


def _unlisten(layers: dict[int, keras.Layer]) -> None:
    with _lock:
        for key, layer in layers.items():
            _tapped[key].listeners -= 1
            if _tapped[key].listeners == 0:
                object.__delattr__(layer, "call")
                own = _tapped.pop(key).own_call
                if own is not None:
                    object.__setattr__(layer, "call", own)


def _recorded(call: Callable, key: int) -> Callable:
    def recording_call(*args, **kwargs):
        heard_by = [hearing for hearing in _hearings.all if key in hearing.calls]
        for hearing in heard_by:
            hearing.running.append(key)
        try:
            outputs = call(*args, **kwargs)
        finally:
            for hearing in heard_by:
                hearing.running.pop()
        inputs = [*args, *(value for name, value in kwargs.items() if not name.endswith("mask"))]
        for hearing in heard_by:
            hearing.calls[key].append({"input": inputs, "output": outputs})
        return outputs

    return recording_call
