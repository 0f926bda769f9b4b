"""A folder as an export leaves it, written by hand, and its page read back by parsers of Python's own."""

import base64
import copy
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from PIL import Image

from keras_kd.page import write_report

VOID = {"img", "link", "meta"}
CONTENTS = {
    "student.tflite": b"f" * 20_000,
    "student_float16.tflite": b"h" * 11_000,
    "student_int8.tflite": b"i" * 7500,
}


def image(form="png"):
    buffer = io.BytesIO()
    Image.frombytes("L", (4, 4), bytes(range(0, 256, 16))).save(buffer, form)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def entry(name, form, accuracy, agreement, milliseconds):
    content = CONTENTS[name]
    return {
        "file": name,
        "format": "tflite",
        "quantize": form,
        "size_bytes": len(content),
        "gzip_bytes": len(content) // 2,
        "sha256": hashlib.sha256(content).hexdigest(),
        "batch_size": None,
        "examples": 500,
        "agreement": agreement,
        "max_abs_difference": 1e-5,
        "accuracy": accuracy,
        "teacher_agreement": agreement - 0.03,
        "latency_ms_median": milliseconds,
        "latency_ms_p95": 1.5 * milliseconds,
        "latency_ms_median_threads": 0.75 * milliseconds,
        "latency_ms_p95_threads": 1.25 * milliseconds,
        "peak_memory_bytes": 6_000_000 + len(content),
    }


FILES = [
    {"file": "saved_model", "format": "saved_model", "quantize": None, "size_bytes": 78_680},
    entry("student.tflite", "float32", 0.95, 1.0, 0.25),
    entry("student_float16.tflite", "float16", 0.95, 1.0, 0.26),
    entry("student_int8.tflite", "int8", 0.938, 0.984, 0.1),
]
TEACHER_FILE = {**FILES[1], "file": "teacher.tflite", "size_bytes": 600_000, "accuracy": 0.99, "latency_ms_median": 2.0}
REPORT = {
    "student": "pupil",
    "parameters": 5000,
    "keras_accuracy": 0.95,
    "keras_teacher_agreement": 0.96,
    "teacher": {"name": "master", "parameters": 150_000, "accuracy": 0.99, "file": TEACHER_FILE},
    "metadata": {"objectives": ["SoftTargets"], "licence": "CC BY 4.0", "versions": {"keras": "3.15.1"}},
    "threads": 2,
    "files": FILES,
}


def bins(*filled):
    empty = {"confidence": None, "accuracy": None, "count": 0}
    given = {place: dict(zip(("confidence", "accuracy", "count"), values, strict=True)) for place, *values in filled}
    return [given.get(place, empty) for place in range(10)]


def difference(index, label="coat"):
    return {
        "index": index,
        "label": label,
        "student": {"class": "shirt", "probability": 0.61},
        "teacher": {"class": "coat", "probability": 0.985},
        "divergence": 3.0 - index / 100,
        "image": image("png" if index % 2 else "jpeg"),
        "text": None,
    }


EVALUATION = {
    "classes": ["shirt", "coat", "bag"],
    "examples": 500,
    "reliability": {
        "student": bins((4, 0.45, 0.3, 20), (7, 0.75, 0.8, 80), (9, 0.97, 0.99, 400)),
        "teacher": bins((8, 0.85, 0.9, 100), (9, 0.98, 0.985, 400)),
        "ece": {"student": 0.0211, "teacher": 0.0143},
    },
    "per_class": [
        {"class": "shirt", "examples": 170, "student_accuracy": 0.9, "teacher_accuracy": 0.98, "agreement": 0.91},
        {"class": "coat", "examples": 165, "student_accuracy": 0.97, "teacher_accuracy": 0.99, "agreement": 0.975},
        {"class": "bag", "examples": 165, "student_accuracy": 1.0, "teacher_accuracy": 0.96, "agreement": 0.955},
    ],
    "differences": [difference(index) for index in range(14)],
}
RUN = {
    "teacher": "models/master.keras",
    "dataset": "digits",
    "epochs": 3,
    "alpha": 0.3,
    "temperature": 4.0,
    "mode": None,
}
HISTORY = "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.4,40.0,0.5,2.0\n1,0.7,4.0,NA,1.0\n2,0.9,1.5,0.85,0.5\n"


def changed(values, **changes):
    """A deep copy with other fields."""
    return {**copy.deepcopy(values), **copy.deepcopy(changes)}


def write(folder, report=REPORT, evaluation=EVALUATION, run=RUN, history=HISTORY):
    """Writes such a folder; values that are text as they are, `None` not at all."""
    folder.mkdir(exist_ok=True)
    (folder / "saved_model").mkdir(exist_ok=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    written = {"report.json": report, "evaluation.json": evaluation, "run.json": run, "history.csv": history}
    for name, value in written.items():
        if value is not None:
            (folder / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return folder


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.builder = ElementTree.TreeBuilder()
        self.open = []

    def handle_starttag(self, tag, attributes):
        self.builder.start(tag, {key: value or "" for key, value in attributes})
        if tag in VOID:
            self.builder.end(tag)
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.builder.end(tag)

    def handle_data(self, data):
        if self.open:
            self.builder.data(data)


def read(path):
    """The page as a tree. Every element must be closed in its place."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader.builder.close()


def page_of(folder, **parts):
    """The tree of the page of such a folder."""
    return read(write_report(write(folder, **parts)))


def text_of(element):
    return re.sub(r"\s+", " ", "".join(element.itertext())).strip()


def by_id(tree, name):
    (found,) = (element for element in tree.iter() if element.get("id") == name)
    return found


def of_class(tree, name):
    return [element for element in tree.iter() if name in (element.get("class") or "").split()]


def headline(tree):
    return text_of(of_class(tree, "headline")[0])


def rows_of(section, region):
    """Rows of a table: the text of each cell, or the exact number in it."""
    (table,) = (table for table in section.iter("table") if table.get("aria-labelledby") == f"{region}-caption")
    return [[_cell(cell) for cell in row] for row in table.find("tbody")]


def _cell(cell):
    number = cell.find("data")
    return text_of(cell) if number is None else float(number.get("value"))
