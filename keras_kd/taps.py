"""Named intermediate tensors of a model, all from ONE forward pass.

A tap is a string: `"block3"` is what the layer of that name gives, `"backbone/block4_add"` a layer inside a
nested model, `"head:input"` what goes into a layer, `"shared[1]"` the second call of a layer that is called
more than once. What is no layer's output, a model names itself: `x = kd.tap("gated", x * gate)` in its `call`.
Taps listen while the model runs, so nested models, shared layers, overridden `call` methods and subclassed
models all work, and cost nothing once the step is traced.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_kd.listening import Hearing, listening
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


@dataclass(frozen=True)
class _Place:
    """A tap in a model: the layers on its path, and the one it names, or `None` where none has that name."""

    text: str
    tap: Tap
    holders: tuple[keras.Layer, ...]
    layer: keras.Layer | None

    @classmethod
    def find(cls, model: keras.Layer, text: str) -> "_Place":
        tap, holders = Tap.parse(text), [model]
        for name in tap.path[:-1]:
            layer = _sublayer(holders[-1], name, text)
            if layer is None:
                raise _unknown(text, holders[-1], name)
            holders.append(layer)
        return cls(text, tap, tuple(holders), _sublayer(holders[-1], tap.path[-1], text))

    @property
    def layers(self) -> list[keras.Layer]:
        """The layers to listen to, the model itself not among them."""
        return [*self.holders[1:], *filter(None, [self.layer])]


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
        ValueError: If a tap names no layer and no tensor, or two; a layer that did not run, or one of several calls
            without saying which.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2, name="head")])
        >>> signals = forward(model, np.ones((4, 5), "float32"), taps=["hidden", "head:input"])
        >>> {tap: tuple(tensor.shape) for tap, tensor in signals.taps.items()}
        {'hidden': (4, 3), 'head:input': (4, 3)}
    """
    if not taps:
        return _signals(model, model(inputs, training=training), {})
    if not model.built:
        model(inputs, training=False)  # a Sequential has no layers to listen at before it is built
    places = [_Place.find(model, text) for text in dict.fromkeys(taps)]
    with listening(layer for place in places for layer in place.layers) as heard:
        outputs = model(inputs, training=training)
    return _signals(model, outputs, {place.text: _tensor(place, heard) for place in places})


def _signals(model: keras.Layer, outputs: Any, tapped: Mapping[str, Any]) -> Signals:
    return Signals.of(outputs, getattr(model, "output_names", None), tapped)


def _sublayers(layer: keras.Layer) -> list[keras.Layer]:
    # The public `layers` exists on models only; a block may be a plain layer that holds others.
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _sublayer(layer: keras.Layer, name: str, text: str) -> keras.Layer | None:
    named = [sub for sub in _sublayers(layer) if sub.name == name]
    if len(named) > 1:
        raise ValueError(
            f"Tap {text!r}: `{layer.name}` has {len(named)} layers named `{name}`. Give each a `name` of its own."
        )
    return named[0] if named else None


def _unknown(text: str, holder: keras.Layer, name: str, named: Sequence[str] | None = None) -> ValueError:
    layers = ", ".join(sub.name for sub in _sublayers(holder)) or "none"
    tensors = "" if named is None else f" Its named tensors: {', '.join(named) or 'none'}."
    return ValueError(f"Tap {text!r}: `{holder.name}` has no layer `{name}`. Its layers: {layers}.{tensors}")


def _tensor(place: _Place, heard: Hearing) -> Any:
    tap, holder = place.tap, place.holders[-1]
    named = heard.named_within(holder if len(place.holders) > 1 else None)
    tensors = named.get(tap.path[-1])
    if place.layer is None and tensors is None:
        raise _unknown(place.text, holder, tap.path[-1], list(named))
    if place.layer is None:
        return _named_tensor(tensors, tap, place.text)
    if tensors is not None:
        raise ValueError(
            f"Tap {place.text!r}: `{holder.name}` has both a layer and a tensor named `{tap.path[-1]}`. Give `tap` "
            "another name."
        )
    return _layer_tensor(heard.calls[id(place.layer)], tap, place.text)


def _named_tensor(tensors: list[Any], tap: Tap, text: str) -> Any:
    if tap.side == "input":
        raise ValueError(f"Tap {text!r}: `{tap.path[-1]}` is a named tensor, which has no input. Leave out ':input'.")
    return _the_call(tensors, tap, text, "the tensor is named")


def _layer_tensor(calls: list[dict[str, Any]], tap: Tap, text: str) -> Any:
    if not calls:
        raise ValueError(f"Tap {text!r}: the layer `{tap.path[-1]}` exists, but the forward pass does not call it.")
    said = keras.tree.flatten(_the_call(calls, tap, text, "the layer is called")[tap.side])
    tensors = [leaf for leaf in said if keras.ops.is_tensor(leaf)]
    if len(tensors) != 1:
        beside = "after" if tap.side == "output" else "before"
        raise ValueError(
            f"Tap {text!r}: the layer's {tap.side} is {len(tensors)} tensors; a tap needs one. Tap a layer {beside} "
            "it, or name the tensor with `tap` in a `call` of your own."
        )
    return tensors[0]


def _the_call(calls: Sequence[Any], tap: Tap, text: str, happens: str) -> Any:
    if tap.call is None and len(calls) > 1:
        raise ValueError(
            f"Tap {text!r}: {happens} {len(calls)} times in one forward pass. Say which call, from 0 "
            f"to {len(calls) - 1}, as in '{'/'.join(tap.path)}[0]'."
        )
    if (tap.call or 0) >= len(calls):
        raise ValueError(f"Tap {text!r}: {happens} {len(calls)} time(s) only, counted from 0.")
    return calls[tap.call or 0]
