"""Which view a pass over a cached data set shows: that of the epoch."""

from typing import Any

import tensorflow as tf

_MARK = "_keras_kd_passes"


class Passes:
    """Counts the passes over a data set that were read to their end, and sets the view of the next.

    Args:
        views: How many views there are, one after another.
    """

    def __init__(self, views: int):
        self._views = views
        self._number = tf.Variable(0, dtype=tf.int64, trainable=False)

    def views(self) -> tf.data.Dataset:
        """The view of the pass that begins when this is first read, again and again."""

        def of_pass(_):
            return tf.data.Dataset.from_tensors(self._number.read_value() % self._views).repeat()

        return tf.data.Dataset.range(1).flat_map(of_pass)

    def counting(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same data set; a pass that was read to its end counts."""

        def at_end(_):
            with tf.control_dependencies([self._number.assign_add(1)]):
                return dataset.take(tf.constant(0, tf.int64))

        return dataset.concatenate(tf.data.Dataset.range(1).flat_map(at_end))

    def mark(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Lets `passes_of` find this from whatever is made of the data set."""
        setattr(dataset, _MARK, self)
        return dataset

    def begin(self, number: int) -> None:
        """Lets the next pass be that of a given epoch."""
        self._number.assign(number)


def passes_of(data: Any) -> list[Passes]:
    """The passes of the cached data sets that a data set was made of."""
    if not isinstance(data, tf.data.Dataset):
        return []
    # TensorFlow has no public way from a data set to those it was made of.
    found = [passes for source in data._inputs() for passes in passes_of(source)]
    return [*found, getattr(data, _MARK)] if hasattr(data, _MARK) else found


def show_epoch(data: Any, epoch: int) -> None:
    """Lets the next pass over a data set show the view of an epoch; an endless stream counts its own passes."""
    if isinstance(data, tf.data.Dataset) and data.cardinality() != tf.data.INFINITE_CARDINALITY:
        for passes in passes_of(data):
            passes.begin(epoch)
