"""Which layers have a width, and who decides how wide a tensor is: a model's graph, read from its end to its start."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

_L = keras.layers

# The argument that says how wide a layer's output is.
_OUTPUT_WIDTHS = {
    "filters": (
        *(_L.Conv1D, _L.Conv2D, _L.Conv3D, _L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose),
        *(_L.SeparableConv1D, _L.SeparableConv2D, _L.ConvLSTM1D, _L.ConvLSTM2D, _L.ConvLSTM3D),
    ),
    "units": (_L.Dense, _L.LSTM, _L.GRU, _L.SimpleRNN, _L.LSTMCell, _L.GRUCell, _L.SimpleRNNCell),
    "output_dim": (_L.Embedding,),
}
# Widths that nothing after the layer sees.
_INNER_WIDTHS = {"key_dim": (_L.MultiHeadAttention,), "value_dim": (_L.MultiHeadAttention,)}
_INNER_WIDTHS["head_dim"] = (_L.GroupQueryAttention,)
_ATTENTION = (_L.MultiHeadAttention, _L.GroupQueryAttention)
_GROUPED = (_L.Conv1D, _L.Conv2D, _L.Conv3D, _L.GroupNormalization)


def graph_of(model: Any) -> keras.Function | None:
    """The graph of a built Sequential or Functional model, `None` for all others."""
    graph = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    # A `call` of the user's own need not follow the graph.
    own = isinstance(model, keras.Model) and not type(model).call.__module__.startswith("keras.")
    return graph if isinstance(graph, keras.Function) and not own else None


def nodes_of(model: keras.Model) -> Iterator[Any]:
    """The calls that a model's outputs come from, those inside nested models left out."""
    waiting, seen = list(graph_of(model).outputs), set()
    while waiting:
        node = node_of(waiting.pop())
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += node.input_tensors


def node_of(tensor: keras.KerasTensor) -> Any:
    """The call that gave a tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def held_by(layer: Any) -> dict[str, Any]:
    """The layers that a layer is given as arguments, by the argument: a wrapper's layer, an RNN's cell or cells."""
    if isinstance(layer, _L.Bidirectional):
        return {"layer": layer.forward_layer, "backward_layer": layer.backward_layer}
    if isinstance(layer, _L.Wrapper):
        return {"layer": layer.layer}
    if isinstance(layer, _L.StackedRNNCells):
        return {"cells": layer.cells}
    if isinstance(layer, _L.RNN) and _output_width(layer) is None:
        return {"cell": layer.cell}
    return {}


def layers_in(operation: Any) -> Iterator[Any]:
    """An operation and all that it holds or nests."""
    yield operation
    inner = [node.operation for node in nodes_of(operation)] if graph_of(operation) else held_by(operation).values()
    for one in keras.tree.flatten(list(inner)):
        yield from layers_in(one)


def is_known(layer: Any) -> bool:
    """Whether a layer owns no weights, or is of a kind whose widths are known or follow from what comes in."""
    kinds = [kind for kind in type(layer).__mro__ if kind not in (keras.Layer, keras.Model)]
    of_keras = any(kind.__module__.startswith("keras.src.layers.") for kind in kinds)
    return of_keras or not isinstance(layer, keras.Layer) or graph_of(layer) is not None or not layer.weights


def scaled_config(layer: Any, scale: Callable[[int], int], inner_scale: Callable[[int], int]) -> dict[str, Any]:
    """A layer's config with its widths changed.

    Args:
        layer: A layer or operation.
        scale: Gives the new width of the output.
        inner_scale: Gives the new widths that only the layer itself sees.
    """
    config = layer.get_config()
    key = _output_width(layer)
    if key == "output_shape":
        shape = keras.tree.flatten(config[key])
        config[key] = (*shape[:-1], scale(shape[-1]))
    elif key:
        config[key] = scale(config[key])
    for key, kinds in _INNER_WIDTHS.items():
        if isinstance(layer, kinds) and config[key] is not None:
            config[key] = inner_scale(config[key])
    return config


def deciding_layers(model: keras.Model) -> tuple[set[int], dict[int, int]]:
    """Who may not have any width: the ids of layers that decide the model's outputs, and multiples by layer id."""
    feeds = _feeds(model)
    fixed = {id(layer) for layer in _deciders(graph_of(model).outputs, feeds)}
    multiples: dict[int, int] = defaultdict(lambda: 1)
    for one in _models_in(model):
        for node in nodes_of(one):
            groups = node.operation.groups if isinstance(node.operation, _GROUPED) else 1
            if groups > 1:
                own = [node.operation] if _output_width(node.operation) else []
                for layer in [*own, *_deciders(node.input_tensors, feeds)]:
                    multiples[id(layer)] = math.lcm(multiples[id(layer)], groups)
    return fixed, multiples


