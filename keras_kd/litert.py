"""A TFLite file in the LiteRT runtime: NumPy arrays in, NumPy arrays out, by name."""

import subprocess
import sys
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import tensorflow as tf

_PIECE = 64
_TRIAL = Path(__file__).with_name("litert_trial.py")
_TRIAL_BYTES, _TRIAL_SECONDS = 2**32, 60


def try_out(path: str | PathLike, owner: str) -> None:
    """Runs a file that comes from elsewhere once, in a process of its own.

    LiteRT checks that a file is a FlatBuffer, and believes what it says: one that is damaged can end the process that
    runs it, take all of its memory, or never come back. What is meant to do harm may still do it later, with other
    inputs: a file is a program.

    Args:
        path: A `.tflite` file.
        owner: Who asks, for the text of errors.

    Raises:
        ValueError: If the process ends, takes more than 4 GiB beside twice the file, or more than a minute.
    """
    path = fspath(path)
    memory = _TRIAL_BYTES + 2 * Path(path).stat().st_size
    # `-P`: the modules beside the script must not stand in for others of their names.
    command = [sys.executable, "-P", fspath(_TRIAL), path, str(memory), str(_TRIAL_SECONDS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        found = f"is not done after {_TRIAL_SECONDS} seconds"
    else:
        if not done.returncode:
            return
        told = done.stdout.strip().splitlines()[-1:]
        found = f"says {told[0]}" if told else f"takes its process down, which ends with code {done.returncode}"
    raise ValueError(
        f"{owner} must be a TFLite file that LiteRT can run. Received: {path}, on which LiteRT {found}. Export it anew."
    )


class LiteRTFile:
    """A TFLite file with one signature, run on batches of any size.

    Args:
        path: A `.tflite` file.
        owner: Who asks, for the text of errors.

    Attributes:
        specs: Shape and type of every input by name.
        input_details: What the interpreter says of every input by name.
        output_details: What it says of every output.
        output_names: Names of the outputs.
        batch_size: The batch that the file is fixed to, in examples; `None` if it takes any.

    Raises:
        ValueError: If the file has not exactly one signature, takes no batches, or LiteRT cannot load it.
    """

    def __init__(self, path: str | PathLike, owner: str) -> None:
        from ai_edge_litert.interpreter import Interpreter  # slow to import, and only needed here

        try:
            self._runner = Interpreter(model_path=fspath(path)).get_signature_runner()
            self.input_details = self._runner.get_input_details()
            self.output_details = self._runner.get_output_details()
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{owner} must be a TFLite file with one signature that LiteRT can load with its "
                f"built-in operators. Received: {fspath(path)} ({error})."
            ) from error
        self.output_names = list(self.output_details)
        self.specs = {
            name: tf.TensorSpec(
                [None if size < 0 else size for size in details["shape_signature"]], details["dtype"], name
            )
            for name, details in self.input_details.items()
        }
        if not self.specs or not all(spec.shape.rank for spec in self.specs.values()):
            raise ValueError(
                f"{owner} must be a TFLite file whose inputs are batches. Received: {fspath(path)}, of the inputs "
                f"{[*self.specs.values()]}."
            )
        self.batch_size: int | None = next(iter(self.specs.values())).shape[0]

    @property
    def real_specs(self) -> dict[str, tf.TensorSpec]:
        """What `run_real` takes: batches of any size, and real numbers where the file takes quantised ones."""
        return {
            name: tf.TensorSpec(
                (None, *spec.shape[1:]), "float32" if _scale(self.input_details[name]) else spec.dtype, spec.name
            )
            for name, spec in self.specs.items()
        }

    def run(self, named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns outputs by name for inputs by name, both batches of any size.

        Args:
            named: One array per input, in the type that the file takes.

        Returns:
            Dictionary from output name to array.
        """
        step = self.batch_size or _PIECE
        total = len(next(iter(named.values())))
        parts = []
        for start in range(0, total, step):
            window = {name: array[start : start + step] for name, array in named.items()}
            size = len(next(iter(window.values())))
            if self.batch_size is not None and size < step:
                window = {name: np.resize(array, (step, *array.shape[1:])) for name, array in window.items()}
            parts.append({name: output[:size] for name, output in self._runner(**window).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def run_real(self, named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a file whose inputs or outputs are quantised on the real numbers that these stand for.

        `real = scale · (quantised - zero_point)`

        Args:
            named: One array per input, of `real_specs`.

        Returns:
            Dictionary from output name to array.
        """
        said = self.run({name: quantised(array, self.input_details[name]) for name, array in named.items()})
        return {name: _real(array, self.output_details[name]) for name, array in said.items()}


def _scale(details: dict) -> float:
    """Scale of a quantised tensor, 0 where it is not quantised."""
    return details["quantization"][0]


def quantised(array: np.ndarray, details: dict) -> np.ndarray:
    """Real numbers as the integers of a quantised tensor; as they are where it is none.

    `quantised = round(real / scale) + zero_point`, kept within the type's limits

    Args:
        array: Numbers.
        details: What the interpreter says of the tensor.

    Returns:
        An array of the same shape.
    """
    if not _scale(details):
        return array
    limits = np.iinfo(details["dtype"])
    levels = np.round(array / _scale(details)) + details["quantization"][1]
    return np.clip(levels, limits.min, limits.max).astype(details["dtype"])


def _real(array: np.ndarray, details: dict) -> np.ndarray:
    if not _scale(details):
        return array
    return np.float32(_scale(details)) * (array.astype("float32") - details["quantization"][1])
