"""From values per example to one number, weighed and masked as Keras weighs its own losses."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


class Reduction(keras.losses.Loss):
    """Keras's own masking, weighting, averaging and scaling over replicas, for values that are computed already."""

    def call(self, y_true, y_pred):
        return y_pred


_reduce = Reduction(dtype="float32")


def weighted_mean(values: Any, sample_weight: Any = None) -> Any:
    """Mean over all values, each weighed as a compiled Keras loss would weigh it.

    `Σ w_i v_i / n` over the n values that their mask keeps.

    Args:
        values: Values per example, shape `(batch, ...)`, which may carry a mask (see `with_mask_of`).
        sample_weight: Weights of shape `(batch,)` or more, or `None`.

    Returns:
        A float32 scalar.

    Example:
        >>> float(weighted_mean(ops.array([1.0, 3.0]), ops.array([1.0, 2.0])))
        3.5
    """
    return _reduce(values, values, _like(values, sample_weight))


def mask_of(tensor: Any) -> Any:
    """The mask that Keras layers pass on with a tensor, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def with_mask_of(tensor: Any, values: Any) -> Any:
    """Gives values the mask of the tensor they were computed from, spread over their shape."""
    return with_mask(mask_of(tensor), values)


def with_mask(mask: Any, values: Any) -> Any:
    """Gives values a mask of fewer, as many or more dimensions; `None` is none."""
    mask = _like(values, mask)
    if mask is not None:
        values._keras_mask = ops.broadcast_to(mask, ops.shape(values))
    return values


def kept(values: Any, mask: Any) -> Any:
    """Zeros and ones of the shape of the values: which of them a mask keeps; `None` without a mask."""
    mask = _like(values, mask)
    return None if mask is None else ops.broadcast_to(ops.cast(mask, "float32"), ops.shape(values))


def _like(values: Any, weights: Any) -> Any:
    """Weights of the values' rank: places are averaged away or added, from the end."""
    if weights is None:
        return None
    weights = ops.convert_to_tensor(weights)
    boolean = keras.backend.standardize_dtype(weights.dtype) == "bool"
    rank = len(values.shape)
    extra = tuple(range(rank, len(weights.shape)))
    if extra:
        weights = ops.any(weights, axis=extra) if boolean else ops.mean(ops.cast(weights, "float32"), axis=extra)
    for _ in range(len(weights.shape), rank):
        weights = ops.expand_dims(weights, -1)
    return weights


def by_output(structure: Any, names: list[str]) -> dict[str, Any]:
    """Labels or sample weights by the student's output: one for all, by key, or by position.

    Args:
        structure: A tensor, a list or dict of them, or `None`.
        names: Names of the student's outputs.

    Returns:
        One entry for each name; `None` where there is none.

    Example:
        >>> by_output({"b": 2, "a": 1}, ["a", "b"]), by_output(7, ["a", "b"])
        ({'a': 1, 'b': 2}, {'a': 7, 'b': 7})
    """
    if isinstance(structure, Mapping):
        return {name: structure.get(name) for name in names}
    if isinstance(structure, list | tuple):
        structure = structure if len(structure) == len(names) else [structure[0]] * len(names)
        return dict(zip(names, structure, strict=True))
    return dict.fromkeys(names, structure)


def mean_of(weights: Mapping[str, Any]) -> Any:
    """The weight of an example as a whole, for values that belong to no output: the mean over the outputs.

    Args:
        weights: Sample weights by output, each of shape `(batch, ...)` or `None`.

    Returns:
        Weights of shape `(batch,)`, an output without a weight counting 1; where all outputs share one tensor, that
        tensor; `None` where there are none.
    """
    if len({id(weight) for weight in weights.values()}) < 2:
        return next(iter(weights.values()), None)
    flat = [ops.cast(1.0 if weight is None else weight, "float32") for weight in weights.values()]
    return sum(ops.mean(weight, axis=tuple(range(1, len(weight.shape)))) for weight in flat) / len(flat)


class Weighing:
    """What a batch says of how much its values count: applied to the values of an objective, its one number.

    Attributes:
        labels: Labels by the student's output.

    Args:
        y: Labels, in any structure that Keras takes.
        sample_weight: Sample weights, likewise.
        loss_weights: The compiled weights of the outputs, likewise.
        names: Names of the student's outputs.
    """

    def __init__(self, y: Any, sample_weight: Any, loss_weights: Any, names: list[str]):
        self.labels = by_output(y, names)
        weights = by_output(sample_weight, names)
        self._weights = {**weights, None: mean_of(weights)}
        self._factors = {name: 1.0 if w is None else w for name, w in by_output(loss_weights, names).items()}

    def __call__(self, values: Mapping[str | None, Any]) -> Any:
        """Mean of an objective's values by output, the outputs weighed like `loss_weights` and added up."""
        return sum(
            self._factors.get(name, 1.0) * weighted_mean(of_output, self._weights[name])
            for name, of_output in values.items()
        )
