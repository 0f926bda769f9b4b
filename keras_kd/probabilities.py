"""Finds outputs that are probabilities where logits are needed, and logits that were declared probabilities."""

from typing import Any

import keras
from keras import ops

from keras_kd.signals import Signals, pair_outputs
from keras_kd.teachers import Teacher

_NEUTRAL = (
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.Dropout,
)


def scores_by_graph(model: keras.Layer) -> Signals | None:
    """Says of each output what it is, read from the graph of the model.

    Args:
        model: A Keras model.

    Returns:
        `"softmax"`, `"sigmoid"` or `"unknown"` by output; `None` where there is no graph: the model is subclassed
        or not built yet.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        >>> scores_by_graph(model).outputs
        {'output_0': 'softmax'}
    """
    if not model.built or not getattr(model, "outputs", None):
        return None
    structure = model.outputs if isinstance(model, keras.Sequential) else model.output
    found = keras.tree.map_structure(lambda tensor: _activation_behind(tensor) or "unknown", structure)
    return Signals.of(found, getattr(model, "output_names", None))


def scores_by_value(said: Signals) -> Signals:
    """Says of each output what it is, read from what the model gave for a batch.

    Args:
        said: The model's signals, unchanged: probabilities are still probabilities.

    Returns:
        `"softmax"` where every row is non-negative and adds up to one, else `"logits"`, by output.

    Example:
        >>> scores_by_value(Signals.of(keras.ops.array([[0.25, 0.75]]))).outputs
        {'output_0': 'softmax'}
    """
    return said.mapped(lambda name, value: "softmax" if _rows_are_probabilities(value) else "logits")


def refuse_probabilities(
    objective: Any, teacher: Teacher, teacher_scores: Signals, student_name: str, student_scores: Signals
) -> None:
    """Compares what the outputs are with what was declared, for the outputs that an objective compares.

    Args:
        objective: An objective that compares logits.
        teacher: The teacher, with its declaration.
        teacher_scores: What its outputs are.
        student_name: Name of the student model.
        student_scores: What its outputs are.

    Raises:
        ValueError: If an output is a probability where a logit is needed, or the other way round.
    """
    for teacher_found, student_found in pair_outputs(teacher_scores, student_scores, objective.outputs).values():
        refuse_teacher_scores("Distiller", teacher, teacher_found)
        refuse_student_scores(student_name, student_found)


def refuse_student_scores(name: str, found: str | None) -> None:
    """Checks that an output of the student is logits.

    Raises:
        ValueError: If it is a probability.
    """
    if found in ("softmax", "sigmoid"):
        raise ValueError(
            f"`Distiller`: the student must give logits. Received: `{name}`, whose output is a {found}. "
            + _STUDENT_REMEDY
        )


def refuse_teacher_scores(owner: str, teacher: Teacher, found: str) -> None:
    """Compares what an output of a teacher is with what was declared.

    Args:
        owner: Who asks, for the text of errors.
        teacher: The teacher, with its declaration.
        found: `"softmax"`, `"sigmoid"`, `"logits"` or `"unknown"`.

    Raises:
        ValueError: If the two differ.
    """
    declared = teacher.outputs == "probabilities"
    if found == "sigmoid" or (found == "softmax" and not declared):
        raise ValueError(
            f"`{owner}`: the teacher must give logits. Received: `{teacher.name}`, whose output is a {found}. "
            + _TEACHER_REMEDY[found]
        )
    if found == "logits" and declared:
        raise ValueError(
            f'`{owner}`: the teacher `{teacher.name}` was declared with outputs="probabilities", but its rows do '
            'not add up to one. Declare outputs="logits", or end the model in softmax.'
        )


_TEACHER_REMEDY = {
    "softmax": 'Declare it: `keras_kd.Teacher(model, outputs="probabilities")`.',
    "sigmoid": "Soft targets need one softmax over all classes: give the model a logit for each class; one ending in "
    'softmax is declared as `keras_kd.Teacher(model, outputs="probabilities")`.',
}
_STUDENT_REMEDY = (
    "End it in logits (a last layer without activation, and `from_logits=True` in the loss) and append the softmax for "
    'export. Only a teacher can be declared, as `keras_kd.Teacher(model, outputs="probabilities")`: the small '
    "probabilities of a student lose their gradient."
)


def _activation_behind(tensor: Any) -> str | None:
    history = getattr(tensor, "_keras_history", None)
    while history is not None and _passes_through(history.operation):
        inputs = history.operation._inbound_nodes[history.node_index].input_tensors
        history = getattr(inputs[0], "_keras_history", None) if inputs else None
    return _activation_of(history.operation) if history is not None else None


def _passes_through(layer: Any) -> bool:
    linear = isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
    return linear or isinstance(layer, _NEUTRAL)


def _activation_of(layer: Any) -> str | None:
    if isinstance(layer, keras.Model):
        inner = scores_by_graph(layer)
        found = set(inner.outputs.values()) if inner else {"unknown"}
        return found.pop() if len(found) == 1 else None
    if isinstance(layer, keras.layers.TimeDistributed):
        return _activation_of(layer.layer)
    if type(layer).__name__ in ("Softmax", "Sigmoid"):  # the layer, or the operation behind `ops.softmax`
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    names = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
    return names.get(activation) if callable(activation) else None


def _rows_are_probabilities(tensor: Any) -> bool:
    scores = ops.convert_to_numpy(ops.cast(tensor, "float32"))
    if scores.ndim < 2 or scores.shape[-1] < 2:
        return False
    # To the precision of float16.
    return bool((scores >= 0).all() and (abs(scores.sum(-1) - 1) < 1e-2).all())
