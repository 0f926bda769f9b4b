"""What a TFLite file says of itself: a zip archive behind the model, which readers of models pass over."""

import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import keras
import numpy as np
import tensorflow as tf

METADATA, LABELS = "metadata.json", "labels.txt"
GREATEST_BYTES = 2**26  # of an entry


def checked_metadata(metadata: Any) -> dict[str, Any]:
    """Return a user's entries, or none.

    Raises:
        ValueError: if they are not a dictionary that JSON can hold.
    """
    if metadata is None:
        return {}
    try:
        if not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata):
            raise TypeError("no dictionary with text as keys")
        return json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`export_student`: `metadata` must be a dictionary of what JSON can hold, as {'licence': 'MIT'}. "
            f"Received: {metadata!r} ({error})."
        ) from error


def checked_labels(labels: Any, class_counts: Sequence[int]) -> list[str] | None:
    """Return the names of the classes, or `None` where none are given.

    Args:
        labels: one name for each class.
        class_counts: number of classes of every output that has two or more.

    Raises:
        ValueError: if they are no lines of text, or of another number than the classes.
    """
    if labels is None:
        return None
    listed = [] if isinstance(labels, str) else list(labels)
    if not listed or not all(isinstance(label, str) and label and label.splitlines() == [label] for label in listed):
        raise ValueError(
            f"`export_student`: `labels` must be one line of text for each class. Received: labels={labels!r}."
        )
    if len(listed) not in class_counts:
        counts = ", ".join(map(str, class_counts)) or "no"
        raise ValueError(
            f"`export_student`: `labels` must name each of the student's {counts} classes. Received: {len(listed)} "
            "labels."
        )
    return listed


def common_block(
    student: keras.Model,
    parameters: int,
    teacher: str | None,
    objectives: Sequence[str],
    accuracy: float | None,
) -> dict[str, Any]:
    """Return what holds for all files of an export.

    Args:
        student: the model.
        parameters: number of its parameters.
        teacher: name of its teacher.
        objectives: names of what it was distilled by.
        accuracy: share of labels that it meets in Keras.
    """
    package = sys.modules[__name__.partition(".")[0]]
    versions = {"keras_kd": package.__version__, "keras": keras.__version__, "tensorflow": tf.__version__}
    return {
        "student": student.name,
        "parameters": parameters,
        "teacher": teacher,
        "objectives": list(objectives),
        "accuracy": accuracy,
        "versions": versions,
    }


def attach(content: bytes, block: Mapping[str, Any], labels: Sequence[str] | None) -> bytes:
    """Append a zip archive of the metadata and the labels to the bytes of a TFLite file.

    The entries are stored as they are, and without the time: equal exports are equal files.

    Args:
        content: the TFLite file.
        block: what `metadata.json` is to hold.
        labels: the lines of `labels.txt`; `None` for no such entry.

    Returns:
        `content`, followed by the archive.

    Example:

    >>> zipfile.ZipFile(io.BytesIO(attach(b"model", {"licence": "MIT"}, ["cat", "dog"]))).read("labels.txt")
    b'cat\\ndog\\n'
    """
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(METADATA), json.dumps(block, indent=2, ensure_ascii=False))
        if labels is not None:
            archive.writestr(_entry(LABELS), label_lines(labels))
    return buffer.getvalue()


def label_lines(labels: Sequence[str]) -> str:
    """Return the text of `labels.txt`: one name a line."""
    return "".join(f"{label}\n" for label in labels)


def read_metadata(path: str | PathLike) -> dict[str, Any]:
    """Read what `export_student` wrote about a TFLite file into the file.

    Args:
        path: a `.tflite` file.

    Returns:
        Its metadata.

    Raises:
        ValueError: if it holds none.

    Example:

    >>> import keras, tempfile
    >>> from keras_kd.export import export_student
    >>> student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="small")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_student(student, folder, formats="tflite", metadata={"licence": "MIT"})
    ...     found = read_metadata(report.files[0].path)
    >>> found["student"], found["parameters"], found["licence"]
    ('small', 8, 'MIT')
    """
    return _read(path, METADATA, _object)


def read_labels(path: str | PathLike) -> list[str]:
    """Read the names of the classes that `export_student` wrote into a TFLite file.

    Args:
        path: a `.tflite` file.

    Returns:
        One name for each class.

    Raises:
        ValueError: if it holds none.
    """
    return _read(path, LABELS, str.splitlines)


def described(name: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return name, shape, type and, where it is quantised, scale and zero point of an input or output.

    Args:
        name: its name in the signature.
        details: what LiteRT says of the tensor.
    """
    shape = [None if size < 0 else int(size) for size in details["shape_signature"]]
    scale, zero_point = details["quantization"]
    told = {"name": name, "shape": shape, "dtype": np.dtype(details["dtype"]).name}
    return {**told, "scale": float(scale), "zero_point": int(zero_point)} if scale else told


def _read(path: str | PathLike, name: str, parse: Callable[[str], Any]) -> Any:
    with open(path, "rb") as file:  # what cannot be opened is told as such
        try:
            with zipfile.ZipFile(file) as archive:
                # Of ours they are stored as they are; what is packed may be a thousand times as much.
                if archive.getinfo(name).file_size > GREATEST_BYTES:
                    raise ValueError("It is too large.")
                return parse(archive.read(name).decode("utf-8"))
        except Exception as error:  # zipfile and the packers behind it raise all kinds of errors on a broken file
            raise ValueError(
                f"`path` must be a TFLite file that `export_student` wrote with {name} inside. Received: {path}. "
                "Export it anew."
            ) from error


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(found, dict):
        raise TypeError("It is no object.")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}.")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # at the beginning of zip's time, 1980
    entry.create_system = 3  # whatever the host
    entry.external_attr = 0o644 << 16
    return entry
