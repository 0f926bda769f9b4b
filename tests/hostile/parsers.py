"""The parsers that are ours, as functions of bytes: a sound file each, and a check of whatever comes of any other."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.cache import store
from keras_kd.cache.codecs import codec_of
from keras_kd.cache.layout import Layout
from keras_kd.cache.manifest import Manifest
from keras_kd.cli import lessons
from keras_kd.cli.augmentations import augmentation_of
from keras_kd.data.augmentations import Augmentation
from keras_kd.data.image_size import GREATEST_PIXELS, refuse_huge
from keras_kd.data.multimodal import Audio, Text, load_vocabulary
from keras_kd.data.multimodal.files import read_audio
from keras_kd.data.multimodal.table import COLUMNS, Row, rows_of
from keras_kd.export.metadata import attach, read_labels, read_metadata
from keras_kd.page import write_report
from keras_kd.plots import read_history
from keras_kd.replay import SignalKey
from tests.cache.writing_program import write
from tests.hostile.bounds import outcome
from tests.hostile.test_media import encoded, wav
from tests.hostile.test_records import PARTS, RECORD, VOCABULARY
from tests.page import folders


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        path: The file that it reads.
        sound: What may stand in it.
        read: Reads it.
        told: What an error says, as a regular expression.
        holds: Whether a result is what the reader promises.
    """

    path: Path
    sound: bytes
    read: Callable[[], Any]
    told: str
    holds: Callable[[Any], bool]

    def allows(self, content: bytes) -> bool:
        """Whether the content is refused in the reader's own words, or read into what it promises."""
        self.path.write_bytes(content)
        with np.errstate(all="ignore"):
            found = outcome(self.read, told=self.told)
        return found is None or self.holds(found)

    def __call__(self, content: bytes) -> None:
        """Fails if it does not allow the content, as atheris wants it."""
        assert self.allows(content)


def manifest(folder):
    write(folder / "cache")
    path = folder / "cache" / "manifest.json"
    sound = path.read_bytes()
    original = Manifest.read(path.parent).plan.facts
    told = rf"`open_cache`: {path.parent}.* (Run `cache_teacher` again.*|Make it anew)\."
    return Parser(path, sound, lambda: Manifest.read(path.parent), told, lambda found: found.plan.facts == original)


def shard(folder):
    manifest(folder)
    path = folder / "cache" / store.shard_name(0)
    sound = path.read_bytes()
    header = store.header_of(path)

    def read():
        return store.header_of(path), len(list(store.records_of(path)))

    return Parser(path, sound, read, "never", lambda found: found[0] in (None, header) and 0 <= found[1] <= 4)