def _models_in(model: keras.Model) -> list[keras.Model]:
    return list({id(one): one for one in layers_in(model) if graph_of(one)}.values())


def _output_width(layer: Any) -> str | None:
    for key, kinds in _OUTPUT_WIDTHS.items():
        if isinstance(layer, kinds):
            return key
    if isinstance(layer, _L.MultiHeadAttention):
        return "output_shape" if layer.get_config()["output_shape"] is not None else None
    if isinstance(layer, _L.EinsumDense):
        taken, given = layer.equation.replace("...", "").split("->")
        is_new = given[-1] not in taken.split(",")[0]
        return "output_shape" if is_new else None
    return None


def _feeds(model: keras.Model) -> dict[int, list[keras.KerasTensor]]:
    """What is handed to each input layer of a nested model, by the id of the input layer."""
    feeds = defaultdict(list)
    for one in _models_in(model):
        for node in nodes_of(one):
            inner = held_by(node.operation).get("layer", node.operation)
            if graph_of(inner):
                for name, tensor in zip(graph_of(inner).inputs, node.input_tensors, strict=False):
                    feeds[id(name._keras_history.operation)].append(tensor)
    return feeds


def _deciders(tensors: Iterable[keras.KerasTensor], feeds: dict[int, list[keras.KerasTensor]]) -> Iterator[Any]:
    """The layers that decide how many channels these tensors have."""
    waiting, seen = list(tensors), set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        node = node_of(tensor)
        operation, index = node.operation, tensor._keras_history.tensor_index
        if node.is_input:
            waiting += feeds.get(id(operation), [])
        elif graph_of(operation):
            waiting.append(graph_of(operation).outputs[index])
        else:
            held = held_by(operation)
            last = keras.tree.flatten([_last_of(layer) for layer in held.values()])
            found = [layer for layer in [operation, *last] if _output_width(layer)]
            nested = [layer for layer in last if graph_of(layer)]
            waiting += [output for layer in nested for output in graph_of(layer).outputs]
            if found and not node.arguments.kwargs.get("reverse"):  # a ReversibleEmbedding gives words back
                yield from found
            elif not found and not nested:
                waiting += _channel_sources(node)


def _last_of(held: Any) -> Any:
    last = held[-1] if isinstance(held, list | tuple) else held
    inner = held_by(last)
    return [_last_of(one) for one in inner.values()] if inner else last


def _channel_sources(node: Any) -> list[keras.KerasTensor]:
    """The inputs of a call whose channels its outputs have."""
    if isinstance(node.operation, _ATTENTION):
        return [node.arguments.kwargs.get("query", node.input_tensors[0])]
    if isinstance(node.operation, _L.Dot):
        axes, ranks = node.operation.axes, [len(tensor.shape) for tensor in node.input_tensors]
        axes = [axes] * 2 if isinstance(axes, int) else axes
        # Summed over the channels of both, nothing is left of them.
        if all(axis % rank == rank - 1 for axis, rank in zip(axes, ranks, strict=True)):
            return []
    return node.input_tensors
