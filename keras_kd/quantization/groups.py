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
        rank: How many axes the (first) input has.
    """

    operation: Any
    batch_normalization: keras.layers.BatchNormalization | None = None
    function: str | None = None
    name: str = ""
    absorbed: bool = False
    rank: int = 0

    @property
    def last_axis(self) -> bool:
        """Whether the operation's `axis` is the last."""
        axis = getattr(self.operation, "axis", None)
        return (axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis) in (-1, self.rank - 1)


def groups_of(functional: Any) -> dict[int, Group]:
    """A group for each operation of a graph, by its `id`."""
    by_depth = functional._nodes_by_depth
    ordered = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]
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
    rank = len(node.input_tensors[0].shape)
    return [Group(operation, norm, function, last.name, rank=rank), *(Group(one, absorbed=True) for one in absorbed)]


def _has_function(operation: Any) -> bool:
    return isinstance(operation, (*AFFINE, *kinds.SEPARABLE))


def _is_norm(node: Any, operation: keras.Layer) -> bool:
    norm = getattr(node, "operation", None)
    if not isinstance(norm, keras.layers.BatchNormalization):
        return False
    # Of a kernel with several axes of channels, BatchNorm scales the last only.
    several = isinstance(operation, keras.layers.EinsumDense)
    return not several and norm.axis in (-1, len(node.outputs[0].shape) - 1)
