"""Functions of NumPy arrays, run on tensors: at once, or from within a graph."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.batches import probe_of_spec, spec_of

# Where a size is open, a function is asked at two sizes: what differs between its answers is open too.
_OPEN_SIZES = (8, 9)


class ArrayFunction:
    """A function of NumPy arrays, as one of tensors.

    A graph must know the shapes of an answer before there is one. They are learnt from one answer to a made-up batch,
    for each kind of inputs, and held against all answers that follow.

    Args:
        function: Maps the inputs (an array, or a list or dict of arrays) to an array, or a list or dict of arrays, of
            as many rows.
        name: What it is called in errors.

    Example:
        >>> twice = ArrayFunction(lambda x: 2 * x, "twice")
        >>> tf.function(twice)(tf.ones((1, 3))).numpy().tolist()
        [[2.0, 2.0, 2.0]]
    """

    def __init__(self, function: Callable[[Any], Any], name: str):
        self._function = function
        self._name = name
        self._learnt: dict[str, Any] = {}
        # One call at a time, out of the graphs, replicas and scopes of whoever asks: the function may run a model.
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __call__(self, x: Any) -> Any:
        """Returns the answer as float32 tensors.

        Raises:
            ValueError: If an answer is none, or has other shapes than the answers before it. Within a graph,
                TensorFlow raises it as its own `InvalidArgumentError`.
        """
        # Of an input that is missing, the place is kept.
        present = keras.tree.map_structure(lambda leaf: leaf is not None, x)
        tensors = [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(x) if leaf is not None]
        specs = [spec_of(tensor) for tensor in tensors]
        kind = f"{present} {specs}"
        if tf.executing_eagerly():
            answer = self._ask(present, [tensor.numpy() for tensor in tensors])
            self._check(answer, self._learnt.setdefault(kind, _specs([answer])))
            return keras.tree.map_structure(tf.convert_to_tensor, answer)
        if kind not in self._learnt:
            with tf.init_scope():  # the made-up batch is no part of this graph
                self._learnt[kind] = self._learn(present, specs, rows=tensors[0].shape[0] or 2)
        return self._in_graph(present, tensors, self._learnt[kind])

    def _learn(self, present: Any, specs: Sequence[tf.TensorSpec], rows: int) -> Any:
        answers = []
        for size in _OPEN_SIZES if any(None in spec.shape[1:] for spec in specs) else (0,):
            shapes = [[None, *(size if length is None else length for length in spec.shape[1:])] for spec in specs]
            made_up = [tf.TensorSpec(shape, spec.dtype) for shape, spec in zip(shapes, specs, strict=True)]
            answers.append(self._ask(present, [tensor.numpy() for tensor in probe_of_spec(made_up, rows)]))
        return _specs(answers)

    def _in_graph(self, present: Any, tensors: Sequence[tf.Tensor], learnt: Any) -> Any:
        def ask(*arrays: np.ndarray) -> list[np.ndarray]:
            answer = self._ask(present, arrays)
            self._check(answer, learnt)
            return keras.tree.flatten(answer)

        specs = keras.tree.flatten(learnt)
        answers = tf.numpy_function(ask, tensors, [spec.dtype for spec in specs])
        for answer, spec in zip(answers, specs, strict=True):
            answer.set_shape((tensors[0].shape[0], *spec.shape[1:]))
        return keras.tree.pack_sequence_as(learnt, answers)

    def _ask(self, present: Any, arrays: Sequence[np.ndarray]) -> Any:
        following, rows = iter(arrays), len(arrays[0])
        x = keras.tree.map_structure(lambda here: next(following) if here else None, present)
        said = self._thread.submit(self._function, x).result()
        try:
            answer = keras.tree.map_structure(lambda value: np.asarray(value, "float32"), said)
        except (TypeError, ValueError):
            answer = None
        if answer is None or any(array.shape[:1] != (rows,) for array in keras.tree.flatten(answer)):
            raise ValueError(
                f"`Teacher`: `{self._name}` must answer with an array, or a list or dict of arrays, of a row for each "
                f"of the {rows} examples. Received: {type(said).__name__ if answer is None else shapes_of(answer)}."
            )
        return answer

    def _check(self, answer: Any, learnt: Any) -> None:
        """Holds an answer against those before it."""
        if _paths(answer) == _paths(learnt) and all(
            spec.shape.is_compatible_with(array.shape)
            for spec, array in zip(keras.tree.flatten(learnt), keras.tree.flatten(answer), strict=True)
        ):
            return
        raise ValueError(
            f"`Teacher`: `{self._name}` must answer every batch in the shapes of its first answer, "
            f"{shapes_of(learnt)}. Received: {shapes_of(answer)}."
        )


def shapes_of(structure: Any) -> Any:
    """Shapes in the structure of the tensors that have them."""
    return keras.tree.map_structure(lambda leaf: tuple(getattr(leaf, "shape", ())), structure)


def _specs(answers: Sequence[Any]) -> Any:
    """What answers have in common: any number of rows, and a size where they agree on it."""

    def spec(*arrays: np.ndarray) -> tf.TensorSpec:
        sizes = zip(*(array.shape[1:] for array in arrays), strict=True)
        return tf.TensorSpec((None, *(size if len({size, *others}) == 1 else None for size, *others in sizes)))

    return keras.tree.map_structure(spec, *answers)


def _paths(structure: Any) -> list[Any]:
    return [path for path, _ in keras.tree.flatten_with_path(structure)]
