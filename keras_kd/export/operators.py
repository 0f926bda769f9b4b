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


def in_float(content: bytes) -> list[str]:
    """Return the operators that compute in floating point behind the first range, each with its place, a few at most.

    What stands before it makes of the inputs what is rounded first, and has no ranges.
    """
    model = _schema().ModelT.InitFromPackedBuf(content, 0)
    graphs = [([tensor.name.decode() for tensor in graph.tensors], graph) for graph in model.subgraphs]
    raw = {names[index] for names, graph in graphs for index in graph.inputs}
    constant = {
        names[place]
        for names, graph in graphs
        for place, tensor in enumerate(graph.tensors)
        if model.buffers[tensor.buffer].data is not None
    }
    float32 = _schema().TensorType.FLOAT32
    types = {name: tensor.type for names, graph in graphs for name, tensor in zip(names, graph.tensors, strict=True)}
    found = []
    for operator, reads, writes, place in _operators(content):
        if operator in ("QUANTIZE", "DEQUANTIZE"):
            continue
        if reads - constant <= raw:
            raw.add(writes)
        elif float32 in {types[name] for name in reads}:
            found.append(f"{operator} at {place!r}")
    return found[:_SHOWN]


def _placed(content: bytes) -> Iterator[tuple[str, set[str], str]]:
    """Name of every operator, names of the tensors that it reads, and where in the student it stands."""
    return ((operator, reads, place) for operator, reads, _, place in _operators(content))


def _operators(content: bytes) -> Iterator[tuple[str, set[str], str, str]]:
    """Name of every operator, names of the tensors that it reads and of the one that it writes, and its place."""
    model, builtins = _schema().ModelT.InitFromPackedBuf(content, 0), _builtins()
    for graph in model.subgraphs:
        names = [tensor.name.decode() for tensor in graph.tensors]
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            # Of operators fused into one the names stand in a row.
            written = names[operator.outputs[0]]
            read = {names[index] for index in operator.inputs if index >= 0}
            yield builtins[code], read, written, written.split(";")[0]
