"""TFLite files in the LiteRT runtime, called as the Keras model they came from."""

from os import PathLike
from typing import Any

import keras
import numpy as np

from keras_kd.export.examples import named_inputs
from keras_kd.export.serving import trace
from keras_kd.litert import LiteRTFile


class LiteRTModel:
    """A TFLite file, run by LiteRT on this host.

    Calling it with a batch returns NumPy arrays of real numbers, also where the file's own inputs and outputs are
    integers that stand for them. The file knows the names of its outputs, not their structure: with
    `student` they come in the student's own structure, without it as one array, or a dictionary by name.

    Args:
        path: a `.tflite` file with one signature.
        student: the Keras model that the file came from. Defaults to `None`.

    Attributes:
        batch_size: the batch that the file is fixed to, in examples; `None` if it takes any.

    Raises:
        ValueError: if the file has not exactly one signature, LiteRT cannot load it, or `student` has other inputs or
            outputs.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> from keras_kd.export import export_student
    >>> student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_student(student, folder, formats="tflite")
    ...     LiteRTModel(report.files[0].path)(np.ones((1, 3)))
    array([[3., 3.]], dtype=float32)
    """

    def __init__(self, path: str | PathLike, student: keras.Model | None = None) -> None:
        self._file = LiteRTFile(path, "`LiteRTModel`: `path`")
        self._structure = None
        self.batch_size = self._file.batch_size
        specs = self._file.real_specs
        if student is not None:
            serving = trace(student)
            outputs = self._file.output_names
            if set(serving.input_names) != set(specs) or set(serving.output_names) != set(outputs):
                raise ValueError(
                    f"`LiteRTModel`: `student` must have the file's inputs {sorted(specs)} and outputs "
                    f"{sorted(outputs)}. "
                    f"Received: {student.name!r} with {serving.input_names} and {serving.output_names}."
                )
            self._structure = serving.outputs
            specs = {name: specs[name] for name in serving.input_names}
        self._specs = list(specs.values())

    def __call__(self, x: Any) -> Any:
        """Return the outputs for a batch of any size.

        Args:
            x: an array, a list in the order of the student's inputs (several inputs: with `student` only), or a
                dictionary by input name.

        Returns:
            Arrays whose first dimension is that of `x`.
        """
        if len(self._specs) > 1 and self._structure is None and not isinstance(x, dict):
            raise ValueError(
                "`LiteRTModel`: `x` must be a dictionary by input name, as a file does not keep the order of its "
                f"inputs; or give `student`. Received: {type(x).__name__} for {sorted(self._file.specs)}."
            )
        named = self.run(named_inputs(x, self._specs))
        if self._structure is not None:
            return keras.tree.map_structure(named.__getitem__, self._structure)
        return next(iter(named.values())) if len(named) == 1 else named

    def run(self, named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name for inputs by name, both batches of any size.

        Args:
            named: one array per input: float32, or the type that the file takes where that stands for nothing else.

        Returns:
            Dictionary from output name to array.
        """
        return self._file.run_real(named)
