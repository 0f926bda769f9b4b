"""What is measured of every TFLite file over the evaluation data, and what it must reach."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_kd.export.examples import single_examples
from keras_kd.export.parity import Tally, compare
from keras_kd.export.report import ExportedFile
from keras_kd.export.runtime import LiteRTModel, host_latencies
from keras_kd.export.serving import Serving


def measure(
    student: keras.Model, serving: Serving, files: dict[str, ExportedFile], data: Any
) -> tuple[float | None, dict[str, ExportedFile]]:
    """Run and time every file.

    Args:
        student: the Keras model, which computes in float32.
        serving: names and structure of its inputs and outputs.
        files: the files by form.
        data: as `batches` takes it.

    Returns:
        The student's own accuracy, and the files with their figures.

    Raises:
        RuntimeError: if a file is too far from Keras.
    """
    keras_tally, tallies = compare(
        student, serving, {form: LiteRTModel(file.path) for form, file in files.items()}, data
    )
    for form, tally in tallies.items():
        _require_parity(form, tally)
    specs = keras.tree.flatten(serving.inputs)
    measured = {}
    for form, file in files.items():
        tally = tallies[form]
        example = single_examples(data, specs, 1)[0]
        example = {name: np.repeat(array, file.batch_size or 1, axis=0) for name, array in example.items()}
        milliseconds = host_latencies(file.path, example)
        measured[form] = replace(
            file,
            examples=tally.examples,
            agreement=tally.agreement,
            max_abs_difference=max(tally.differences.values()),
            accuracy=tally.accuracy,
            latency_ms_median=float(np.median(milliseconds)),
            latency_ms_p95=float(np.percentile(milliseconds, 95)),
        )
    return keras_tally.accuracy, measured


def _require_parity(form: str, tally: Tally) -> None:
    for name, difference in tally.differences.items():
        allowed = tally.tolerance(name) if form == "float32" else np.finfo(np.float64).max
        if not difference <= allowed:
            raise RuntimeError(
                f"`export_student`: output {name!r} of the {form} TFLite file must be within {allowed:.3g} of Keras's. "
                f"Received: a difference of {difference:.3g} over {tally.examples} examples. No file was written; "
                "please report the layers of this student as a fault."
            )
