"""What an export wrote and how each file measures up, as objects, a table, JSON, a DataFrame and a picture."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_kd import plots
from keras_kd.export.table import table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


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
        flex: whether it needs TensorFlow's operators beside the built-in ones; it was not
            run then.
        examples: number of evaluation examples that the file was run on.
        agreement: share of examples where the largest output is Keras's, at every position of every output.
        max_abs_difference: largest absolute difference of an output from Keras's.
        accuracy: share of labels met.
        teacher_agreement: share of examples where the largest output is the teacher's, at every position of every
            output that the two share.
        latency_ms_median: median time of one invocation on this host, one thread, batch 1 (or the fixed batch), in
            milliseconds.
        latency_ms_p95: 95th percentile of the same.
        latency_ms_median_threads: median with as many threads as the process may use cores.
        latency_ms_p95_threads: 95th percentile of the same.
        peak_memory_bytes: by how much the greatest resident size of a process of its own grew when it loaded the file
            and ran it with one thread, in bytes.
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
    teacher_agreement: float | None = None
    latency_ms_median: float | None = None
    latency_ms_p95: float | None = None
    latency_ms_median_threads: float | None = None
    latency_ms_p95_threads: float | None = None
    peak_memory_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-serialisable values, with the file's name in place of its path."""
        values = asdict(self)
        return {"file": values.pop("path").name, **values}


@dataclass(frozen=True)
class TeacherFigures:
    """What is known of the student's teacher.

    Attributes:
        name: of the teacher.
        parameters: their number; `None` for what is no built Keras model.
        accuracy: on the evaluation data; `None` without labels.
        file: its own float32 TFLite file, which was measured and not kept; `None` where there is none.
        without_file: why there is none.
    """

    name: str
    parameters: int | None = None
    accuracy: float | None = None
    file: ExportedFile | None = None
    without_file: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return name, parameters, accuracy and file as JSON-serialisable values."""
        file = self.file and self.file.to_dict()
        return {"name": self.name, "parameters": self.parameters, "accuracy": self.accuracy, "file": file}


@dataclass(frozen=True)
class ExportReport:
    """What `export_student` wrote. `str(report)` is a table in plain text.

    Attributes:
        student: the student's name.
        parameters: number of the student's parameters.
        keras_accuracy: accuracy of the Keras student on the evaluation data; `None` without labels.
        files: one `ExportedFile` per artefact.
        metadata: what is inside each TFLite file beside it, as JSON values.
        keras_teacher_agreement: share of examples where the Keras student names the class that the teacher names.
        teacher: what is known of the teacher; `None` without one.
        threads: how many the latencies with several threads are of.

    Example:

    >>> from pathlib import Path
    >>> file = ExportedFile(Path("out/student.tflite"), "tflite", "float32", 1464, accuracy=0.5)
    >>> report = ExportReport("student", 8, 0.5, (file,))
    >>> report.to_dict()["files"][0]["file"]
    'student.tflite'
    >>> print(report)
    student: 8 parameters, accuracy in Keras 0.5000
    file            bytes  batch  accuracy
    student.tflite  1,464    any    0.5000
    """

    student: str
    parameters: int
    keras_accuracy: float | None
    files: tuple[ExportedFile, ...]
    metadata: dict[str, Any] | None = None
    keras_teacher_agreement: float | None = None
    teacher: TeacherFigures | None = None
    threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values, with file names in place of paths."""
        return {
            "student": self.student,
            "parameters": self.parameters,
            "keras_accuracy": self.keras_accuracy,
            "keras_teacher_agreement": self.keras_teacher_agreement,
            "teacher": self.teacher and self.teacher.to_dict(),
            "metadata": self.metadata,
            "threads": self.threads,
            "files": [file.to_dict() for file in self.files],
        }

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return a row per file, the teacher's last, with the fields of `ExportedFile` as columns.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("`ExportReport.to_dataframe` needs pandas. Install it: `pip install pandas`.") from error
        return pandas.DataFrame([file.to_dict() for file in self._all_files()]).set_index("file")

    def plot(self) -> "Figure":
        """Draw accuracy against size and against latency, a point for each TFLite file and for the teacher's.

        Without labels, agreement with Keras stands in for the accuracy.

        Returns:
            The figure.

        Raises:
            ValueError: if no file was measured.
        """
        measured = [file for file in self._all_files() if file.latency_ms_median is not None]
        quality = "accuracy" if any(file.accuracy is not None for file in measured) else "agreement"
        points = [
            {
                "name": "teacher" if self.teacher and file is self.teacher.file else file.quantize,
                "bytes": file.size_bytes,
                "milliseconds": file.latency_ms_median,
                quality: getattr(file, quality),
            }
            for file in measured
            if getattr(file, quality) is not None
        ]
        if not points:
            raise ValueError(
                "`ExportReport.plot`: there must be files with an accuracy, or an agreement with Keras, and latencies. "
                "Received: none. Give `export_student` evaluation data."
            )
        return plots.quality_against_costs(points, quality)

    def _all_files(self) -> list[ExportedFile]:
        return [*self.files, *filter(None, [self.teacher and self.teacher.file])]

    def __str__(self) -> str:
        return table(self)
