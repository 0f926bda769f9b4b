"""Which operations of a graph TFLite computes as one: a kernel, the BatchNorm and the ReLU that follow it."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_kd.quantization import kinds
from keras_kd.quantization.affine import AFFINE


@dataclass(frozen=True)
class Group:
    """One operation, and what of its successors is computed with it.

    Attributes:
        operation: The first.
        batch_normalization: The BatchNorm that is folded into it.
        function: Name of the activation function that ends it.
        name: Name of the last.
        absorbed: Whether `operation` is computed in another's group.
    """

    operation: Any
    batch_normalization: keras.layers.BatchNormalization | None = None
    function: str | None = None
    name: str = ""
    absorbed: bool = False


def groups_of(functional: Any) -> dict[int, Group]:
    """A group for each operation of a graph, by its `id`."""
    nodes = [node for by_depth in functional._nodes_by_depth.values() for node in by_depth if not node.is_input]
    ordered = sorted(nodes, key=lambda node: -functional_depth(functional, node))
    consumers: dict[int, list[Any]] = {}
    for node in ordered:
        for tensor in node.input_tensors:
            consumers.setdefault(id(tensor), []).append(node)
    for tensor in functional.outputs:
        consumers.setdefault(id(tensor), []).append(None)
    calls: dict[int, int] = {}
    for node in ordered:
        calls[id(node.operation)] = calls.get(id(node.operation), 0) + 1

    def successor(node: Any) -> Any:
        """The only one that hears an operation which is called once."""
        if len(node.outputs) != 1 or calls[id(node.operation)] > 1:
            return None
        heard = consumers.get(id(node.outputs[0]), [])
        following = heard[0] if len(heard) == 1 else None
        return following if following is not None and calls[id(following.operation)] == 1 else None

    groups: dict[int, Group] = {}
    for node in ordered:
        if id(node.operation) not in groups:
            for group in _group(node, successor):
                groups[id(group.operation)] = group
    return groups


def functional_depth(functional: Any, node: Any) -> int:
    """How far from the outputs a call stands in a graph."""
    return next(depth for depth, nodes in functional._nodes_by_depth.items() if any(one is node for one in nodes))


def _group(node: Any, successor: Any) -> list[Group]:
    operation = last = node.operation
    norm, absorbed = None, []
    function = kinds.activation_name(getattr(operation, "activation", None)) if _has_function(operation) else None
    following = successor(node)
    if function is None and isinstance(operation, (*AFFINE, *kinds.SEPARABLE)) and _is_norm(following, operation):
        norm = last = following.operation
        absorbed.append(last)
        following = successor(following)
    ends_unrounded = kinds.function_of(operation) is None and not kinds.keeps_range(operation)
    if function is None and following is not None and ends_unrounded:
        fused = kinds.function_of(following.operation)
        if fused in kinds.FUSED and not isinstance(operation, keras.Model):
            function, last = fused, following.operation
            absorbed.append(last)
    return [Group(operation, norm, function, last.name), *(Group(one, absorbed=True) for one in absorbed)]


def _has_function(operation: Any) -> bool:
    return isinstance(operation, (*AFFINE, *kinds.SEPARABLE))


def _is_norm(node: Any, operation: keras.Layer) -> bool:
    norm = getattr(node, "operation", None)
    if not isinstance(norm, keras.layers.BatchNormalization):
        return False
    # Of a kernel with several axes of channels, BatchNorm scales the last only.
    several = isinstance(operation, keras.layers.EinsumDense)
    return not several and norm.axis in (-1, len(node.outputs[0].shape) - 1)
