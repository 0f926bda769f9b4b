"""`from_arrays`: examples held in memory."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.data.drawing import require
from keras_kd.data.multimodal.files import padded
from keras_kd.data.multimodal.modalities import Audio, Image, Modality, Text, learn_text
from keras_kd.data.multimodal.source import SPLITS, Column, MultimodalSource, build
from keras_kd.data.multimodal.splitting import lacking, split_rows

_RANGES = {Image: (0, 1), Audio: (-1, 1)}


def from_arrays(
    x: Mapping[str, Any],
    y: Sequence,
    *,
    present: Mapping[str, Sequence[bool]] | None = None,
    splits: Sequence[str] | None = None,
    modalities: Mapping[str, Modality] | None = None,
    rate: int = 8000,
    length: int = 32,
    class_names: Sequence[str] | None = None,
    name: str = "arrays",
) -> MultimodalSource:
    """Makes a source of arrays.

    What a modality is follows from what is given: strings are text, arrays of shape `(height, width)` or
    `(height, width, channels)` per example are images, and vectors are audio. Say otherwise in `modalities`.

    Args:
        x: by modality, of each example its array or string, or `None` where it has none. Images and audio are floats,
            in [0, 1] and [-1, 1], or integers: 8-bit images and 16-bit audio, which are scaled. All images have one
            size; recordings may differ in length and are cut or padded to the longest, or to that of `modalities`.
            Text may also be ids, whole numbers of shape `(length,)`, where `modalities` gives its `Text`.
        y: class index of each example.
        present: by modality, whether each example has it. Defaults to what is not `None`.
        splits: "train", "validation" or "test" for each example. A split that is never named is cut from training, a
            tenth of each class, always the same. Defaults to `None`: all are for training until so cut.
        modalities: what modalities are, by name, for those that do not follow from what is given.
        rate: samples per second of audio.
        length: number of ids of text, whose characters make the vocabulary, those of the training examples.
        class_names: name of each class. Defaults to the numbers.
        name: what the set is called.

    Returns:
        The `MultimodalSource`.

    Raises:
        ValueError: if the arrays do not agree in number, a modality cannot be told, an example does not fit it or has
            none, or a class has too few training examples.

    Example:
        >>> images = np.zeros((20, 4, 4), "uint8") + 255
        >>> words = ["yes", None] * 10
        >>> source = from_arrays({"image": images, "text": words}, [0, 1] * 10, length=3)
        >>> source.has_missing, source.modalities["text"].vocabulary
        (True, ('', '[UNK]', 'e', 's', 'y'))
        >>> x, y = next(iter(source.train))
        >>> float(x["image"][0, 0, 0]), bool(x["text_present"]) == (y == 0)
        (1.0, <tf.Tensor: shape=(), dtype=bool, numpy=True>)
    """
    labels = np.asarray(y)
    require(labels.ndim == 1 and labels.size > 0, "from_arrays", "`y` must be class indices", shape=labels.shape)
    class_names = tuple(map(str, range(int(labels.max()) + 1))) if class_names is None else tuple(class_names)
    splits = ["train"] * len(labels) if splits is None else list(splits)
    _check_labels(labels, splits, class_names)
    masks = _masks(x, len(labels), present or {})
    keys = [hashlib.sha256(str(row).encode()).hexdigest() for row in range(len(labels))]
    rows = split_rows(splits, labels.tolist(), keys)
    columns = {}
    for key, values in x.items():
        spec = (modalities or {}).get(key) or _spec(key, values, masks[key], rows["train"], rate, length)
        columns[key] = column("from_arrays", key, spec, values, masks[key])
    return build(name, columns, labels, class_names, rows)


def column(owner: str, name: str, spec: Modality, values: Sequence, mask: np.ndarray) -> Column:
    """Makes the column of values that are held in memory.

    Args:
        owner: whose arguments they are, for the texts of errors.
        name: the modality.
        spec: what it is.
        values: one per example.
        mask: whether each example has it.

    Returns:
        The column.

    Raises:
        ValueError: if a value does not fit `spec`.
    """
    stored = np.zeros((len(values), *spec.shape), spec.dtype)
    low, high = _RANGES[type(spec)] if not isinstance(spec, Text) else (0, len(spec.vocabulary) - 1)
    for row in np.flatnonzero(mask):
        value = _value(spec, values[row])
        if value.shape != spec.shape:
            raise ValueError(
                f"`{owner}`: expected {name!r} of shape {spec.shape}. Received: shape {value.shape} in example {row}."
            )
        # Written so that NaN does not pass.
        if not (value.min() >= low and value.max() <= high):
            raise ValueError(
                f"`{owner}`: expected {name!r} from {low} to {high}. Received: {value.min():g} to {value.max():g} "
                f"in example {row}."
            )
        stored[row] = value
    return Column(spec, stored, tf.identity, mask)


def _value(spec: Modality, value: Any) -> np.ndarray:
    if isinstance(value, str):
        return spec.encode(value)
    value = np.asarray(value)
    if isinstance(spec, Text):
        return value
    if isinstance(spec, Audio):
        return padded(value / 32768 if value.dtype.kind in "iu" else value, spec)
    value = value.reshape(*value.shape[:2], -1)
    return value / 255 if value.dtype.kind in "iu" else value


def _spec(name: str, values: Sequence, mask: np.ndarray, train: np.ndarray, rate: int, length: int) -> Modality:
    """Tells what a modality is from its examples."""
    held = [values[row] for row in np.flatnonzero(mask)]
    if held and all(isinstance(value, str) for value in held):
        return learn_text((values[row] for row in train if mask[row]), length, "character")
    shapes = {np.shape(value) for value in held}
    ranks = {len(shape) for shape in shapes}
    if ranks == {1} and np.asarray(held[0]).dtype.kind in "fi":
        return Audio(max(shapes)[0], rate)
    if ranks in ({2}, {3}) and len(shapes) == 1:
        return Image(*(*min(shapes), 1)[:3])
    raise ValueError(
        f"`from_arrays`: expected {name!r} to hold strings, vectors, or images of one size. Received: shapes "
        f"{sorted(shapes)[:3]}. Say what it is in `modalities`."
    )


def _masks(x: Mapping[str, Sequence], size: int, present: Mapping[str, Sequence[bool]]) -> dict[str, np.ndarray]:
    sizes = {name: len(values) for name, values in x.items()} | {f"{m}_present": len(v) for m, v in present.items()}
    if not x or set(sizes.values()) != {size} or set(present) - set(x):
        raise ValueError(
            f"`from_arrays`: expected modalities of {size} examples each, as many as `y` has, and `present` of them. "
            f"Received: {sizes}."
        )
    masks = {
        name: np.array([value is not None for value in values]) & np.asarray(present.get(name, True), bool)
        for name, values in x.items()
    }
    if (absent := ~np.any(list(masks.values()), axis=0)).any():
        raise ValueError(
            "`from_arrays`: expected every example to have a modality. Received: none in example "
            f"{np.flatnonzero(absent)[0]}. Leave it out."
        )
    return masks


def _check_labels(labels: np.ndarray, splits: Sequence[str], class_names: Sequence[str]) -> None:
    require(labels.dtype.kind in "iu", "from_arrays", "`y` must be whole numbers", dtype=str(labels.dtype))
    require(len(splits) == len(labels), "from_arrays", "`splits` must be as many as `y`", splits=len(splits))
    unknown = sorted(set(splits) - set(SPLITS))
    require(not unknown, "from_arrays", "`splits` must be train, validation or test", splits=unknown)
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(
            f"`from_arrays`: expected class indices from 0 to {len(class_names) - 1}. Received: {labels.min()} to "
            f"{labels.max()}."
        )
    needed = 1 + len(lacking(splits))
    for label in np.unique(labels):
        count = sum(split == "train" for split, other in zip(splits, labels, strict=True) if other == label)
        if count < needed:
            raise ValueError(
                f"`from_arrays`: expected at least {needed} training examples of each class. Received: {count} of "
                f"class {class_names[label]!r}."
            )
