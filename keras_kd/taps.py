"""Named intermediate tensors of a model, all from ONE forward pass.

A tap is a string: `"block3"` is what the layer of that name gives, `"backbone/block4_add"` a layer inside a
nested model, `"head:input"` what goes into a layer, `"shared[1]"` the second call of a layer that is called
more than once. Taps listen while the model runs, so nested models, shared layers, overridden `call` methods
and subclassed models all work, and cost nothing once the step is traced.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from keras_kd.signals import Signals

_TAP = re.compile(r"^(?P<path>[^:\[\]]+)(\[(?P<call>\d+)\])?(?P<input>:input)?$")


@dataclass(frozen=True)
class Tap:
    """Where to listen: the layer's path, which of its calls, and on which side."""

    path: tuple[str, ...]
    call: int | None
    side: str

    @classmethod
    def parse(cls, text: str) -> "Tap":
        """Reads `path[call]:input`.

        Raises:
            ValueError: If the text has another form.
        """
        match = _TAP.match(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                "A tap must be a layer's name, optionally with the number of the call and the side: 'block3', "
                f"'backbone/block4_add', 'shared[1]', 'head:input'. Received: {text!r}."
            )
        call = match["call"] and int(match["call"])
        return cls(tuple(match["path"].split("/")), call, "input" if match["input"] else "output")


def forward(model: keras.Layer, inputs: Any, taps: Sequence[str] = (), training: bool = False) -> Signals:
    """Runs a model once and returns its outputs with the tensors its taps name.

    Args:
        model: A Sequential, Functional or subclassed model, built or not.
        inputs: What the model takes.
        taps: Taps to listen at. Defaults to none.
        training: Passed to the model. Defaults to `False`.

    Returns:
        The model's `Signals`.

    Raises:
        ValueError: If a tap names no layer, a layer that did not run, or one of several calls without saying which.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2, name="head")])
        >>> signals = forward(model, np.ones((4, 5), "float32"), taps=["hidden", "head:input"])
        >>> {tap: tuple(tensor.shape) for tap, tensor in signals.taps.items()}
        {'hidden': (4, 3), 'head:input': (4, 3)}
    """
    parsed = {text: Tap.parse(text) for text in dict.fromkeys(taps)}
    if parsed and not model.built:
        model(inputs, training=False)  # a Sequential has no layers to listen at before it is built
    layers = {text: _find(model, tap.path, text) for text, tap in parsed.items()}
    with _listening(layers.values()) as heard:
        outputs = model(inputs, training=training)
    tapped = {text: _pick(heard[id(layers[text])], tap, text) for text, tap in parsed.items()}
    return Signals.of(outputs, getattr(model, "output_names", None), tapped)


def _sublayers(layer: keras.Layer) -> list[keras.Layer]:
    # The public `layers` exists on models only; a block may be a plain layer that holds others.
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _find(model: keras.Layer, path: tuple[str, ...], text: str) -> keras.Layer:
    layer = model
    for name in path:
        named = [sub for sub in _sublayers(layer) if sub.name == name]
        if not named:
            exist = ", ".join(sub.name for sub in _sublayers(layer)) or "none"
            raise ValueError(f"Tap {text!r}: `{layer.name}` has no layer `{name}`. Its layers: {exist}.")
        layer = named[0]
    return layer


def _pick(calls: list[dict[str, Any]], tap: Tap, text: str) -> Any:
    if not calls:
        raise ValueError(f"Tap {text!r}: the layer `{tap.path[-1]}` exists, but the forward pass does not call it.")
    if tap.call is None and len(calls) > 1:
        raise ValueError(
            f"Tap {text!r}: the layer is called {len(calls)} times in one forward pass. Say which call, from 0 "
            f"to {len(calls) - 1}, as in '{'/'.join(tap.path)}[0]'."
        )
    if (tap.call or 0) >= len(calls):
        raise ValueError(f"Tap {text!r}: the layer is called {len(calls)} time(s) only, counted from 0.")
    tensors = [leaf for leaf in keras.tree.flatten(calls[tap.call or 0][tap.side]) if keras.ops.is_tensor(leaf)]
    if len(tensors) != 1:
        raise ValueError(
            f"Tap {text!r}: the layer's {tap.side} is {len(tensors)} tensors; a tap needs one. Tap a layer after it."
        )
    return tensors[0]


_lock = threading.Lock()
_own_calls: dict[int, Any] = {}  # a `call` that the user had set on the layer itself
_listeners: dict[int, list[tuple[int, list]]] = defaultdict(list)


@contextmanager
def _listening(layers) -> Iterator[dict[int, list[dict[str, Any]]]]:
    """Records every call of the layers made by this thread: replicas of one model trace in threads of their own."""
    unique = {id(layer): layer for layer in layers}
    heard: dict[int, list[dict[str, Any]]] = {key: [] for key in unique}
    entries = {key: (threading.get_ident(), heard[key]) for key in unique}
    with _lock:
        for key, layer in unique.items():
            if not _listeners[key]:
                # Not through `setattr`, with which Keras would track and TensorFlow save what is set.
                _own_calls[key] = layer.__dict__.get("call")
                object.__setattr__(layer, "call", _recorded(layer.call, key))
            _listeners[key].append(entries[key])
    try:
        yield heard
    finally:
        with _lock:
            for key, layer in unique.items():
                _listeners[key] = [entry for entry in _listeners[key] if entry is not entries[key]]
                if not _listeners[key]:
                    del _listeners[key]
                    object.__delattr__(layer, "call")
                    own = _own_calls.pop(key)
                    if own is not None:
                        object.__setattr__(layer, "call", own)


def _recorded(call, key: int):
    def recording_call(*args, **kwargs):
        outputs = call(*args, **kwargs)
        inputs = [*args, *(value for name, value in kwargs.items() if not name.endswith("mask"))]
        for thread, calls in _listeners[key]:
            if thread == threading.get_ident():
                calls.append({"input": inputs, "output": outputs})
        return outputs

    return recording_call
