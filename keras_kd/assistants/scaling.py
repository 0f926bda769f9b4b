"""Narrower and wider siblings of a model, made from its graph."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from types import FunctionType
from typing import Any

import keras

from keras_kd.assistants.siblings import compare
from keras_kd.assistants.widths import deciding_layers, graph_of, held_by, is_known, layers_in, nodes_of, scaled_config

_REMEDY = "Give `plan_assistants` a function `build(width)` instead."


def scale_model(model: keras.Model, width: float = 0.5, *, name: str | None = None) -> keras.Model:
    r"""The narrower or wider sibling of a model, with new weights: an assistant or a student that needs no code.

    Every width (filters, units, embedding and key dimensions) becomes `max(1, round(width · c))`, with Python's
    `round`. A convolution's parameters so shrink by about `width²`. What stays:

    - the inputs and the outputs: layers that decide an output's last axis keep their width, looked for back from each
      output through activations, normalisation, pooling, sums and all else that has no width of its own;
    - the names of layers and outputs, so that taps go on to work, and which layers are shared or frozen;
    - a width of 1, which is one number per place (a gate, a score), the number of attention heads, and all depths;
    - the statistics of `Normalization` and the vocabulary of lookup layers, which are not trained.

    Before a grouped convolution or a `GroupNormalization`, widths become multiples of the groups. A `Reshape` that
    keeps the last axis goes on to keep it. The sibling is not compiled.

    Args:
        model: A Sequential or Functional model, built; nested models, too, are scaled.
        width: What every width is multiplied by, `> 0`. Defaults to 0.5.
        name: The sibling's name. Defaults to the model's own.

    Returns:
        A built `keras.Sequential` or Functional model with initial weights.

    Raises:
        ValueError: If the width is not a positive number, the model has no graph (subclassed, or not yet built), a
            layer of the user's own owns weights, one is shared with a wrapper, or what comes in no longer fits a
            layer: a sum with what was not scaled, a `Reshape` to a fixed number of channels, a slice of channels.
            The text names the layer.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(3)])
        >>> half = scale_model(model, 0.5)
        >>> [tuple(weight.shape) for weight in half.weights]
        [(4, 3), (3,), (3, 3), (3,)]

    Reference:
        Howard et al. MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications. 2017.
        arXiv:1704.04861. The width multiplier. `keras.applications.MobileNetV2(alpha=...)` rounds to multiples of 8
        and never narrows its last convolution: its models differ a little from these.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < math.inf:
        raise ValueError(f"`scale_model`: `width` must be a finite number > 0. Received: width={width!r}.")
    _refuse_unknown(model)
    scaler = _Scaler(model, width)
    sibling = scaler.model(model, name or model.name)
    compare(model, sibling, scaler.refusal)
    scaler.restore_state()
    return sibling


def _refuse_unknown(model: Any) -> None:
    if graph_of(model) is None:
        kind = "not built yet" if isinstance(model, keras.Sequential) else f"a `{type(model).__name__}`"
        raise ValueError(
            "`scale_model`: `model` must be a built Sequential or Functional model, without a `call` of its own. "
            f"Received: {kind}. {_REMEDY}"
        )
    _refuse_shared_with_a_wrapper(model)
    for layer in layers_in(model):
        if not is_known(layer):
            raise ValueError(
                f"`scale_model`: all layers with weights must be Keras's own. Received: `{layer.name}`, a "
                f"`{type(layer).__name__}`, whose widths are not known. {_REMEDY}"
            )


def _refuse_shared_with_a_wrapper(model: keras.Model) -> None:
    layers = {id(layer): layer for layer in layers_in(model)}.values()
    held = [one for layer in layers for one in keras.tree.flatten(list(held_by(layer).values()))]
    uses = Counter(map(id, held))
    uses.update({id(node.operation) for one in layers if graph_of(one) for node in nodes_of(one)})
    for layer in held:
        if uses[id(layer)] > 1:
            raise ValueError(
                "`scale_model`: a layer in a wrapper must be in no other and not be called beside it, for a wrapper's "
                f"config holds a layer of its own. Received: `{layer.name}`, which is shared. {_REMEDY}"
            )


class _Nested:
    """Stands for a nested model until it is called: only then is known how wide its inputs are."""

    def __init__(self, original: keras.Model):
        self.original = original


