"""`MultimodalSource`: what every set of examples with several modalities looks like once it is loaded."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_kd.data.multimodal.modalities import Modality, Text

SPLITS = ("train", "validation", "test")
GREATEST_LENGTH = 2**20  # of a text that a file tells


@dataclass(frozen=True)
class MultimodalSource:
    """A classification data set whose examples have several modalities, unbatched and in a stable order.

    The three splits are disjoint `tf.data.Dataset`s of `(x, y)`. `x` is a dict by modality: images are float32 in
    [0, 1], audio is float32 in [-1, 1] at the rate of its `Audio`, text is int32 ids. Where some example of the set
    lacks some modality, `x` has a bool `"<modality>_present"` beside every modality, and what is absent is zeros. `y`
    is the int64 index of the class. `keras_kd.data.pipeline` batches the splits as it does those of a `Source`.

    Args:
        name: what the set is called.
        train: examples to learn from.
        validation: examples to choose by.
        test: examples to report on.
        class_names: name of each class, in the order of the labels.
        modalities: what each modality is, by name: an `Image`, `Audio` or `Text`.
        skipped: one line for each row of a manifest that could not be used.

    Example:
        >>> from keras_kd.data import multimodal
        >>> source = multimodal.tones_and_digits()
        >>> source.num_classes, source.has_missing, sorted(source.modalities)
        (10, False, ['audio', 'image', 'text'])
        >>> x, y = next(iter(source.train))
        >>> x["image"].shape, x["audio"].shape, x["text"].shape
        (TensorShape([8, 8, 1]), TensorShape([2000]), TensorShape([10]))
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...]
    modalities: Mapping[str, Modality]
    skipped: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def has_missing(self) -> bool:
        """Whether `x` says which modalities are present."""
        return set(self.train.element_spec[0]) != set(self.modalities)

    def save_vocabulary(self, path: str | os.PathLike) -> Path:
        """Writes the vocabulary of each text modality, which a deployed model needs, as JSON.

        Args:
            path: file to write.

        Returns:
            The path of the file.

        Raises:
            ValueError: if the set has no text.
        """
        texts = {name: asdict(spec) for name, spec in self.modalities.items() if isinstance(spec, Text)}
        if not texts:
            raise ValueError(
                f"`save_vocabulary`: expected a source with text. Received: {self.name!r} with "
                f"{', '.join(self.modalities)}."
            )
        path = Path(path)
        path.write_text(json.dumps(texts, ensure_ascii=False, indent=1), "utf-8")
        return path


def load_vocabulary(path: str | os.PathLike) -> dict[str, Text]:
    """Reads what `MultimodalSource.save_vocabulary` wrote.

    Args:
        path: the file.

    Returns:
        A `Text` by modality, whose `encode` turns text into ids.

    Raises:
        ValueError: if the file is not one of `save_vocabulary`.

    Example:
        >>> import tempfile
        >>> from keras_kd.data import multimodal
        >>> source = multimodal.tones_and_digits()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = source.save_vocabulary(f"{folder}/vocabulary.json")
        ...     load_vocabulary(path) == {"text": source.modalities["text"]}
        True
    """
    try:
        stored = json.loads(Path(path).read_text("utf-8"))
        return {name: _text(**spec) for name, spec in stored.items()}
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"`load_vocabulary`: expected a file that `save_vocabulary` wrote. Received: {path}, which is not one."
        ) from error


def _text(length: int, vocabulary: list[str], split: str) -> Text:
    """A `Text` of what a file says, which may be anything."""
    if isinstance(length, bool) or not isinstance(vocabulary, list):
        raise TypeError("The length is no number, or the vocabulary no list.")
    if not all(isinstance(token, str) for token in vocabulary):
        raise TypeError("The vocabulary holds what is no text.")
    text = Text(length, tuple(vocabulary), split)
    if length > GREATEST_LENGTH:
        raise ValueError("No example would fit into memory.")
    return text


@dataclass(frozen=True)
class Column:
    """One modality of all examples: what is stored of each, and how that becomes a tensor.

    Args:
        spec: what the modality is.
        stored: one entry per example, along the first axis: a path, an index or the value itself.
        read: from one entry to the tensor, in a graph.
        present: which examples have the modality.
    """

    spec: Modality
    stored: np.ndarray
    read: Callable[[tf.Tensor], tf.Tensor]
    present: np.ndarray


def build(
    name: str,
    columns: Mapping[str, Column],
    labels: Sequence[int],
    class_names: Sequence[str],
    rows: Mapping[str, np.ndarray],
    skipped: Sequence[str] = (),
) -> MultimodalSource:
    """Makes the source of whole columns.

    Args:
        name: what the set is called.
        columns: the modalities.
        labels: class index of each example.
        class_names: name of each class.
        rows: which examples belong to each split, in their order.
        skipped: one line for each row left out.

    Returns:
        The source.
    """
    used = np.concatenate([rows[split] for split in SPLITS])
    has_missing = not all(column.present[used].all() for column in columns.values())
    labels = np.asarray(labels, "int64")
    return MultimodalSource(
        name=name,
        class_names=tuple(class_names),
        modalities={key: column.spec for key, column in columns.items()},
        skipped=tuple(skipped),
        **{split: _dataset(columns, labels, rows[split], has_missing) for split in SPLITS},
    )


def _dataset(columns: Mapping[str, Column], labels: np.ndarray, rows: np.ndarray, has_missing: bool) -> tf.data.Dataset:
    def read(stored, present, label):
        x = {}
        for name, column in columns.items():
            zeros = tf.zeros(column.spec.shape, column.spec.dtype)
            value = tf.cond(present[name], lambda c=column, n=name: c.read(stored[n]), lambda z=zeros: z)
            x[name] = tf.ensure_shape(value, column.spec.shape)
            if has_missing:
                x[f"{name}_present"] = present[name]
        return x, label

    stored = {name: column.stored[rows] for name, column in columns.items()}
    present = {name: column.present[rows] for name, column in columns.items()}
    return tf.data.Dataset.from_tensor_slices((stored, present, labels[rows])).map(read, tf.data.AUTOTUNE)
