"""`Source`: what every data set looks like once it is loaded."""

from dataclasses import dataclass
from typing import Literal

import tensorflow as tf


@dataclass(frozen=True)
class Source:
    """A classification data set as stored: unscaled, unbatched, in a stable order.

    The three splits are disjoint `tf.data.Dataset`s of `(x, y)`, where `y` is the int64 index of the class. Their sizes
    are `len(source.train)` and so on.

    Args:
        name: what the set is called.
        kind: "image" (`x` is height, width, channels), "audio" (`x` is a vector of samples) or "features" (`x` is any
            other numeric tensor).
        train: examples to learn from.
        validation: examples to choose by.
        test: examples to report on.
        input_shape: shape of one `x`, `None` where it varies from example to example.
        class_names: name of each class, in the order of the labels.

    Example:
        >>> import keras_kd.data
        >>> source = keras_kd.data.load("digits")
        >>> source.kind, source.input_shape, source.num_classes
        ('image', (8, 8, 1), 10)
        >>> len(source.train), len(source.validation), len(source.test)
        (1167, 130, 500)
    """

    name: str
    kind: Literal["image", "audio", "features"]
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    input_shape: tuple[int | None, ...]
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def held_out_size(size: int) -> int:
    """Returns how many of `size` examples are set aside for one more split: a tenth, at least one.

    Args:
        size: number of examples to cut from.

    Returns:
        The number of examples to set aside.

    Example:
        >>> held_out_size(3000), held_out_size(4)
        (300, 1)
    """
    return max(1, round(size / 10))
