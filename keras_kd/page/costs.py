"""What the files cost, in pictures and figures, and how to take them along."""

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from keras_kd.page import charts, numbers
from keras_kd.page.headline import first_tflite
from keras_kd.page.html import Markup, join, tag
from keras_kd.page.marks import SHAPES
from keras_kd.page.reading import Findings
from keras_kd.page.sections import LeftOut, Section, described, pictures, table

_REMEDY = "Give `evaluation_data` with labels to `export_student`."


def accuracy_and_cost(findings: Findings) -> Section | LeftOut:
    """Accuracy against bytes and against milliseconds, a point for each file."""
    points = list(_points(findings))
    if not points:
        return LeftOut("Accuracy and cost", _REMEDY)
    shown = [("Accuracy against size", charts.against_cost(points, "size_bytes", "bytes of the file"), None)]
    timed = [point for point in points if point["latency_ms_median"] is not None]
    if timed:
        drawn = charts.against_cost(timed, "latency_ms_median", "median on the host, one thread")
        text = "Measured on the computer that exported, not on a phone. Its figures order the files; a phone's differ."
        shown.append(("Accuracy against latency", drawn, text))
    return Section("cost", "Accuracy and cost", pictures(*shown))


def _points(findings: Findings) -> Iterator[dict[str, Any]]:
    files = [file for file in findings.report["files"] if file["format"] == "tflite"]
    for index, file in enumerate(files):
        if file["accuracy"] is not None:
            form = SHAPES[index % len(SHAPES)]
            yield {**file, "label": file["quantize"] or file["file"], "shape": form, "kind": "student"}
    theirs = (findings.teacher or {}).get("file")
    if theirs and theirs["accuracy"] is not None:
        yield {**theirs, "label": "teacher", "shape": "hexagon", "kind": "teacher"}


def files(findings: Findings, page: Path) -> Section:
    """The files with what was measured of them, and links to them from the page's own folder."""
    listed, teacher = list(findings.report["files"]), findings.teacher
    rows = [_row(findings, file, page) for file in listed]
    if teacher and teacher["file"]:
        rows.append([_named("teacher, not kept", teacher["file"]), *_figures(teacher["file"])])
    threads = numbers.amount(findings.report["threads"] or 0, "thread") if findings.report["threads"] else "N threads"
    header = [
        *("File", "Bytes", "Gzip", "Agrees with Keras", "Agrees with teacher", "Accuracy"),
        *("Median, 1 thread", "p95, 1 thread", f"Median, {threads}", "Peak memory"),
    ]
    hashed = [(file["file"], tag("code", file["sha256"])) for file in listed if file["sha256"]]
    also = [tag("li", _link(findings.folder / name, page, name)) for name in findings.also_made()]
    return Section(
        "files",
        "Files",
        join(
            table("files", "Each file as it was measured. Latencies are those of the exporting host.", header, rows),
            join(tag("h3", "SHA-256"), described(hashed, class_="checksums")) if hashed else None,
            _on_a_device(findings),
            join(tag("h3", "Also in this folder"), tag("ul", *also, class_="also")) if also else None,
        ),
    )


def _row(findings: Findings, file: Mapping[str, Any], page: Path) -> list[Any]:
    path = findings.folder / file["file"]
    if path.is_dir():
        name = join(file["file"], tag("small", "a folder"))
    elif not path.exists():
        name = join(file["file"], tag("small", "no longer in the folder"))
    elif findings.is_whole(file):
        name = _named(_link(path, page, file["file"]), file)
    else:
        name = join(_link(path, page, file["file"]), tag("small", "changed since it was measured"))
    return [name, *_figures(file)]


def _named(name: Any, file: Mapping[str, Any]) -> Markup:
    batch = f", batch of {file['batch_size']}" if file["batch_size"] else ""
    flex = ", with TensorFlow's operators" if file["flex"] else ""
    return join(name, tag("small", f"{file['quantize'] or file['format']}{batch}{flex}"))


def _figures(file: Mapping[str, Any]) -> list[Any]:
    forms = {
        "size_bytes": numbers.whole,
        "gzip_bytes": numbers.whole,
        "agreement": numbers.share,
        "teacher_agreement": numbers.share,
        "accuracy": numbers.share,
        "latency_ms_median": numbers.milliseconds,
        "latency_ms_p95": numbers.milliseconds,
        "latency_ms_median_threads": numbers.milliseconds,
        "peak_memory_bytes": numbers.size,
    }
    return [numbers.figure(file[key], form) for key, form in forms.items()]


def _link(path: Path, page: Path, name: str) -> Markup:
    relative = Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()
    return tag("a", name, href=quote(f"./{relative}"), download=name)


def _on_a_device(findings: Findings) -> Markup | None:
    file = first_tflite(findings)
    if file is None:
        return None
    there = "/data/local/tmp"
    lines = [
        f"adb push benchmark_model {there}/",
        f"adb push {shlex.quote('./' + file['file'])} {there}/model.tflite",
        f"adb shell chmod +x {there}/benchmark_model",
        f"adb shell {there}/benchmark_model --graph={there}/model.tflite --num_threads=1",
    ]
    return join(
        tag("h3", "On a device"),
        tag(
            "p",
            "The same file with LiteRT's own benchmark tool, ",
            tag("code", "benchmark_model"),
            " for Android, on a phone that ",
            tag("code", "adb devices"),
            " lists:",
        ),
        tag("pre", tag("code", "\n".join(lines)), tabindex=0, role="region", aria_label="Commands for a device"),
    )
