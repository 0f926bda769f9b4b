"""Which view a pass over a cached data set shows: that of the epoch."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_kd.cache.examples import size_of

_MARK = "_keras_kd_passes"


class Passes:
    """Counts the passes over a data set that were read to their end, and sets the view of the next.

    Args:
        views: How many views there are, one after another.
    """

    def __init__(self, views: int):
        self._views = views
        # How often a pass was given its number, and the number of the next.
        self._state = tf.Variable([0, 0], dtype=tf.int64, trainable=False)

    def joined(self, function: Callable[..., Any], batches: tf.data.Dataset) -> tf.data.Dataset:
        """Maps `function(element, first, view)`: a batch, the place of its first example, and the view of this pass.

        One batch after another, for the processor is better left to the models; `prefetch` runs it beside them.
        """

        def step(state, element):
            first, view = state
            # The view is settled when a pass begins to be read, and not when its iterator is made.
            view = tf.where(first == 0, self._state[1] % self._views, view) if self._views > 1 else view
            return (first + size_of(element), view), function(element, first, view)

        return batches.scan((tf.constant(0, tf.int64), tf.constant(0, tf.int64)), step)

    def views(self) -> tf.data.Dataset:
        """The view of this pass, when it begins to be read, and nothing else."""
        return self.joined(lambda element, first, view: view, tf.data.Dataset.range(1).batch(1))

    def counting(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same data set; a pass that was read to its end counts."""

        def of_pass(_):
            begun = self._state.read_value()

            def at_end(_):
                # A pass may end late, read ahead by another thread, when the next has been given its number.
                step = tf.cast(tf.reduce_all(tf.equal(self._state, begun)), tf.int64)
                with tf.control_dependencies([self._state.assign_add(tf.stack([0, step]))]):
                    return dataset.take(tf.constant(0, tf.int64))

            return dataset.concatenate(tf.data.Dataset.range(1).flat_map(at_end))

        return tf.data.Dataset.range(1).flat_map(of_pass)

    def mark(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Lets `passes_of` find this from whatever is made of the data set."""
        setattr(dataset, _MARK, self)
        return dataset

    def begin(self, number: int) -> None:
        """Lets the next pass be that of a given epoch."""
        self._state.assign([self._state[0] + 1, number])


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
