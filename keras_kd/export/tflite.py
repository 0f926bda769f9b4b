"""A student as the bytes of a TFLite file that LiteRT loads with its built-in operators alone."""

import re
import tempfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

# `tf.lite` does not export the one error that its converter raises.
from tensorflow.lite.python.convert_phase import ConverterError

from keras_kd.export.serving import Serving, declared_batch_size, trace

QUANTIZATIONS = ("float32", "float16", "dynamic", "int8")


def convert(
    student: keras.Model, quantize: Sequence[str], calibration: Sequence[dict[str, np.ndarray]] = ()
) -> tuple[Serving, dict[str, bytes]]:
    """Convert the student to TFLite, once per form.

    The batch is free. A student that converts only with a fixed batch, and whose `keras.Input`s declare one (recurrent
    layers that are not unrolled), gets files of that batch.

    Args:
        student: a built model that computes in float32.
        quantize: forms among `QUANTIZATIONS`.
        calibration: named inputs of single examples, for "int8".

    Returns:
        The signature of the files, and their bytes by form.

    Raises:
        ValueError: if the student needs more than the built-in operators, or a loop for "int8".

    Example:

    >>> import keras
    >>> student = keras.Sequential([keras.Input((3,), name="image"), keras.layers.Dense(2)])
    >>> serving, files = convert(student, ["float32"])
    >>> serving.input_names, files["float32"][4:8]
    (['image'], b'TFL3')
    """
    batch_sizes = list(dict.fromkeys((None, declared_batch_size(student))))
    for batch_size in batch_sizes:
        serving = trace(student, batch_size)
        try:
            return serving, _convert(student, serving, quantize, calibration)
        except _BuiltinsError as error:
            refusal = error
    raise ValueError(str(refusal)) from refusal.__cause__


class _BuiltinsError(Exception):
    """The student needs more than TFLite's built-in operators."""


def _convert(
    student: keras.Model, serving: Serving, quantize: Sequence[str], calibration: Sequence[dict[str, np.ndarray]]
) -> dict[str, bytes]:
    # `from_keras_model` reads Keras 2 internals (tensorflow #63867), and `Model.export(format="litert")` turns Flex
    # operators on in silence, so the function is saved and converted from there.
    module = tf.Module()
    module.serve = serving.function
    module.captured = [variable.value for variable in student.variables]
    if "int8" in quantize and _has_loop(serving):
        # The calibrator reads freed memory in a loop and ends the process (tensorflow #75140, TF 2.14 to 2.21).
        raise ValueError(
            "`export_student`: `student` must run without loops for quantize='int8'. Set `unroll=True` on recurrent "
            f"layers, or quantize with 'dynamic' or 'float16' instead. Received: {student.name!r} with a while loop."
        )
    batch_size = keras.tree.flatten(serving.inputs)[0].shape[0] or 1
    examples = [{name: np.repeat(x, batch_size, axis=0) for name, x in example.items()} for example in calibration]
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=serving.function)
        for form in quantize:
            try:
                files[form] = _converter(folder, form, examples).convert()
            except ConverterError as error:
                raise _BuiltinsError(_refusal(student.name, form, str(error))) from error
    return files


def _has_loop(serving: Serving) -> bool:
    graph = serving.function.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return any(node.op in ("While", "StatelessWhile") for node in nodes)


def _converter(folder: str, form: str, examples: Sequence[dict[str, np.ndarray]]) -> "tf.lite.TFLiteConverter":
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form == "int8":
        # The float built-ins are left out, so that an operator without an integer kernel is refused, not kept in float.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: iter(examples)
    return converter


def _refusal(name: str, form: str, message: str) -> str:
    places = dict.fromkeys(re.findall(r'"(\w+):", "([^"@]+)@', message))
    operators = dict.fromkeys(re.findall(r"'tf\.(\w+)' op", message))
    found = [f"{operator} at {place!r}" for operator, place in places if operator in operators]
    received = ", ".join(found or operators) or message.strip().splitlines()[-1]
    if any(operator.startswith("TensorList") for operator in operators):
        remedy = (
            "Set `unroll=True` on the recurrent layer, or fix the batch with `keras.Input(..., batch_size=1)` in a "
            "Sequential or Functional student."
        )
    elif form == "int8":
        remedy = "Quantize with 'dynamic' or 'float16' instead, or replace the layer."
    else:
        remedy = "Replace the layer by one that TFLite has an operator for."
    return (
        f"`export_student`: `student` must convert with TFLite's built-in operators alone, without Flex. {remedy} "
        f"Received: {name!r} as {form} needs {received}."
    )
