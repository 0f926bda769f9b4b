"""Evaluation and calibration data as NumPy batches, in the forms that Keras takes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BATCH_SIZE = 64


def batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield `(x, y)` batches of NumPy arrays; `y` is `None` where there are no labels.

    Args:
        data: `x`, `(x, y)` or `(x, y, sample_weight)` of arrays (a tuple is never two inputs: pass those as a list or
            dictionary), or a batched `tf.data.Dataset` of the same.

    Yields:
        Batches in order, of at most 64 examples when cut from arrays.

    Raises:
        ValueError: if the arrays differ in length.
    """
    if isinstance(data, tf.data.Dataset):
        for element in data.as_numpy_iterator():
            yield unpacked(element)
        return
    x, y = unpacked(data)
    structures = [keras.tree.map_structure(np.asarray, part) for part in (x, y) if part is not None]
    lengths = {array.shape[:1] for array in keras.tree.flatten(structures)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            "Evaluation and calibration data must be arrays with the same number of examples, or a batched "
            f"`tf.data.Dataset`. Received: arrays of lengths {sorted(lengths)}."
        )
    for start in range(0, lengths.pop()[0], BATCH_SIZE):
        window = slice(start, start + BATCH_SIZE)
        parts = keras.tree.map_structure(lambda array, window=window: array[window], structures)
        yield parts[0], parts[1] if y is not None else None


def unpacked(data: Any) -> tuple[Any, Any]:
    """Return `x` and `y` of a tuple; all else, a list of several inputs too, is `x`."""
    return (data, None) if isinstance(data, list) else keras.utils.unpack_x_y_sample_weight(data)[:2]


def batched(
    data: Any,
    specs: Sequence[tf.TensorSpec],
    argument: str,
    *,
    whole: bool,
    student_part: Callable[[Any], Any] = lambda x: x,
) -> Any:
    """Return the data with their examples in batches.

    Args:
        data: as `batches` takes it; a `tf.data.Dataset` may also give one example at a time.
        specs: name, shape and type of every input, in order. The first dimension is the batch.
        argument: what they were given as, for the text of errors.
        whole: whether all of them will be read.
        student_part: picks what the student sees of `x`. Defaults to all of it.

    Returns:
        `data`, batched if they were not.

    Raises:
        ValueError: if all of endless data are to be read.
    """
    if not isinstance(data, tf.data.Dataset):
        return data
    if whole and data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"`export_student`: `{argument}` must have an end. Received: an infinite data set. Say how much of it is "
            f"to be read, with `{argument}.take(n)`."
        )
    x = student_part(unpacked(data.element_spec)[0])
    by_name = isinstance(x, dict) and {spec.name for spec in specs} <= set(x)
    found = [x[spec.name] for spec in specs] if by_name else keras.tree.flatten(x)
    single = len(found) == len(specs) and all(
        one.shape.rank is not None and one.shape.rank == spec.shape.rank - 1
        for one, spec in zip(found, specs, strict=True)
    )
    return data.batch(BATCH_SIZE) if single else data


def named_inputs(x: Any, specs: Sequence[tf.TensorSpec]) -> dict[str, np.ndarray]:
    """Return one array per input by name, in the type that the input takes.

    Args:
        x: a batch: an array, a list or tuple in the order of the inputs, or a dictionary by input name, which may hold
            more than the student takes.
        specs: name, shape and type of every input, in order. The first dimension is the batch.

    Returns:
        Dictionary from input name to array.

    Raises:
        ValueError: if an input is missing, or has another number of dimensions.
    """
    names = [spec.name for spec in specs]
    by_name = isinstance(x, dict) and set(names) <= set(x)
    arrays = [x[name] for name in names] if by_name else keras.tree.flatten(x)
    expected = ", ".join(f"{spec.name} {tuple(spec.shape)}" for spec in specs)
    if len(arrays) != len(names):
        raise ValueError(f"`x` must hold the inputs {expected}. Received: {len(arrays)} arrays{_keys(x)}.")
    arrays = [np.asarray(array, dtype=spec.dtype.as_numpy_dtype) for array, spec in zip(arrays, specs, strict=True)]
    for array, spec in zip(arrays, specs, strict=True):
        if array.ndim != spec.shape.rank:
            raise ValueError(
                f"`x` must be a batch of the inputs {expected}; batch a data set with `dataset.batch(64)`. "
                f"Received: {spec.name} of shape {array.shape}."
            )
    return dict(zip(names, arrays, strict=True))


def single_examples(data: Any, specs: Sequence[tf.TensorSpec], limit: int) -> list[dict[str, np.ndarray]]:
    """Return the first examples of `data`, each as named inputs with a batch of one.

    Args:
        data: as `batches` takes it.
        specs: name, shape and type of every input, in order.
        limit: number of examples at most.

    Returns:
        One dictionary per example.
    """
    examples: list[dict[str, np.ndarray]] = []
    for x, _ in batches(data):
        named = named_inputs(x, specs)
        for index in range(len(next(iter(named.values())))):
            if len(examples) == limit:
                return examples
            examples.append({name: array[index : index + 1] for name, array in named.items()})
    return examples


def _keys(x: Any) -> str:
    return f" under the keys {sorted(x)}" if isinstance(x, dict) else ""
