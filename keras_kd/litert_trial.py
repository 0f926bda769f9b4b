"""One run of a TFLite file. Run by path, in a process that may end: LiteRT believes what a file says of itself."""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

REFUSED = 3


def try_out(path: str) -> str:
    """Runs a file on zeros.

    Args:
        path: A `.tflite` file.

    Returns:
        What LiteRT has against running it; nothing where it has not, or where whoever loads it will be told.
    """
    try:
        runner = Interpreter(model_path=path).get_signature_runner()
        inputs, _ = runner.get_input_details(), runner.get_output_details()
    except (RuntimeError, ValueError):
        return ""
    signatures = {name: [int(size) for size in details["shape_signature"]] for name, details in inputs.items()}
    try:
        runner(**{name: np.zeros(_of_some(signatures[name]), inputs[name]["dtype"]) for name in inputs})
    except Exception as error:  # of a damaged file LiteRT and NumPy say all kinds of things
        # Where sizes other than the batch are open, some do not go together.
        is_open = any(size < 0 for signature in signatures.values() for size in signature[1:])
        return "" if is_open and isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
    return ""


def _of_some(signature: list[int]) -> list[int]:
    """The shape of two examples, where their number is open."""
    return [size if size >= 0 else 1 if axis else 2 for axis, size in enumerate(signature)]


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _main() -> None:
    path, memory, seconds = sys.argv[1:]
    _limit(int(memory), int(seconds))
    if complaint := try_out(path):
        print(" ".join(complaint.split()))
        sys.exit(REFUSED)


if __name__ == "__main__":
    _main()
