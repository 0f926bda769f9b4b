"""`fake_quantize`: a student as a model that computes as its int8 file will."""

from typing import Any

import keras

from keras_kd.quantization.fake_quantize import FakeQuantize
from keras_kd.quantization.groups import Group, groups_of
from keras_kd.quantization.pieces import Pieces
from keras_kd.scalars import checked_number


def fake_quantize(student: keras.Model, *, decay: float = 0.99) -> keras.Model:
    """Makes a copy of a trained student that computes as its int8 file will, to be trained further.

    Weights go through `weights_on_grid` by channel, activations through `FakeQuantize`, whose ranges are learnt from
    the first training step on; gradients pass as if nothing were rounded. BatchNorm that follows a kernel is folded
    into it, with its moving statistics. Distil it from the float teacher with `Distiller`, at about a tenth of the
    learning rate, then `export_student(student, directory, quantize="int8")`, which takes the learnt ranges and needs
    no representative data. The student itself is only read.

    Args:
        student: A built Sequential or Functional model, also with models inside. Layers: `Dense`, `EinsumDense`,
            convolutions of one and two dimensions (depthwise, separable and transposed too), `BatchNormalization`,
            `LayerNormalization`, `MultiHeadAttention` without masks, `Embedding`, merging, pooling, shaping, dropout
            and activation layers, and operations of `keras.ops`. A layer of your own is taken for one operator of
            TFLite: what it does inside is not rounded, and the export says so if that cannot be done in int8.
        decay: That of `FakeQuantize`. Defaults to 0.99.

    Returns:
        A Functional model with the same inputs, outputs and names, and with copies of the weights.

    Raises:
        ValueError: If the student is of another kind, not built, quantised already, or holds layers that cannot be
            (recurrent ones, say).

    Example:
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="logits")])
        >>> [layer.name for layer in fake_quantize(student).layers][-2:]
        ['logits_kernel', 'logits']

    Reference:
        Jacob et al. Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference. 2018.
        arXiv:1712.05877. Distilled: Mishra, Marr. Apprentice. 2018. arXiv:1711.05852.
    """
    if not isinstance(student, keras.Model) or not student.built or _functional(student) is None:
        raise ValueError(
            "`fake_quantize`: `student` must be a built Sequential or Functional `keras.Model`, whose layers can be "
            f"told apart. Received: {student!r}."
        )
    if is_fake_quantized(student):
        raise ValueError(
            f"`fake_quantize`: `student` must be a float model. Received: {student.name!r}, which is quantised already."
        )
    return _rewritten(student, checked_number(FakeQuantize, "decay", decay, low=0.0, high=1.0), quantize_inputs=True)


def is_fake_quantized(model: keras.Model) -> bool:
    """Whether there is a `FakeQuantize` anywhere in a model.

    Args:
        model: A built model.

    Returns:
        Whether `fake_quantize` made it, or a part of it.
    """
    return any(isinstance(layer, FakeQuantize) for layer in model._flatten_layers())


def _functional(model: Any) -> Any:
    functional = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    return functional if hasattr(functional, "_nodes_by_depth") else None


def _rewritten(model: keras.Model, decay: float, quantize_inputs: bool) -> keras.Model:
    functional, pieces = _functional(model), Pieces(decay)
    groups = groups_of(functional)
    made: dict[int, Any] = {}

    def piece_of(operation: Any) -> Any:
        if id(operation) not in made:
            nested = isinstance(operation, keras.Model) and _functional(operation) is not None
            made[id(operation)] = (
                _rewritten(operation, decay, quantize_inputs=False) if nested else _piece(groups[id(operation)], pieces)
            )
        return made[id(operation)]

    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), functional.input
    )
    entering = keras.tree.map_structure(
        lambda x: pieces.quantize(f"{x.name}_quantized")(x) if quantize_inputs and "float" in x.dtype else x, inputs
    )
    # Keras has no public walk through a graph that gives the arguments of each call, too.
    outputs = functional._run_through_graph(entering, operation_fn=piece_of)
    result = keras.Model(inputs, outputs, name=model.name)
    pieces.copy_weights()
    return result


def _piece(group: Group, pieces: Pieces) -> Any:
    """What is called in place of an operation: nothing where another's group computes it."""
    piece = None if group.absorbed else pieces.of(group)

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in kwargs.items() if value is not None and value is not False}
        asked = [name for name in given if name.endswith("mask") or name == "return_attention_scores"]
        if asked:
            raise ValueError(
                f"`fake_quantize`: {group.operation.name!r} must be called without masks, as int8 has no number that "
                f"is large enough for them. Received: {', '.join(asked)}. Export the student with `quantize='dynamic'`."
            )
        return x if piece is None else piece(x, *args, **given)

    return call
