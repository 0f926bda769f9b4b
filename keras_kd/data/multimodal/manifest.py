"""`from_manifest`: examples listed in a CSV or JSONL file."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from keras_kd.data.image_size import refuse_huge
from keras_kd.data.multimodal.files import read_audio, read_image, read_text
from keras_kd.data.multimodal.modalities import Audio, Image, Text, check_split, learn_text
from keras_kd.data.multimodal.source import Column, MultimodalSource, build
from keras_kd.data.multimodal.splitting import lacking, split_rows
from keras_kd.data.multimodal.table import COLUMNS, Row, rows_of
from keras_kd.wording import shortened

_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_MODALITIES = ("image", "audio", "text")


def from_manifest(
    path: str | os.PathLike,
    *,
    image: tuple[int, int, int] = (28, 28, 1),
    audio: tuple[int, float] = (8000, 1.0),
    text: int | Text = 32,
    split: Literal["character", "word"] = "character",
    max_tokens: int | None = None,
    root: str | os.PathLike | None = None,
    skip_bad: bool = False,
) -> MultimodalSource:
    """Opens the examples that a manifest lists, one to a row.

    The columns of a CSV, whose first line names them, or the keys of a JSONL, are
        - `image`: path of a JPEG, PNG, BMP or GIF of any size and colour mode. It is resized.
        - `audio`: path of a WAV of any rate, 8- to 32-bit PCM or float, mono or stereo. It is mixed down, resampled,
          and cut at its end or padded there with zeros.
        - `text`: the text itself; or `text_file`: path of a UTF-8 file.
        - `label`: name of the class. Classes are ordered by name, or by value where all names are whole numbers.
        - `split`: "train", "validation" (or "val") or "test". A row without one is for training. A split that no row
          names is cut from training, a tenth of each class, by a hash of the row.

    An empty cell or an absent key is a modality that the example has not. A modality that no row has is no part of the
    source. Every file is read once here, so that a bad one is found before training, and again whenever a split is
    gone through; `keras_kd.data.pipeline` does that once and keeps the examples in memory.

    Args:
        path: a `.csv` or `.jsonl` file.
        image: height, width and channels (1 or 3).
        audio: samples per second, and seconds.
        text: number of ids, for a vocabulary learnt from the training rows; or a `Text`, to use its vocabulary.
        split: what becomes an id, "character" or "word". Without effect where `text` is a `Text`.
        max_tokens: size of the vocabulary, its two special tokens among them. Defaults to `None`, every token.
        root: folder that relative paths start from, and that no path may leave, be it absolute, by `..` or by a link.
            Defaults to that of the manifest.
        skip_bad: whether to leave rows out that cannot be used, and list them in `source.skipped`.

    Returns:
        The `MultimodalSource`, with "image", "audio" and "text" as far as the manifest has them. Order follows a hash
        of each row: it does not depend on that of the manifest.

    Raises:
        ValueError: if the file is not such a manifest; or, unless `skip_bad`, at the first row that names a file that
            is missing, cannot be read or lies outside of `root`, text that is not UTF-8, an unknown column or split, no
            label or no modality, or a class with too few training rows. The text tells the line, the file and what to
            do.

    Example:
        >>> import pathlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> manifest = pathlib.Path(folder.name, "moods.csv")
        >>> _ = manifest.write_text("text,label\\n" + "fine,good\\nawful,bad\\n" * 10)
        >>> source = from_manifest(manifest, text=5)
        >>> source.class_names, len(source.train), len(source.validation), len(source.test)
        (('bad', 'good'), 16, 2, 2)
        >>> x, y = next(iter(source.train))
        >>> source.modalities["text"].decode(x["text"]), source.class_names[y]
        ('fine', 'good')
    """
    path = Path(path)
    check_split("from_manifest", split)
    specs = {"image": Image(*image), "audio": Audio(round(audio[0] * audio[1]), audio[0])}
    root = path.parent if root is None else Path(root)
    bad = _Complaints(path, skip_bad)
    examples = bad.sift(rows_of(path), lambda row: _example(row, root, specs))
    examples = _with_enough_training(examples, bad)
    if not examples:
        raise ValueError(
            f"`from_manifest`: expected rows that can be used in {path}. Received: none, {len(bad.lines)} skipped."
        )
    class_names = _class_names({example.label for example in examples})
    labels = [class_names.index(example.label) for example in examples]
    rows = split_rows([example.split for example in examples], labels, [example.key for example in examples])
    if isinstance(text, Text):
        specs["text"] = text
    else:
        specs["text"] = learn_text((examples[row].text or "" for row in rows["train"]), text, split, max_tokens)
    columns = {
        name: _column(name, specs[name], examples)
        for name in _MODALITIES
        if any(getattr(example, name) for example in examples)
    }
    return build(path.stem, columns, labels, class_names, rows, bad.in_order())


@dataclass(frozen=True)
class _Example:
    line: int
    key: str
    label: str
    split: str
    image: str | None
    audio: str | None
    text: str | None


class _Complaints:
    """Raises at a bad row, or notes it and goes on."""

    def __init__(self, path: Path, skip: bool):
        self.path = path
        self.skip = skip
        self.lines: list[tuple[int, str]] = []

    def sift(self, items: Sequence, use: Callable) -> list:
        """Returns what `use` makes of the items that it does not refuse."""
        good = []
        for item in items:
            try:
                good.append(use(item))
            except ValueError as error:
                if not self.skip:
                    raise ValueError(
                        f"`from_manifest`: line {item.line} of {self.path}: {error}, or leave such rows out by "
                        "`skip_bad=True`."
                    ) from error
                self.lines.append((item.line, f"line {item.line}: {error}."))
        return good

    def in_order(self) -> tuple[str, ...]:
        """Returns the notes by line."""
        return tuple(note for _, note in sorted(self.lines))


def _example(row: Row, root: Path, specs: dict[str, Image | Audio]) -> _Example:
    cells = row.cells
    if row.fault:
        raise ValueError(row.fault)
    if "label" not in cells:
        raise ValueError("it has no label. Fill in `label`")
    if not set(cells) - {"label", "split"}:
        raise ValueError(f"it has no modality. Fill in one of {', '.join(COLUMNS[:4])}")
    if "text" in cells and "text_file" in cells:
        raise ValueError("it has both `text` and `text_file`. Keep one")
    if cells.get("split", "train") not in _SPLITS:
        raise ValueError(f"its split is {shortened(repr(cells['split']))}. Write train, validation or test")
    content = {key: value for key, value in sorted(cells.items()) if key != "split"}

    def image(file: Path) -> str:
        refuse_huge(file)
        read_image(str(file), specs["image"])
        return str(file)

    def audio(file: Path) -> str:
        read_audio(str(file), specs["audio"])
        return str(file)

    return _Example(
        line=row.line,
        key=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        label=cells["label"],
        split=_SPLITS[cells.get("split", "train")],
        image=_opened(cells, "image", root, image),
        audio=_opened(cells, "audio", root, audio),
        text=cells.get("text") or _opened(cells, "text_file", root, _text),
    )


def _text(file: Path) -> str:
    text = read_text(file).strip()
    if not text:
        raise ValueError("it is empty")
    return text


_KINDS = {"image": "an image", "audio": "a WAV", "text_file": "a UTF-8 text"}


def _opened(cells: dict[str, str], column: str, root: Path, read: Callable[[Path], str]) -> str | None:
    """Returns what `read` makes of the file that a cell names, and names the file if it cannot."""
    if column not in cells:
        return None
    file = root / cells[column]
    name = shortened(str(file))
    if not _is_inside(file, root):
        raise ValueError(f"{column} {name} is outside of {root}. Copy it there, or give a folder of all as `root`")
    if not _is_there(file):
        raise ValueError(f"{column} {name} does not exist. Correct the path")
    try:
        return read(file)
    except (OSError, ValueError, tf.errors.OpError) as error:
        # TensorFlow's own text spans lines and names its kernels.
        reason = "TensorFlow cannot decode it" if isinstance(error, tf.errors.OpError) else error
        raise ValueError(f"{column} {file} is not {_KINDS[column]} that can be read ({reason}). Replace it") from error


def _is_inside(file: Path, root: Path) -> bool:
    """Whether a file lies in a folder, wherever links lead to."""
    try:
        return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))
    except (OSError, ValueError):  # no name that a file could have
        return True


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that is too long
        return False


def _with_enough_training(examples: list[_Example], bad: _Complaints) -> list[_Example]:
    while True:
        needed = 1 + len(lacking([example.split for example in examples]))
        counts = Counter(example.label for example in examples if example.split == "train")

        def check(example: _Example, needed=needed, counts=counts) -> _Example:
            if counts[example.label] < needed:
                label = shortened(repr(example.label))
                raise ValueError(
                    f"its label {label} has {counts[example.label]} training rows, and {needed} are needed. Add some"
                )
            return example

        kept = bad.sift(examples, check)
        # Rows that went may have been the last of their split, which is then cut from training.
        if len(kept) == len(examples):
            return kept
        examples = kept


def _class_names(labels: set[str]) -> list[str]:
    whole = all(label.isdecimal() for label in labels)
    return sorted(labels, key=(lambda label: (int(label), label)) if whole else None)


def _column(name: str, spec: Image | Audio | Text, examples: list[_Example]) -> Column:
    values = [getattr(example, name) for example in examples]
    present = np.array([value is not None for value in values])
    if name == "text":
        return Column(spec, np.stack([spec.encode(value or "") for value in values]), tf.identity, present)
    paths = np.array([value or "" for value in values], dtype=object)
    if name == "image":
        return Column(spec, paths, lambda path: read_image(path, spec), present)
    return Column(
        spec, paths, lambda path: tf.numpy_function(lambda p: read_audio(p, spec), [path], tf.float32), present
    )
