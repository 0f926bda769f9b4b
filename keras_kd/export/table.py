"""The report of an export as text."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_kd.export.report import ExportedFile, ExportReport


def table(report: "ExportReport") -> str:
    """Return a title, a row by file, and what else there is to say; columns that would be empty are left out."""
    files = [*report.files, *filter(None, [report.teacher and report.teacher.file])]
    columns = [
        cells
        for heading, cell in _columns(report.threads).items()
        if any((cells := [heading, *map(cell, files)])[1:]) or heading in _ALWAYS
    ]
    aligned = [_aligned(cells, left=place == 0) for place, cells in enumerate(columns)]
    rows = ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
    return "\n".join([_title(report), *rows, *_remarks(report)])


_ALWAYS = ("file", "bytes", "batch")


def _columns(threads: int) -> dict[str, Callable[["ExportedFile"], str]]:
    """Cells by heading; an empty one is shown as a dash."""
    columns = {
        "file": lambda file: file.path.name,
        "bytes": lambda file: f"{file.size_bytes:,}",
        "gzip": lambda file: _cell(file.gzip_bytes, ","),
        "batch": lambda file: "any" if file.batch_size is None else str(file.batch_size),
        "examples": lambda file: _cell(file.examples, ","),
        "agreement": lambda file: _cell(file.agreement, ".4f"),
        "with teacher": lambda file: _cell(file.teacher_agreement, ".4f"),
        "max diff": lambda file: _cell(file.max_abs_difference, ".1e"),
        "accuracy": lambda file: _cell(file.accuracy, ".4f"),
        "ms, 1 thread": lambda file: _span(file.latency_ms_median, file.latency_ms_p95),
        f"{threads} threads": lambda file: _span(file.latency_ms_median_threads, file.latency_ms_p95_threads),
        "peak MB": lambda file: "" if file.peak_memory_bytes is None else f"{file.peak_memory_bytes / 1e6:.1f}",
    }
    if threads == 1:
        del columns["1 threads"]
    return columns


def _title(report: "ExportReport") -> str:
    parts = [f"{report.student}: {report.parameters:,} parameters"]
    if report.keras_accuracy is not None:
        parts.append(f"accuracy in Keras {report.keras_accuracy:.4f}")
    if report.keras_teacher_agreement is not None:
        parts.append(f"agreement with the teacher {report.keras_teacher_agreement:.4f}")
    return ", ".join(parts)


def _remarks(report: "ExportReport") -> list[str]:
    lines = [
        f"{file.path.name} needs Flex, TensorFlow's operators: LiteRT did not run it here."
        for file in report.files
        if file.flex
    ]
    if report.teacher is not None:
        lines.append(_of_teacher(report))
    timed = next((file for file in report.files if file.latency_ms_median is not None), None)
    if timed is not None:
        name = timed.path.name
        cores = f"{report.threads} core{'s' * (report.threads > 1)}"
        lines += [
            f"Latencies (median/p95) are this host's ({cores}), not a phone's. On a device, with LiteRT's benchmark "
            f"tool: `adb push {name} /data/local/tmp` and",
            f"`adb shell /data/local/tmp/benchmark_model --graph=/data/local/tmp/{name} --num_threads=1`; on this host "
            f"`litert-benchmark --model {name} --num_threads 1` does the same.",
        ]
    return lines


def _of_teacher(report: "ExportReport") -> str:
    teacher = report.teacher
    parts = [f"Teacher {teacher.name}"]
    if teacher.parameters is not None:
        parts.append(f"{teacher.parameters:,} parameters")
    if teacher.accuracy is not None:
        parts.append(f"accuracy in Keras {teacher.accuracy:.4f}")
    line = ", ".join(parts)
    return f"{line}; no file of it: {teacher.without_file}" if teacher.without_file else line


def _cell(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _span(median: float | None, p95: float | None) -> str:
    return (
        "" if median is None else "/".join(f"{value:.3f}" if value < 10 else f"{value:.1f}" for value in (median, p95))
    )


def _aligned(cells: list[str], left: bool) -> list[str]:
    shown = [cell or "-" for cell in cells]
    width = max(map(len, shown))
    return [cell.ljust(width) if left else cell.rjust(width) for cell in shown]
