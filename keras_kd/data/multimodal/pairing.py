"""`pair_by_class`: examples with several modalities, made of sets that have one each."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_kd.data.drawing import whole
from keras_kd.data.inputs import input_transform
from keras_kd.data.multimodal.arrays import column
from keras_kd.data.multimodal.modalities import Image, Modality, learn_text
from keras_kd.data.multimodal.source import SPLITS, Column, MultimodalSource, build
from keras_kd.data.source import Source

Maker = Callable[[np.ndarray, str], Sequence]

_BATCH = 1024


def pair_by_class(
    sources: Mapping[str, Source | Maker],
    *,
    per_class: tuple[int, int, int],
    modalities: Mapping[str, Modality] | None = None,
    length: int = 32,
    seed: int = 0,
    name: str = "pairs",
) -> MultimodalSource:
    """Pairs examples of several sets by their class.

    Within a split and a class, each set's examples come in an order of their own, drawn from `seed`; the i-th example
    is made of the i-th of each. A set that has too few begins again in a new order, so that no example is used twice
    more often than another of its class. Splits are not mixed: what is disjoint in the sets is disjoint in the pairs.

    Args:
        sources: by modality, a `Source` of images or audio; or a function `(labels, split) -> examples` that makes one
            example for each label, given as an int64 array: strings, or arrays of the shape in `modalities`.
        per_class: how many examples of each class there are in training, validation and test.
        modalities: what modalities are, by name. Defaults to what the set stores for images of one size, and to
            characters for strings; audio has no default.
        length: number of ids of strings.
        seed: what the pairs are drawn from.
        name: what the result is called.

    Returns:
        The `MultimodalSource`, with as many examples of each class as of any other. The examples that it uses are held
        in memory, each once.

    Raises:
        ValueError: if the sets do not have the same classes, a split of a set lacks a class, or a modality is not told.

    Example:
        >>> import keras_kd.data
        >>> from keras_kd.data import multimodal
        >>> digits = keras_kd.data.load("digits")
        >>> words = lambda labels, split: multimodal.number_words(labels, languages=["English"], misspelling=0)
        >>> source = pair_by_class({"image": digits, "text": words}, per_class=(5, 1, 2), length=5)
        >>> len(source.train), len(source.validation), len(source.test)
        (50, 10, 20)
        >>> x, y = next(iter(source.test))
        >>> source.modalities["text"].decode(x["text"]) == words([int(y)], "test")[0]
        True

    Reference:
        Vielzeuf, Lechervy, Pateux, Jurie. CentralNet: a Multilayer Approach for Multimodal Fusion. 2018.
        arXiv:1808.07275, where audiovisual MNIST pairs MNIST with spoken digits of the same class.
    """
    for split, count in zip(SPLITS, per_class, strict=True):
        whole("pair_by_class", f"per_class ({split})", count, 1)
    class_names = _class_names(sources)
    labels = [_labels(len(class_names), count, seed, split) for split, count in enumerate(per_class)]
    columns = {}
    for key, source in sources.items():
        spec = (modalities or {}).get(key)
        if isinstance(source, Source):
            columns[key] = _drawn(key, source, spec or _stored_spec(key, source), labels, seed)
        else:
            columns[key] = _made(key, source, spec, labels, length)
    ends = np.cumsum([0, *map(len, labels)])
    rows = {split: np.arange(ends[index], ends[index + 1]) for index, split in enumerate(SPLITS)}
    return build(name, columns, np.concatenate(labels), class_names, rows)


def _class_names(sources: Mapping[str, Source | Maker]) -> tuple[str, ...]:
    names = {key: source.class_names for key, source in sources.items() if isinstance(source, Source)}
    if len(set(names.values())) != 1:
        raise ValueError(f"`pair_by_class`: expected one or more sources with the same classes. Received: {names}.")
    return next(iter(names.values()))


def _stored_spec(name: str, source: Source) -> Modality:
    if source.kind == "image" and None not in source.input_shape and source.input_shape[-1] in (1, 3):
        return Image(*source.input_shape)
    raise ValueError(
        f"`pair_by_class`: expected {name!r} to be images of one size, or to be told in `modalities`. Received: "
        f"{source.kind} of shape {source.input_shape} from {source.name!r}."
    )


def _labels(classes: int, count: int, seed: int, split: int) -> np.ndarray:
    return np.random.default_rng((seed, split)).permutation(np.repeat(np.arange(classes), count))


def _drawn(name: str, source: Source, spec: Modality, labels: Sequence[np.ndarray], seed: int) -> Column:
    """Draws an example of the set for each label, and holds those that it drew."""
    kept, indices, held = [], [], 0
    for number, split in enumerate(SPLITS):
        values, classes = _read(getattr(source, split), input_transform(source, spec.shape))
        # Modalities draw apart from each other: the same order in two sets would pair them always alike.
        rng = np.random.default_rng((seed, number, *name.encode()))
        drawn = np.empty(len(labels[number]), "int64")
        for label in np.unique(labels[number]):
            places = np.flatnonzero(labels[number] == label)
            drawn[places] = _in_turn(np.flatnonzero(classes == label), len(places), rng, (source, split, label))
        used, drawn = np.unique(drawn, return_inverse=True)
        kept.append(values[used])
        indices.append(held + drawn)
        held += len(used)
    examples = tf.constant(np.concatenate(kept))
    stored = np.concatenate(indices)
    return Column(spec, stored, lambda index: tf.gather(examples, index), np.ones(len(stored), bool))


def _read(split: tf.data.Dataset, transform: Callable) -> tuple[np.ndarray, np.ndarray]:
    batches = split.map(lambda x, y: (transform(x), y), tf.data.AUTOTUNE).batch(_BATCH).as_numpy_iterator()
    values, classes = zip(*batches, strict=True)
    return np.concatenate(values), np.concatenate(classes)


def _in_turn(pool: np.ndarray, count: int, rng: np.random.Generator, where: tuple[Source, str, int]) -> np.ndarray:
    """Goes through the pool in random order, again and again."""
    if not len(pool):
        source, split, label = where
        raise ValueError(
            f"`pair_by_class`: expected examples of every class in every split. Received: none of "
            f"{source.class_names[label]!r} in the {split} split of {source.name!r}."
        )
    return np.concatenate([rng.permutation(pool) for _ in range(-(-count // len(pool)))])[:count]


def _made(name: str, make: Maker, spec: Modality | None, labels: Sequence[np.ndarray], length: int) -> Column:
    made = [list(make(wanted, split)) for wanted, split in zip(labels, SPLITS, strict=True)]
    everything = [example for examples in made for example in examples]
    if len(everything) != sum(map(len, labels)):
        raise ValueError(
            f"`pair_by_class`: expected the function for {name!r} to make one example per label. Received: "
            f"{len(everything)} for {sum(map(len, labels))}."
        )
    if spec is None and all(isinstance(example, str) for example in everything):
        spec = learn_text(made[0], length, "character")
    if spec is None:
        raise ValueError(
            f"`pair_by_class`: expected the function for {name!r} to make strings, or {name!r} to be told in "
            f"`modalities`. Received: {type(everything[0]).__name__}."
        )
    return column("pair_by_class", name, spec, everything, np.ones(len(everything), bool))
