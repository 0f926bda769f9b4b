"""Raw inputs in front of a student and probabilities behind it, as one Keras model."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_kd.export.serving import declared_batch_size, input_specs, output_names
from keras_kd.probabilities import scores_by_graph


def fuse(student: keras.Model, preprocess: Callable[[Any], Any] | None = None, softmax: bool = False) -> keras.Model:
    """Put a preprocessing in front of the student, and a softmax behind it.

    Args:
        student: a built model.
        preprocess: a Keras layer, a model or a function of `keras.ops`, from the raw inputs to what the student takes.
            A built model brings its own inputs; the others take inputs of the student's shapes and types. Defaults to
            `None`.
        softmax: whether outputs of two or more classes become probabilities. Defaults to `False`.

    Returns:
        A Functional model of the student's name and output names; the student itself where there is nothing to add.

    Raises:
        ValueError: if `preprocess` does not give what the student takes, or the student gives no logits of classes.

    Example:

    >>> import keras, numpy as np
    >>> student = keras.Sequential([keras.Input((2,)), layers.Dense(2, kernel_initializer="identity")])
    >>> fuse(student, layers.Rescaling(0.0), softmax=True)(np.array([[3.0, 5.0]])).numpy().tolist()
    [[0.5, 0.5]]
    """
    if preprocess is None and not softmax:
        return student
    taken = input_specs(student)
    if softmax:
        _refuse_probabilities(student)
    front = preprocess if _brings_inputs(preprocess) else student
    raw = _fresh_inputs(input_specs(front), declared_batch_size(front))
    prepared = raw if preprocess is None else _prepared(preprocess, raw, taken)
    said = _Called(student, name="fused_student")(prepared)
    names = output_names(student, said)
    ends = [_end(tensor, name, softmax) for tensor, name in zip(keras.tree.flatten(said), names, strict=True)]
    if softmax and not any(isinstance(tensor._keras_history.operation, layers.Softmax) for tensor in ends):
        raise ValueError(
            "`export_student`: `student` must have an output of two or more classes for softmax=True. Received: "
            f"{student.name!r} with outputs {', '.join(map(_shown, keras.tree.flatten(said)))}."
        )
    return keras.Model(raw, keras.tree.pack_sequence_as(said, ends), name=student.name)


class _Called(layers.Layer):
    """A model, layer or function under a name that no input or output has."""

    def __init__(self, inner: Callable[[Any], Any], name: str):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.inner = inner

    def call(self, inputs: Any) -> Any:
        if isinstance(self.inner, keras.Layer):
            return self.inner(inputs, training=False)
        return self.inner(inputs)


def _brings_inputs(preprocess: Any) -> bool:
    return isinstance(preprocess, keras.Model) and bool(preprocess.built and getattr(preprocess, "inputs", None))


def _fresh_inputs(specs: Any, batch_size: int | None) -> Any:
    return keras.tree.map_structure(
        lambda spec: keras.Input(tuple(spec.shape[1:]), batch_size=batch_size, dtype=spec.dtype.name, name=spec.name),
        specs,
    )


def _prepared(preprocess: Any, raw: Any, taken: Any) -> Any:
    if not callable(preprocess):
        raise ValueError(
            "`export_student`: `preprocess` must be a Keras layer, a model or a function of `keras.ops`. Received: "
            f"{preprocess!r}."
        )
    try:
        prepared = _Called(preprocess, name="fused_preprocess")(raw)
    except Exception as error:  # functions of the user raise all kinds of errors
        # Keras puts its own text, in bold, before and behind what was said.
        said = str(error).partition("Error encountered:")[2].partition("\x1b")[0] or str(error)
        takes = ", ".join(map(_shown, keras.tree.flatten(raw)))
        raise ValueError(
            f"`export_student`: `preprocess` must be a Keras layer, a model or a function of `keras.ops` of {takes}. "
            f"Received: {preprocess!r}, which says: {' '.join(said.split())[:300]}"
        ) from error
    found, expected = keras.tree.flatten(prepared), keras.tree.flatten(taken)
    if len(found) != len(expected) or not all(map(_fits, found, expected)):
        raise ValueError(
            "`export_student`: `preprocess` must give what the student takes: "
            f"{', '.join(map(_shown, expected))}. Received: {', '.join(map(_shown, found))}."
        )
    return keras.tree.pack_sequence_as(taken, found)


def _fits(tensor: Any, spec: Any) -> bool:
    return spec.shape.is_compatible_with((None, *tensor.shape[1:]))


def _shown(tensor: Any) -> str:
    return f"{tensor.name} {tuple(tensor.shape)}" if hasattr(tensor, "name") else str(tuple(tensor.shape))


def _end(tensor: Any, name: str, softmax: bool) -> Any:
    if softmax and _has_classes(tensor):
        return layers.Softmax(name=name, dtype="float32")(tensor)
    return layers.Identity(name=name, autocast=False)(tensor)


def _has_classes(tensor: Any) -> bool:
    return len(tensor.shape) > 1 and (tensor.shape[-1] or 0) > 1


def _refuse_probabilities(student: keras.Model) -> None:
    scores = scores_by_graph(student)
    if scores is None:
        return
    tensors: Sequence[Any] = student.outputs
    for tensor, found in zip(tensors, keras.tree.flatten(scores.structure), strict=True):
        if found in ("softmax", "sigmoid") and _has_classes(tensor):
            raise ValueError(
                "`export_student`: `student` must give logits for softmax=True. Leave `softmax` out. Received: "
                f"{student.name!r}, whose output is a {found}."
            )
