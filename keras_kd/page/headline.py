"""What came of it, first as a sentence, then as a handful of figures."""

from collections.abc import Iterator, Mapping
from typing import Any

from keras_kd.page import numbers
from keras_kd.page.html import Markup, join, tag
from keras_kd.page.reading import Findings

_SEEN = 0.0005  # a difference that the figures, which have a tenth of a point, can show


def headline(findings: Findings) -> str:
    """What was distilled from what, and what it cost, in one sentence."""
    report, teacher = findings.report, findings.teacher
    if teacher is None:
        start = f"{report['student']} has {numbers.amount(report['parameters'], 'parameter')}"
    else:
        start = f"{report['student']} was distilled from {teacher['name']}"
    figures = ", ".join([*_smaller(findings), *_as_good(findings)])
    lost = ", ".join(_lost_by_files(findings))
    return f"{start}{figures and ': '}{figures}{lost and '; '}{lost}."


def _smaller(findings: Findings) -> Iterator[str]:
    report, teacher = findings.report, findings.teacher
    if teacher is not None and teacher["parameters"]:
        yield _ratio(report["parameters"], teacher["parameters"], "parameters")
    ours, theirs = first_tflite(findings), teacher and teacher["file"]
    if ours and theirs and ours["quantize"] == theirs["quantize"]:
        yield _ratio(ours["size_bytes"], theirs["size_bytes"], f"bytes as {ours['quantize'] or 'TFLite'}")


def _ratio(ours: int, theirs: int, unit: str) -> str:
    figures = f"({ours:,} against {theirs:,})"
    if ours == theirs:
        return f"as many {unit} ({ours:,})"
    if ours < theirs:
        return f"{numbers.times(theirs / max(ours, 1))} times fewer {unit} {figures}"
    return f"{numbers.times(ours / theirs)} times as many {unit} {figures}"


def _as_good(findings: Findings) -> Iterator[str]:
    ours, theirs = findings.report["keras_accuracy"], (findings.teacher or {}).get("accuracy")
    if ours is not None and theirs:
        yield _kept(ours, theirs)
    elif ours is not None:
        yield f"right on {numbers.share(ours)}{_of_examples(findings)}"
    if (agreement := findings.report["keras_teacher_agreement"]) is not None:
        yield f"the teacher's answer on {numbers.share(agreement)}{_of_examples(findings)}"


def _kept(ours: float, theirs: float) -> str:
    figures = f"{numbers.share(ours)} against {numbers.share(theirs)}"
    if ours - theirs >= _SEEN:
        return f"{numbers.points(ours - theirs)} more accurate ({figures})"
    if theirs - ours < _SEEN:
        return f"as accurate ({figures})"
    return f"{numbers.share(ours / theirs)} of the accuracy kept ({figures}, {numbers.points(theirs - ours)} lost)"


def _of_examples(findings: Findings) -> str:
    return f" of {numbers.amount(findings.examples, 'example')}" if findings.examples else ""


def _lost_by_files(findings: Findings) -> Iterator[str]:
    """What a file does worse than the Keras student that it was made from."""
    before = findings.report["keras_accuracy"]
    for file in findings.report["files"]:
        if before is not None and file["accuracy"] is not None:
            if before - file["accuracy"] >= _SEEN:
                yield f"{file['file']} loses {numbers.points(before - file['accuracy'])} of the student's accuracy"
        elif file["agreement"] is not None and 1 - file["agreement"] >= _SEEN:
            yield f"{file['file']} answers differently from Keras on {numbers.share(1 - file['agreement'])}"


def key_figures(findings: Findings) -> Markup:
    """The figures people ask for, each with the teacher's below."""
    report, teacher = findings.report, findings.teacher or {"parameters": None, "accuracy": None, "file": None}
    theirs = teacher["file"] or {"size_bytes": None, "latency_ms_median": None}
    small, first = _smallest(findings), first_tflite(findings)
    shown = [
        ("Parameters", report["parameters"], numbers.whole, "", teacher["parameters"]),
        ("Smallest file", small and small["size_bytes"], numbers.size, small and small["file"], theirs["size_bytes"]),
        ("Accuracy", report["keras_accuracy"], numbers.share, "", teacher["accuracy"]),
        ("Agreement", report["keras_teacher_agreement"], numbers.share, "with the teacher's answers", None),
        (
            "Latency",
            first and first["latency_ms_median"],
            numbers.milliseconds,
            "on the exporting host, one thread",
            theirs["latency_ms_median"],
        ),
    ]
    return tag("dl", *(_key_figure(*each) for each in shown if each[1] is not None), class_="key-figures")


def _key_figure(name: str, ours: Any, form: Any, note: str, theirs: Any) -> Markup:
    of_teacher = None if theirs is None else join("teacher ", numbers.figure(theirs, form))
    return tag(
        "div",
        tag("dt", name),
        tag("dd", numbers.figure(ours, form), class_="key"),
        tag("dd", of_teacher) if of_teacher else None,
        tag("dd", note) if note else None,
    )


def first_tflite(findings: Findings) -> Mapping[str, Any] | None:
    """The float32 file, or the first there is."""
    files = [file for file in findings.report["files"] if file["format"] == "tflite"]
    return next((file for file in files if file["quantize"] == "float32"), files[0] if files else None)


def _smallest(findings: Findings) -> Mapping[str, Any] | None:
    files = [file for file in findings.report["files"] if file["format"] == "tflite"]
    return min(files, key=lambda file: file["size_bytes"], default=None)
