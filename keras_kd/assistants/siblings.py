"""A model and its sibling of another width, side by side: what must not have changed."""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import keras

from keras_kd.assistants.widths import graph_of, node_of

_L = keras.layers
# Several inputs, and yet no axis of one stands beside the same axis of another.
_NO_BROADCAST = {"Concatenate", "Dot", "Matmul", "Einsum", "Tensordot", "Inner", "Attention", "AdditiveAttention"}
# Their arguments may name places on the axis of channels.
_SLICES = {"GetItem", "Slice", "Take", "TakeAlongAxis", "Lambda"}


def compare(model: keras.Model, sibling: keras.Model, refusal: Callable[[Any, Any], ValueError]) -> None:
    """Compares two models call by call.

    Args:
        model: The original.
        sibling: Its copy at another width.
        refusal: Makes the error from a layer and the shapes that come in.

    Raises:
        ValueError: If something is broadcast, cut or folded that was not before, or an output has another shape.
    """
    for before, after in _calls(model, sibling, set()):
        if not all(alike(before, after) for alike in (_broadcasts, _slices, _folds, _states)):
            raise refusal(before.operation, [tensor.shape for tensor in after.input_tensors])
    for before, after in zip(graph_of(model).outputs, graph_of(sibling).outputs, strict=True):
        if before.shape != after.shape:
            raise refusal(node_of(before).operation, [tensor.shape for tensor in node_of(after).input_tensors])


def _calls(model: keras.Model, sibling: keras.Model, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    """All calls in a model with those in its sibling, nested ones too, from the outputs back."""
    waiting = list(zip(graph_of(model).outputs, graph_of(sibling).outputs, strict=True))
    while waiting:
        before, after = map(node_of, waiting.pop())
        if id(before) not in seen:
            seen.add(id(before))
            yield before, after
            if graph_of(before.operation):
                yield from _calls(before.operation, after.operation, seen)
            waiting += zip(before.input_tensors, after.input_tensors, strict=True)


def _broadcasts(before: Any, after: Any) -> bool:
    """Whether the same inputs are equally long along the same axes."""
    operation = before.operation
    if getattr(operation, "weights", None) or type(operation).__name__ in _NO_BROADCAST:
        return True
    pairs = zip(combinations(_shapes(before), 2), combinations(_shapes(after), 2), strict=True)
    return all(_equal_axes(*old) == _equal_axes(*new) for old, new in pairs)


def _shapes(node: Any) -> list[tuple]:
    # Constants too: an array that is added.
    leaves = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [tuple(leaf.shape) for leaf in leaves if hasattr(leaf, "shape")]


def _equal_axes(first: tuple, second: tuple) -> list[bool]:
    """Which axes are as long in one as in the other, aligned at the last. A length of 1 is broadcast to all others."""
    return [a == b for a, b in zip(reversed(first), reversed(second), strict=False)]


def _slices(before: Any, after: Any) -> bool:
    """Whether what may cut channels off hands on all that come in."""
    if not _may_slice(before.operation):
        return True
    changed_in = _changes(before.input_tensors, after.input_tensors)
    return changed_in == _changes(before.outputs, after.outputs)


def _may_slice(operation: Any) -> bool:
    own = not type(operation).__module__.startswith("keras.") and not operation.weights
    at_places = not isinstance(getattr(operation, "indices_or_sections", 1), int)  # a `Split` into equal parts is none
    return type(operation).__name__ in _SLICES or own or at_places


def _changes(before: list, after: list) -> set[tuple[int, int]]:
    """The lengths of axes that are no longer what they were, with what they are now."""
    pairs = [pair for old, new in zip(before, after, strict=True) for pair in zip(old.shape, new.shape, strict=True)]
    return {(old, new) for old, new in pairs if old != new}


def _folds(before: Any, after: Any) -> bool:
    """Whether a reshape that takes in another width gives it to the last axis, and to no other."""
    if type(before.operation).__name__ != "Reshape" or not _changes(before.input_tensors, after.input_tensors):
        return True
    (*others, last), (*new_others, new_last) = before.outputs[0].shape, after.outputs[0].shape
    # A last axis that stays as long as it was leaves the change to the examples.
    return others == new_others and (last is None or last != new_last)


def _states(before: Any, after: Any) -> bool:
    """Whether the states that an RNN begins with, which Keras does not check, are still as wide as itself."""
    if not isinstance(before.operation, _L.RNN):
        return True
    (_, *states), (_, *new_states) = before.input_tensors, after.input_tensors
    last, new_last = before.outputs[0].shape[-1], after.outputs[0].shape[-1]
    pairs = zip(states, new_states, strict=True)
    return all((old.shape[-1] == last) == (new.shape[-1] == new_last) for old, new in pairs)
