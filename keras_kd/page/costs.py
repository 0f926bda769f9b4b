"""What the files cost, in pictures and figures, and how to take them along."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
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
    listed = list(findings.report["files"])
    theirs = (findings.teacher or {}).get("file")
    shown = [*listed, theirs] if theirs else listed
    columns = [column for column in _columns(findings) if any(file[column[0]] is not None for file in shown)]
    names = [_name(findings, file, page) for file in listed]
    names += [_described("teacher, not kept", theirs)] if theirs else []
    rows = [
        [name, *(numbers.figure(file[key], form) for key, _, form in columns)]
        for name, file in zip(names, shown, strict=True)
    ]
    header = ["File", *(heading for _, heading, _ in columns)]
    hashed = [(file["file"], tag("code", file["sha256"])) for file in listed if file["sha256"]]
    also = [tag("li", _link(findings.folder, name, page)) for name in findings.also_made()]
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


def _columns(findings: Findings) -> list[tuple[str, str, Callable[[Any], str]]]:
    """What is shown of a file: its key, heading and form."""
    threads = numbers.amount(findings.report["threads"], "thread") if findings.report["threads"] else "more threads"
    return [
        ("size_bytes", "Bytes", numbers.whole),
        ("gzip_bytes", "Gzip", numbers.whole),
        ("agreement", "Agrees with Keras", numbers.share),
        ("teacher_agreement", "Agrees with teacher", numbers.share),
        ("accuracy", "Accuracy", numbers.share),
        ("latency_ms_median", "Median, 1 thread", numbers.milliseconds),
        ("latency_ms_p95", "p95, 1 thread", numbers.milliseconds),
        ("latency_ms_median_threads", f"Median, {threads}", numbers.milliseconds),
        ("peak_memory_bytes", "Peak memory", numbers.size),
    ]


def _name(findings: Findings, file: Mapping[str, Any], page: Path) -> Markup:
    path = findings.folder / file["file"]
    if path.is_dir():
        return join(file["file"], tag("small", "a folder"))
    if not path.exists():
        return join(file["file"], tag("small", "no longer in the folder"))
    link = _link(findings.folder, file["file"], page)
    return (
        _described(link, file) if findings.is_whole(file) else join(link, tag("small", "changed since it was measured"))
    )


def _described(name: Any, file: Mapping[str, Any]) -> Markup:
    batch = f", batch of {file['batch_size']}" if file["batch_size"] else ""
    flex = ", with TensorFlow's operators" if file["flex"] else ""
    return join(name, tag("small", f"{file['quantize'] or file['format']}{batch}{flex}"))


def _link(folder: Path, name: str, page: Path) -> Markup:
    relative = Path(os.path.relpath(folder.resolve() / name, page.parent.resolve())).as_posix()
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
