"""Functional models cut in two at a tap, so that one's end can follow another's beginning."""

from typing import Any

import keras

from keras_kd.taps import Tap


def tensor_at(model: keras.Model, text: str, owner: str) -> keras.KerasTensor:
    """The symbolic tensor that a tap names.

    Args:
        model: A Functional or Sequential model.
        text: A tap at one of its own layers, not inside a nested model.
        owner: Who asks, for the text of errors.

    Raises:
        ValueError: If the model has no graph, or the tap does not name one tensor of it.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)])
        >>> tensor_at(model, "hidden", "`SimKD`").shape
        (None, 3)
    """
    tap = Tap.parse(text)
    functional = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if not hasattr(functional, "_nodes_by_depth"):
        raise ValueError(
            f"{owner}: `{model.name}` must be a Functional or a built Sequential model, to be cut at '{text}'. "
            f"Received: a `{type(model).__name__}`."
        )
    # A layer may also be part of other models: of its calls, only those of this one count.
    by_depth = functional._nodes_by_depth
    ordered = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    nodes = [node for node in ordered if node.operation.name == tap.path[0]]
    found = nodes[tap.call or 0 :][:1] if len(tap.path) == 1 and (tap.call is not None or len(nodes) == 1) else []
    tensors = [tensor for node in found for tensor in (node.input_tensors if tap.side == "input" else node.outputs)]
    if len(tensors) != 1:
        names = ", ".join(layer.name for layer in model.layers)
        raise ValueError(
            f"{owner}: '{text}' must name one tensor between two layers of `{model.name}` itself, to cut it there. Its "
            f"layers: {names}."
        )
    return tensors[0]


def rest_of(model: keras.Model, text: str, owner: str) -> keras.Model:
    """What a model does after a tap: from that tensor to the outputs, with the model's own layers.

    Raises:
        ValueError: If the tap names no tensor to cut at, or the outputs depend on more than that tensor.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2, name="head")])
        >>> rest_of(model, "head:input", "`SimKD`").count_params()   # 3 × 2 weights and 2 biases
        8
    """
    tensor = tensor_at(model, text, owner)
    structure: Any = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    if not _all_comes_from(tensor, keras.tree.flatten(structure)):
        raise ValueError(
            f"{owner}: the outputs of `{model.name}` depend on more than '{text}'. Tap a layer that everything passes "
            "through."
        )
    return keras.Model(tensor, structure, name=f"{model.name}_after_{text.replace(':', '_')}")


def _all_comes_from(source: keras.KerasTensor, tensors: list[keras.KerasTensor]) -> bool:
    # Keras 3.12 makes a model of it all the same, and fails when that is called.
    waiting, seen = list(tensors), {id(source)}
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, node, _ = tensor._keras_history
        before = operation._inbound_nodes[node].input_tensors
        if not before:
            return False
        waiting += before
    return True


@keras.saving.register_keras_serializable(package="keras_kd")
class AtRest(keras.layers.Wrapper):
    """A layer that is always in inference mode: its Dropout and BatchNorm rest, whatever the model around it does.

    A Functional model passes its own `training` to all that it is made of, even to what was called with
    `training=False` (Keras 3.15).

    Args:
        layer: The layer, or a model.

    Example:
        >>> dropout = AtRest(keras.layers.Dropout(0.5))
        >>> float(keras.ops.min(dropout(keras.ops.ones((100,)), training=True)))
        1.0
    """

    def call(self, inputs: Any) -> Any:
        """Calls the layer with `training=False`."""
        return self.layer(inputs, training=False)