def rows(folder, **codec):
    """The rows of a shard, once its checksums hold: any bytes may be meant."""
    made = codec_of(**codec)
    layout = Layout(made, [SignalKey(0, made.kind, "output_0", num_classes=10)], [(10,)])
    sound = layout.encode(np.arange(3), [np.eye(3, 10, dtype="float32")], np.random.default_rng(0)).tobytes()
    path = folder / f"{made.kind}.rows"

    def read():
        content = path.read_bytes()
        whole = len(content) // layout.row.itemsize * layout.row.itemsize
        return whole, layout.decode(np.frombuffer(content[:whole], layout.row))

    def holds(found):
        (arrays,) = found[1].values()
        return all(len(array) == found[0] // layout.row.itemsize for array in arrays.values())

    return Parser(path, sound, read, "never", holds)


def metadata(folder):
    path = folder / "student.tflite"
    told = rf"`path` must be a TFLite file that `export_student` wrote with .* inside\. Received: {path}\. Export .*"
    return Parser(
        path,
        attach(b"model" * 9, {"student": "small", "sizes": [1, 2]}, ["cat", "dog"]),
        lambda: (read_metadata(path), read_labels(path)),
        told,
        lambda found: isinstance(found[0], dict) and isinstance(found[1], list),
    )


def page(folder, name):
    path = folders.write(folder / "export") / name
    sound = folders.HISTORY.encode() if name.endswith("csv") else json.dumps(PARTS[name]).encode()
    told = rf"`write_report`: {re.escape(str(path))}: .*\. (Export again|Mend the file).*"
    return Parser(
        path,
        sound,
        lambda: write_report(path.parent),
        told,
        lambda found: found.read_text("utf-8").endswith("</html>\n"),
    )


def table(folder, name):
    path = folder / name
    sound = b'image,text,label,split\na.png,"so, it is",cat,train\n,fine,dog,\n'
    if name.endswith("jsonl"):
        sound = b'{"image": "a.png", "text": "so", "label": 1}\n\n{"text_file": "a.txt", "label": "dog"}\n'

    def holds(found):
        return all(isinstance(row, Row) and row.line > 0 and set(row.cells) <= set(COLUMNS) for row in found)

    return Parser(path, sound, lambda: list(rows_of(path)), rf"`from_manifest`: .*{path}.*", holds)


def sounds(folder):
    path, spec = folder / "a.wav", Audio(100, 8000)

    def holds(found):
        return found.shape == (100,) and found.dtype == np.float32 and bool((np.abs(found) <= 1).all())

    return Parser(path, wav(rate=11_025, data=bytes(range(100))), lambda: read_audio(str(path), spec), "it.*", holds)


def image_head(folder, form):
    path = folder / f"a.{form}"
    told = rf"it has [\d,]+ pixels, and {GREATEST_PIXELS:,} are read at the most"
    return Parser(path, encoded(form), lambda: refuse_huge(path), told, lambda found: found is None)


def vocabulary(folder):
    path = folder / "vocabulary.json"
    told = rf"`load_vocabulary`: expected a file that `save_vocabulary` wrote\. Received: {path}, which is not one\."

    def holds(found):
        return all(isinstance(text, Text) and text.encode("aß").shape == text.shape for text in found.values())

    return Parser(path, json.dumps(VOCABULARY).encode(), lambda: load_vocabulary(path), told, holds)


def record(folder):
    path = folder / "run.json"
    told = rf"{folder} has no run\.json of `keras-kd cache`, .*"

    def holds(found):
        sizes = [size for size in found["input_shape"] if size is not None]
        return isinstance(found["teacher"], str) and 0 < math.prod(sizes) <= lessons.GREATEST_INPUT

    return Parser(path, json.dumps(RECORD).encode(), lambda: lessons._record_of(folder), told, holds)


def logs(folder):
    path = folder / "history.csv"
    told = rf"`read_history`: {path} is no table of numbers by epoch \(.*\)\. Take it away\."

    def holds(found):
        lengths = {len(column) for column in found.values()}
        return len(lengths) <= 1 and all(isinstance(value, float) for column in found.values() for value in column)

    return Parser(path, folders.HISTORY.replace("NA", "1").encode(), lambda: read_history(path), told, holds)


def augmentations(folder):
    path = folder / "augmentations.txt"
    sound = b"compose(random_shift(2), random_flip()), random_noise(minimum=1e-3), mixup(alpha=0.2, num_classes=10)"
    told = r"cannot read the augmentation .*"

    def holds(found):
        return isinstance(found, Augmentation)

    return Parser(path, sound, lambda: augmentation_of(path.read_text("utf-8", "replace")), told, holds)


PARSERS = {
    "manifest of a cache": manifest,
    "shard": shard,
    "dense rows": lambda folder: rows(folder, dtype="int8"),
    "top-k rows": lambda folder: rows(folder, top_k=3),
    "sampled rows": lambda folder: rows(folder, samples=4),
    "metadata": metadata,
    "report.json": lambda folder: page(folder, "report.json"),
    "evaluation.json": lambda folder: page(folder, "evaluation.json"),
    "run.json": lambda folder: page(folder, "run.json"),
    "history.csv": lambda folder: page(folder, "history.csv"),
    "manifest.csv": lambda folder: table(folder, "manifest.csv"),
    "manifest.jsonl": lambda folder: table(folder, "manifest.jsonl"),
    "WAV": sounds,
    "head of a PNG": lambda folder: image_head(folder, "png"),
    "head of a JPEG": lambda folder: image_head(folder, "jpeg"),
    "vocabulary": vocabulary,
    "record of a cache": record,
    "logs": logs,
    "augmentations": augmentations,
}
