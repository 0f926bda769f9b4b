"""Which operators a refusal by the converter is about, and where in the student they come from."""

import re
from collections.abc import Iterator
from types import ModuleType

_SHOWN = 4


def _schema() -> ModuleType:
    from ai_edge_litert import schema_py_generated  # LiteRT is slow to import, and only needed here

    return schema_py_generated


def _builtins() -> dict[int, str]:
    return {code: name for name, code in vars(_schema().BuiltinOperator).items() if isinstance(code, int)}


def of_converter(message: str) -> list[str]:
    """Return the operators that a `ConverterError` names, each with its place where that is told."""
    places = dict.fromkeys(re.findall(r'"(\w+):", "([^"@]+)@', message))
    operators = dict.fromkeys(re.findall(r"'tf\.(\w+)' op", message))
    return [f"{operator} at {place!r}" for operator, place in places if operator in operators] or list(operators)


def of_quantizer(message: str, content: bytes) -> list[str]:
    """Return the operators that an error of the quantizer or the interpreter is about, each with its place.

    Args:
        message: the error's text, which names operators, or a tensor that none can be quantized for.
        content: the same student as a TFLite file in float32.

    Returns:
        Text like "NEG at 'normalization/Neg'", a few at most.
    """
    operators = {*re.findall(r"for op: '(\w+)'", message), *re.findall(r"Node number \d+ \((\w+)\) failed", message)}
    tensors = set(re.findall(r"Failed for tensor (\S+)", message))
    found = [
        f"{operator} at {place!r}"
        for operator, reads, place in _placed(content)
        if operator in operators or reads & tensors
    ]
    return found[:_SHOWN] or sorted(operators & set(_builtins().values()))


def needs_flex(content: bytes) -> bool:
    """Tell whether a TFLite file holds operators of TensorFlow."""
    codes = _schema().ModelT.InitFromPackedBuf(content, 0).operatorCodes
    return any((code.customCode or b"").startswith(b"Flex") for code in codes)


def in_float(content: bytes, apart_from: str) -> list[str]:
    """Return the operators of a TFLite file that compute in floating point, each with its place, a few at most.

    Args:
        content: the file.
        apart_from: name of a layer that may.
    """
    model = _schema().ModelT.InitFromPackedBuf(content, 0)
    types = {tensor.name.decode(): tensor.type for graph in model.subgraphs for tensor in graph.tensors}
    found = [
        f"{operator} at {place!r}"
        for operator, reads, place in _placed(content)
        if operator not in ("QUANTIZE", "DEQUANTIZE")
        and apart_from not in place
        and _schema().TensorType.FLOAT32 in {types[name] for name in reads}
    ]
    return found[:_SHOWN]


def _placed(content: bytes) -> Iterator[tuple[str, set[str], str]]:
    """Name of every operator, names of the tensors that it reads, and name of the one that it writes."""
    model, builtins = _schema().ModelT.InitFromPackedBuf(content, 0), _builtins()
    for graph in model.subgraphs:
        names = [tensor.name.decode() for tensor in graph.tensors]
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            # Of operators fused into one the names stand in a row.
            place = names[operator.outputs[0]].split(";")[0]
            yield builtins[code], {names[index] for index in operator.inputs if index >= 0}, place
