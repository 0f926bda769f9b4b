"""What files cost on this host: a fresh small process for each of them, which `host.py` is."""

import json
import os
import subprocess
import sys
import tempfile
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.litert import LiteRTFile, quantised

_SCRIPT = Path(__file__).with_name("host.py")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_figures(path: str | PathLike, named: dict[str, np.ndarray]) -> dict[str, Any]:
    """Measure latency and peak memory of a TFLite file on this host.

    Args:
        path: a `.tflite` file with one signature.
        named: inputs by name of one batch of a size that the file takes: float32, or the type that the file takes.

    Returns:
        Those fields of an `ExportedFile`, in milliseconds and bytes.

    Raises:
        RuntimeError: if the process that measures fails.
    """
    threads = cores()
    found = _in_a_process(path, named, threads)
    one, several = (found["milliseconds"][str(count)] for count in (1, threads))
    return {
        "latency_ms_median": float(np.median(one)),
        "latency_ms_p95": float(np.percentile(one, 95)),
        "latency_ms_median_threads": float(np.median(several)),
        "latency_ms_p95_threads": float(np.percentile(several, 95)),
        "peak_memory_bytes": found["peak_bytes"],
    }


def _in_a_process(path: str | PathLike, named: dict[str, np.ndarray], threads: int) -> dict[str, Any]:
    details = LiteRTFile(path, "`host_figures`: `path`").input_details
    taken = {name: quantised(array, details[name]) for name, array in named.items()}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, **taken)
        # `-P`: the modules beside the script must not stand in for others of their names.
        command = [sys.executable, "-P", fspath(_SCRIPT), fspath(path), fspath(inputs), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.strip().splitlines()[-1:]) or "no message"
        raise RuntimeError(
            f"`export_student`: the process that measures {Path(path).name} must end well. Received: exit code "
            f"{done.returncode}: {said}. No file was written."
        )
    return json.loads(done.stdout.splitlines()[-1])
