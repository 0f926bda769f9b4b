"""What a finished student looks like from outside: named inputs, named outputs and one function between them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Serving:
    """A student's inference function, with every input and output named.

    Attributes:
        function: concrete function from keyword arguments, one per input, to a dictionary of outputs.
        inputs: `tf.TensorSpec`s in the structure that the student is called with.
        outputs: names in the structure that the student returns.
    """

    function: Any
    inputs: Any
    outputs: Any

    @property
    def input_names(self) -> list[str]:
        return [spec.name for spec in keras.tree.flatten(self.inputs)]

    @property
    def output_names(self) -> list[str]:
        return keras.tree.flatten(self.outputs)


def trace(student: keras.Model, batch_size: int | None = None) -> Serving:
    """Trace the student's inference into one function with named inputs and outputs.

    Inputs and outputs in a dictionary take their keys as names; the others take the names of Keras's input tensors and
    output layers, or `output_0`, `output_1`, ... where there are none. TensorFlow signatures know letters, digits and
    underscores: other characters become underscores.

    Args:
        student: a built model.
        batch_size: the batch that the function accepts, in examples. Defaults to `None`: any.

    Returns:
        The `Serving`.

    Raises:
        ValueError: if the student is not built.

    Example:

    >>> import keras
    >>> student = keras.Sequential([keras.Input((3,), name="image"), keras.layers.Dense(2, name="logits")])
    >>> serving = trace(student)
    >>> serving.input_names, serving.outputs
    (['image'], 'logits')
    """
    inputs = input_specs(student, batch_size)
    outputs = None

    @tf.function(autograph=False)
    def serve(**named):
        nonlocal outputs
        values = [named[spec.name] for spec in keras.tree.flatten(inputs)]
        result = student(keras.tree.pack_sequence_as(inputs, values), training=False)
        names = output_names(student, result)
        outputs = keras.tree.pack_sequence_as(result, names)
        # `identity`: an input returned as it came needs a tensor of its own to carry a second name.
        return {name: tf.identity(value) for name, value in zip(names, keras.tree.flatten(result), strict=True)}

    function = serve.get_concrete_function(**{spec.name: spec for spec in keras.tree.flatten(inputs)})
    return Serving(function, inputs, outputs)


def input_specs(student: keras.Model, batch_size: int | None = None) -> Any:
    """Return named `tf.TensorSpec`s in the structure that the student is called with.

    A subclassed model records the shapes but not the types of its inputs: they are taken to be float32.

    Args:
        student: a built model.
        batch_size: the first dimension of every shape, in examples. Defaults to `None`: any.

    Returns:
        A structure of `tf.TensorSpec`.

    Raises:
        ValueError: if the student is not built.
    """
    if isinstance(student, keras.Sequential) and student.built:
        symbolic = student.inputs[0]
    elif getattr(student, "inputs", None):
        symbolic = student.input
    else:
        symbolic = _recorded_inputs(student)
    tensors = keras.tree.flatten(symbolic)
    names = _names(symbolic, [tensor.name for tensor in tensors], "input")
    specs = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype, name=name)
        for tensor, name in zip(tensors, names, strict=True)
    ]
    return keras.tree.pack_sequence_as(symbolic, specs)


def output_names(student: keras.Model, result: Any) -> list[str]:
    """Return a name for each leaf of what the student gave, as `trace` names them."""
    return _names(result, _output_layer_names(student), "output")


def declared_batch_size(student: keras.Model) -> int | None:
    """Return the batch size fixed in the student's `keras.Input`s, or `None` if it is free or differs among them."""
    sizes = {tensor.shape[0] for tensor in getattr(student, "inputs", None) or []}
    return sizes.pop() if len(sizes) == 1 else None


@contextmanager
def float32_compute(student: keras.Model) -> Iterator[None]:
    """Let every layer of the student compute in float32 for a while, whatever its dtype policy.

    Args:
        student: a built model. Its weights are not touched and its policies are put back.
    """
    # Keras has no public walk over the layers inside layers.
    half = [layer for layer in student._flatten_layers() if layer.compute_dtype in ("float16", "bfloat16")]
    policies = [layer.dtype_policy for layer in half]
    try:
        for layer in half:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in zip(half, policies, strict=True):
            layer.dtype_policy = policy


def _recorded_inputs(student: keras.Model) -> Any:
    config = student.get_build_config() if student.built else None
    if not config or not config.get("input_shape"):
        raise ValueError(
            "`export_student`: `student` must be built and take one argument (an array, list or dictionary). Call it "
            f"on a batch, or fit it, before exporting. Received: {student.name!r}, built={student.built}, "
            f"recorded input shapes={config}."
        )
    return _keras_tensors(config["input_shape"])


def _keras_tensors(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _keras_tensors(value) for key, value in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return keras.KerasTensor(tuple(shape), "float32", name="inputs")
    return [_keras_tensors(value) for value in shape]


def _names(structure: Any, positional: Sequence[str], prefix: str) -> list[str]:
    """Name the leaves: by their keys in a dictionary, by `positional` elsewhere, by number where that is ambiguous."""
    paths = [path for path, _ in keras.tree.flatten_with_path(structure)]
    names = [
        "_".join(map(str, path)) if any(isinstance(key, str) for key in path) else fallback
        for path, fallback in zip(paths, positional or [""] * len(paths), strict=True)
    ]
    names = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    if len(set(names)) == len(names) and all(names):
        return names
    return [f"{prefix}_{index}" for index in range(len(names))]


def _output_layer_names(student: keras.Model) -> Sequence[str]:
    if isinstance(student, keras.Sequential):
        return [student.layers[-1].name]
    return getattr(student, "output_names", None) or []
