"""What one TFLite file costs on this host. Run by path, in a process that holds NumPy and LiteRT and nothing else."""

import json
import sys
import time
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

RUNS = 50
LEAST_RUNS = 5
SECONDS = 0.25
ROUND = 5


def costs(path: str, named: dict[str, np.ndarray], threads: int) -> dict[str, Any]:
    """Time invocations of a file with one thread and with several, and read how much memory the first load took.

    The two take turns, five runs each, so that what else the host does falls on both alike.

    Args:
        path: a `.tflite` file with one signature.
        named: inputs by name of one batch, in the types and of a size that the file takes.
        threads: the other number of threads.

    Returns:
        Milliseconds of each run by number of threads, and bytes by which the resident peak grew; `None` where the
        system does not tell.
    """
    before = _peak_bytes()
    loaded = {1: _loaded(path, named, 1)}
    for _ in range(ROUND):
        loaded[1].invoke()
    after = _peak_bytes()
    if threads > 1:
        loaded[threads] = _loaded(path, named, threads)
        loaded[threads].invoke()
    times: dict[int, list[float]] = {count: [] for count in loaded}
    while running := [count for count in loaded if not _enough(times[count])]:
        for count in running:
            times[count] += _timed(loaded[count])
    peak = None if before is None or after is None else after - before
    return {"milliseconds": {str(count): values for count, values in times.items()}, "peak_bytes": peak}


def _enough(milliseconds: list[float]) -> bool:
    return len(milliseconds) >= RUNS or (len(milliseconds) >= LEAST_RUNS and sum(milliseconds) >= 1000 * SECONDS)


def _timed(interpreter: Interpreter) -> list[float]:
    times = []
    for _ in range(ROUND):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(1000 * (time.perf_counter() - start))
    return times


def _loaded(path: str, named: dict[str, np.ndarray], threads: int) -> Interpreter:
    loaded = Interpreter(model_path=path, num_threads=threads)
    # An interpreter whose signature runner is alive refuses to be resized, so the runner is not kept.
    details = loaded.get_signature_runner().get_input_details()
    for name, array in named.items():
        loaded.resize_tensor_input(details[name]["index"], array.shape)
    loaded.allocate_tensors()
    for name, array in named.items():
        loaded.set_tensor(details[name]["index"], array)
    return loaded


def _peak_bytes() -> int | None:
    """Greatest resident size of this process so far."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            # Not `getrusage`, whose peak on Linux is that of the process which started this one, if that was greater.
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _main() -> None:
    path, inputs, threads = sys.argv[1:]
    with np.load(inputs) as arrays:
        named = dict(arrays)
    print(json.dumps(costs(path, named, int(threads))))


if __name__ == "__main__":
    _main()
