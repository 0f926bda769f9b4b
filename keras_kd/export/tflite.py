"""A student as the bytes of a TFLite file that LiteRT loads with its built-in operators alone."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

# `tf.lite` does not export the one error that its converter raises.
from tensorflow.lite.python.convert_phase import ConverterError

from keras_kd.export import operators
from keras_kd.export.placing import full_disk_told
from keras_kd.export.serving import Serving, declared_batch_size, trace
from keras_kd.litert import LiteRTFile
from keras_kd.quantization import for_the_converter, is_fake_quantized

QUANTIZATIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
# Those that compute in integers, with what their inputs and outputs may be of.
INTEGERS = {"int8": tf.int8, "int16x8": tf.int16}
_INTEGER_OPERATORS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}


@dataclass(frozen=True)
class Conversion:
    """What became of a student.

    Attributes:
        serving: the signature of the files.
        files: their bytes by form.
        flex: the forms that need TensorFlow's operators beside the built-in ones.
    """

    serving: Serving
    files: dict[str, bytes]
    flex: frozenset[str]


def convert(
    student: keras.Model,
    quantize: Sequence[str],
    calibration: Sequence[dict[str, np.ndarray]] = (),
    *,
    batch_size: int | None = None,
    quantized_io: bool = False,
    allow_flex: bool = False,
) -> Conversion:
    """Convert the student to TFLite, once per form.

    The batch is free, unless it is given. A student that converts only with a fixed batch, and whose `keras.Input`s
    declare one (recurrent layers that are not unrolled), gets files of that batch.

    Args:
        student: a built model that computes in float32.
        quantize: forms among `QUANTIZATIONS`.
        calibration: named inputs of single examples, for "int8" and "int16x8".
        batch_size: the batch that the files take, in examples. Defaults to `None`: any.
        quantized_io: whether files that compute in integers take and give them. Defaults to `False`: float32.
        allow_flex: whether forms in floating point may use TensorFlow's operators, where the built-in ones do not do.
            Defaults to `False`.

    Returns:
        The `Conversion`.

    Raises:
        ValueError: if the student needs more than the operators allowed, or a loop for "int8" or "int16x8".

    Example:

    >>> import keras
    >>> student = keras.Sequential([keras.Input((3,), name="image"), keras.layers.Dense(2)])
    >>> conversion = convert(student, ["float32"])
    >>> conversion.serving.input_names, conversion.files["float32"][4:8]
    (['image'], b'TFL3')
    """
    declared = declared_batch_size(student)
    sizes = list(dict.fromkeys((None, declared))) if batch_size is None else [batch_size]
    attempts = [(size, False) for size in sizes] + [(sizes[0], True)] * allow_flex
    for size, flex in attempts:
        with for_the_converter():
            serving = trace(student, size)
        try:
            return _convert(student, serving, quantize, calibration, quantized_io, flex)
        except _RefusalError as error:
            refusal = error
    raise ValueError(str(refusal)) from refusal.__cause__


class _RefusalError(Exception):
    """The student needs more than the operators that it may use."""


def _convert(
    student: keras.Model,
    serving: Serving,
    quantize: Sequence[str],
    calibration: Sequence[dict[str, np.ndarray]],
    quantized_io: bool,
    flex: bool,
) -> Conversion:
    # `from_keras_model` reads Keras 2 internals (tensorflow #63867), and `Model.export(format="litert")` turns Flex
    # operators on in silence, so the function is saved and converted from there.
    module = tf.Module()
    module.serve = serving.function
    module.captured = [variable.value for variable in student.variables]
    integers = [form for form in quantize if form in INTEGERS]
    if integers and _has_loop(serving):
        # The calibrator reads freed memory in a loop and ends the process (tensorflow #75140, TF 2.14 to 2.21).
        raise ValueError(
            f"`export_student`: `student` must run without loops for quantize={integers[0]!r}. Set `unroll=True` on "
            "recurrent layers, or quantize with 'dynamic' or 'float16' instead. Received: "
            f"{student.name!r} with a while loop."
        )
    batch_size = keras.tree.flatten(serving.inputs)[0].shape[0] or 1
    examples = [{name: np.repeat(x, batch_size, axis=0) for name, x in example.items()} for example in calibration]
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        with full_disk_told(folder):
            tf.saved_model.save(module, folder, signatures=serving.function)
        for form in quantize:
            files[form] = _file(folder, student.name, form, examples, quantized_io, flex)
            # What is put in front has no ranges to learn.
            if is_fake_quantized(student) and (left := operators.in_float(files[form])):
                raise _RefusalError(
                    "`export_student`: a student of `fake_quantize` must compute in integers throughout. Replace the "
                    "layer and quantize anew, or export the float student with 'dynamic' or 'float16'. "
                    f"Received: {student.name!r} as {form} needs {', '.join(left)}."
                )
    return Conversion(serving, files, frozenset(form for form in files if operators.needs_flex(files[form])))


def _has_loop(serving: Serving) -> bool:
    graph = serving.function.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return any(node.op in ("While", "StatelessWhile") for node in nodes)


def _file(
    folder: str, name: str, form: str, examples: Sequence[dict[str, np.ndarray]], quantized_io: bool, flex: bool
) -> bytes:
    try:
        with warnings.catch_warnings():
            # The converter's own calibrator is what TensorFlow warns of here.
            warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
            content = _converter(folder, form, examples, quantized_io).convert()
        _run_once(folder, content, examples)
    except ConverterError as error:
        if flex and form not in INTEGERS:
            return _converter(folder, form, examples, quantized_io, flex=True).convert()
        needed = operators.of_converter(str(error)) or [_last_line(error)]
        raise _RefusalError(_refusal(name, form, needed)) from error
    except RuntimeError as error:
        # The quantizer and the interpreter, which name the operator alone.
        plain = _converter(folder, "float32", (), False).convert()
        needed = operators.of_quantizer(str(error), plain) or [_last_line(error)]
        raise _RefusalError(_refusal(name, form, needed)) from error
    return content


def _converter(
    folder: str, form: str, examples: Sequence[dict[str, np.ndarray]], quantized_io: bool, flex: bool = False
) -> "tf.lite.TFLiteConverter":
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form in INTEGERS:
        # The float built-ins are left out, so that an operator without an integer kernel is refused, not kept in float.
        # With ranges in the graph the converter takes no data but all built-ins; `operators.in_float` sees to those.
        if examples:
            converter.target_spec.supported_ops = [_INTEGER_OPERATORS[form]]
            converter.representative_dataset = lambda: iter(examples)
        if quantized_io:
            converter.inference_input_type = converter.inference_output_type = INTEGERS[form]
    if flex:
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
    return converter


def _run_once(folder: str, content: bytes, examples: Sequence[dict[str, np.ndarray]]) -> None:
    """Run the file: the converter lets operators through that LiteRT has no kernel of the type for."""
    path = Path(folder) / "student.tflite"
    path.write_bytes(content)
    file = LiteRTFile(path, "`export_student`: `student`")
    specs = file.real_specs
    if examples:
        file.run_real(examples[0])
    elif all(None not in spec.shape[1:] for spec in specs.values()):
        # How long a sound or a text must be, nobody has said.
        file.run_real({name: np.zeros((1, *spec.shape[1:]), spec.dtype.as_numpy_dtype) for name, spec in specs.items()})


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _refusal(name: str, form: str, needed: Sequence[str]) -> str:
    if any(operator.startswith("TensorList") for operator in needed):
        remedy = (
            "Set `unroll=True` on the recurrent layer, or fix the batch with `keras.Input(..., batch_size=1)` in a "
            "Sequential or Functional student, or with `batch_size=1` here."
        )
    elif form in INTEGERS:
        others = [other for other in ("int8", "dynamic", "float16") if other != form]
        listed = " or ".join([", ".join(map(repr, others[:-1])), repr(others[-1])])
        remedy = f"Quantize with {listed} instead, or replace the layer."
    else:
        remedy = (
            "Replace the layer by one that TFLite has an operator for, or pass `allow_flex=True` for a file that plain "
            "LiteRT does not run."
        )
    return (
        f"`export_student`: `student` must convert with TFLite's built-in operators alone, without Flex. {remedy} "
        f"Received: {name!r} as {form} needs {', '.join(needed)}."
    )