class _Scaler:
    """Copies layers and models at another width, each once."""

    def __init__(self, model: keras.Model, width: float):
        self.width, self.copies = width, {}
        self.fixed, self.multiples = deciding_layers(model)

    def model(self, model: keras.Model, name: str, shapes: Sequence[tuple] = ()) -> keras.Model:
        """The copy of a model, for inputs of these shapes."""
        if id(model) not in self.copies:
            make = self._sequential if isinstance(model, keras.Sequential) else self._functional
            copy = make(model, name, shapes)
            copy.dtype_policy = model.dtype_policy  # Keras does not keep it
            self.copies[id(model)] = (model, copy)
        return self.copies[id(model)][1]

    def refusal(self, layer: Any, shapes: Any) -> ValueError:
        received = ", ".join(str(tuple(shape)) for shape in shapes)
        return ValueError(
            f"`scale_model`: at width={self.width:g}, layer `{layer.name}` (`{type(layer).__name__}`) must fit what "
            f"comes in as it did before. Received: {received}. {_REMEDY}"
        )

    def restore_state(self) -> None:
        """Puts back what no config carries."""
        for layer, copy in reversed(self.copies.values()):  # a model before what it is made of
            if isinstance(layer, keras.Layer):
                copy.trainable = layer.trainable
            if isinstance(layer, keras.layers.Normalization) and layer.weights:
                copy.set_weights(layer.get_weights())
                copy.finalize_state()

    def _functional(self, model: keras.Model, name: str, shapes: Sequence[tuple]) -> keras.Model:
        inputs = _inputs_like(graph_of(model), shapes)
        return keras.models.clone_model(
            keras.Model(model.input, model.output, name=name),  # without what `model` was compiled with
            input_tensors=keras.tree.pack_sequence_as(model.input, inputs),
            clone_function=lambda layer: _Nested(layer) if graph_of(layer) else self._layer(layer),
            call_function=self._call,
        )

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = [leaf for leaf in keras.tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
        shapes = [tensor.shape for tensor in tensors]
        if isinstance(layer, _Nested):
            layer = self.model(layer.original, layer.original.name, shapes)
        try:
            return layer(*args, **kwargs)
        except Exception as error:
            raise self.refusal(layer, shapes) from error

    def _sequential(self, model: keras.Sequential, name: str, shapes: Sequence[tuple]) -> keras.Model:
        (start,), layers = _inputs_like(graph_of(model), shapes), []
        for layer in model.layers:
            if graph_of(layer):
                shape = reduce(lambda shape, before: before.compute_output_shape(shape), layers, start.shape)
                layers.append(self.model(layer, layer.name, [shape]))
            else:
                layers.append(self._layer(layer))
        try:
            return keras.Sequential([start, *layers], name=name)
        except Exception:
            tensor = keras.KerasTensor(start.shape, start.dtype)
            reduce(lambda tensor, layer: self._call(layer, tensor), layers, tensor)  # says which layer it was
            raise

    def _layer(self, layer: Any) -> Any:
        if graph_of(layer):  # in a wrapper, which calls it on slices
            return self.model(layer, layer.name)
        if id(layer) not in self.copies:
            self.copies[id(layer)] = (layer, self._new_layer(layer))
        return self.copies[id(layer)][1]

    def _new_layer(self, layer: Any) -> Any:
        if type(layer) is keras.layers.Lambda:
            return _same_function(layer)
        try:
            config = scaled_config(layer, lambda size: self._scaled(layer, size), self._inner)
            # The user's own functions, which need not be registered.
            functions = {key: getattr(layer, key, None) for key in config}
            config |= {key: value for key, value in functions.items() if isinstance(value, FunctionType)}
            for key, held in held_by(layer).items():
                config[key] = keras.tree.map_structure(self._held, held)
            copy = type(layer).from_config(_keeps_last_axis(layer, config))
            if hasattr(layer, "set_vocabulary") and config.get("vocabulary") is None:
                copy.set_vocabulary(layer.get_vocabulary(include_special_tokens=False))
        except Exception as error:
            raise ValueError(
                f"`scale_model`: layer `{layer.name}` must give a config from which it can be made again, with all "
                f"that it names registered. Received: a `{type(layer).__name__}` that fails. {_REMEDY}"
            ) from error
        copy.name = layer.name  # an operation's config need not have it
        return copy

    def _held(self, layer: Any) -> dict[str, Any]:
        return keras.saving.serialize_keras_object(self._layer(layer))

    def _inner(self, size: int) -> int:
        return size if size == 1 else max(1, round(size * self.width))

    def _scaled(self, layer: Any, size: int) -> int:
        multiple = self.multiples.get(id(layer), 1)
        if id(layer) in self.fixed or size == 1:
            return size
        multiple = multiple if size % multiple == 0 else 1
        return multiple * max(1, round(size * self.width / multiple))


def _inputs_like(graph: keras.Function, shapes: Sequence[tuple]) -> list[keras.KerasTensor]:
    """New inputs like a graph's; where a size was known, what now comes in says it."""
    old = [tensor._keras_history.operation for tensor in graph.inputs]
    comes_in = shapes if len(shapes) == len(old) else [layer.batch_shape for layer in old]
    inputs = []
    for layer, shape in zip(old, comes_in, strict=True):
        sizes = [was and now for was, now in zip(layer.batch_shape, shape, strict=True)]
        config = {**layer.get_config(), "batch_shape": tuple(sizes)}
        inputs.append(keras.layers.InputLayer.from_config(config).output)
    return inputs


def _same_function(layer: keras.layers.Lambda) -> keras.layers.Lambda:
    # Its config holds the function as bytes, which Keras does not load unasked.
    shape, mask = layer._output_shape, layer.mask
    keywords = {"output_shape": shape, "mask": mask, "arguments": layer.arguments, "dtype": layer.dtype_policy}
    return keras.layers.Lambda(layer.function, name=layer.name, **keywords)


def _keeps_last_axis(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a `Reshape` whose last axis is the input's, so that it is the input's at every width."""
    if isinstance(layer, keras.layers.Reshape) and len(layer._inbound_nodes) == 1:
        node = layer._inbound_nodes[0]
        comes_in, goes_out = node.input_tensors[0].shape, node.outputs[0].shape
        if comes_in[-1] == goes_out[-1] and None not in goes_out[1:]:
            return {**config, "target_shape": (*goes_out[1:-1], -1)}
    return config
