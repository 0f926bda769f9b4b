"""What an export wrote and how each file measures up, as objects, a table and JSON."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExportedFile:
    """One exported artefact and its measurements; `None` where nothing was measured.

    Attributes:
        path: the file, or the folder of a SavedModel.
        format: "saved_model" or "tflite".
        quantize: "float32", "float16", "dynamic", "int8" or "int16x8"; `None` for a SavedModel.
        size_bytes: size on disk, in bytes.
        gzip_bytes: size of a TFLite file after gzip at level 9, as a download has it, in bytes.
        sha256: checksum of a TFLite file, in hexadecimal.
        batch_size: the batch that a TFLite file is fixed to; `None` if it takes any.
        flex: whether it needs TensorFlow's operators beside the built-in ones; it was not run then.
        examples: number of evaluation examples that the file was run on.
        agreement: share of examples where the largest output is Keras's, at every position of every output.
        max_abs_difference: largest absolute difference of an output from Keras's.
        accuracy: share of labels met.
        latency_ms_median: median time of one invocation on this host, one thread, batch 1 (or the fixed batch), in
            milliseconds.
        latency_ms_p95: 95th percentile of the same.
    """

    path: Path
    format: str
    quantize: str | None
    size_bytes: int
    gzip_bytes: int | None = None
    sha256: str | None = None
    batch_size: int | None = None
    flex: bool = False
    examples: int | None = None
    agreement: float | None = None
    max_abs_difference: float | None = None
    accuracy: float | None = None
    latency_ms_median: float | None = None
    latency_ms_p95: float | None = None


@dataclass(frozen=True)
class ExportReport:
    """What `export_student` wrote. `str(report)` is a table in plain text.

    Attributes:
        student: the student's name.
        parameters: number of the student's parameters.
        keras_accuracy: accuracy of the Keras student on the evaluation data; `None` without labels.
        files: one `ExportedFile` per artefact.
        metadata: what is inside each TFLite file beside it, as JSON values.

    Example:

    >>> from pathlib import Path
    >>> file = ExportedFile(Path("out/student.tflite"), "tflite", "float32", 1464, accuracy=0.5)
    >>> report = ExportReport("student", 8, 0.5, (file,))
    >>> report.to_dict()["files"][0]["file"]
    'student.tflite'
    """

    student: str
    parameters: int
    keras_accuracy: float | None
    files: tuple[ExportedFile, ...]
    metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values, with file names in place of paths."""
        files = []
        for file in self.files:
            values = asdict(file)
            files.append({"file": values.pop("path").name, **values})
        return {
            "student": self.student,
            "parameters": self.parameters,
            "keras_accuracy": self.keras_accuracy,
            "metadata": self.metadata,
            "files": files,
        }

    def __str__(self) -> str:
        accuracy = "" if self.keras_accuracy is None else f", accuracy in Keras {self.keras_accuracy:.4f}"
        header = ["file", "bytes", "batch", "examples", "agreement", "max diff", "accuracy", "host ms", "p95"]
        rows = [header] + [
            [
                file.path.name,
                f"{file.size_bytes:,}",
                "any" if file.batch_size is None else str(file.batch_size),
                _cell(file.examples, ","),
                _cell(file.agreement, ".4f"),
                _cell(file.max_abs_difference, ".2e"),
                _cell(file.accuracy, ".4f"),
                _cell(file.latency_ms_median, ".3f"),
                _cell(file.latency_ms_p95, ".3f"),
            ]
            for file in self.files
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            ).rstrip()
            for row in rows
        ]
        flex = [
            f"{file.path.name} needs Flex, TensorFlow's operators: not run here." for file in self.files if file.flex
        ]
        return "\n".join([f"{self.student}: {self.parameters:,} parameters{accuracy}", *lines, *flex])


def _cell(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
