"""The biases of a student whose transfer set had other classes, or other shares of them, than where it will work."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

BATCH_SIZE = 256
_TOLERANCE, _STEPS = 1e-8, 100


def calibrate_bias(
    student: keras.Model,
    data: Any,
    *,
    priors: Sequence[float] | None = None,
    classes: Sequence[int] | None = None,
) -> np.ndarray:
    """Sets the biases of a student's classes so that, over the data, it expects each as often as it comes.

    `b = argmin_b mean_i log Σ_c exp(z_ic + b_c) - Σ_c π_c b_c`, where `mean_i softmax(z_i + b)_c = π_c`.

    A student that never saw a class in its transfer set knows it from the teacher's soft targets all the same, but
    thinks it rare; one number for each class mends that. With the shares of the data's own labels as `π` it is the
    maximum of their likelihood in the biases alone. The student is changed in place; nothing else of it moves.

    Args:
        student: A built classifier with one output `(batch, classes)`, logits or softmax probabilities, and a bias that
            is added to the logits (as in a last `Dense`); or a distiller, whose student is meant.
        data: What the student will see, in its right shares: `(x, y)`, `(x, y, sample_weight)` or `x` alone, as arrays
            or as a batched `tf.data.Dataset`. Labels are integers, or shares of the classes. A few thousand examples
            that it was not trained on are best; with `priors` they need no labels.
        priors: Share of each class, all positive; they are made to add up to one. Defaults to those of the labels.
        classes: The classes whose biases may move; all where None. Of the others, the shares are not met.

    Returns:
        What was added to each bias, shape `(classes,)`; zero for those that may not move. Where all may, its mean is 0.

    Raises:
        ValueError: If there are no labels and no `priors`, if they do not fit the student, if a class has the share
            zero or all of the data, or if the student has no such bias. The student is then as it was.

    Example:
        >>> student = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> x = np.array([[0.0, 0.0], [0.0, 0.0]], "float32")
        >>> added = calibrate_bias(student, x, priors=[0.9, 0.1])
        >>> added.round(4).tolist()   # ± log(9) / 2
        [1.0986, -1.0986]
        >>> keras.ops.softmax(student(x))[0].numpy().round(4)
        array([0.9, 0.1], dtype=float32)

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531, section 3: a bias
        chosen on the test set. Here it is given by the shares of the classes.
    """
    student = getattr(student, "finished_student", getattr(student, "student", student))
    x, logits, shares, weights = _heard(student, data)
    bias = _bias_of(student, x, logits[: len(keras.tree.flatten(x)[0])])
    wanted = _wanted(shares if priors is None else np.asarray(priors, "float64"), logits.shape[1])
    moving = np.zeros(len(wanted), bool)
    moving[np.arange(len(wanted)) if classes is None else _checked_classes(classes, len(wanted))] = True
    _check_shares(wanted, moving)
    added = _solved(logits, weights, wanted, moving)
    bias.assign(bias + keras.ops.convert_to_tensor(added, bias.dtype))
    return added


def _heard(student: keras.Model, data: Any) -> tuple[Any, np.ndarray, np.ndarray | None, np.ndarray]:
    """The first batch, and of all the data: logits, the shares of the labels, and weights that add up to one."""
    first, logits, labels, weights = None, [], [], []
    for x, y, sample_weight in _batches(data):
        said = student.predict_on_batch(x)
        if not hasattr(said, "ndim") or said.ndim != 2 or said.shape[1] < 2:
            raise ValueError(
                f"`calibrate_bias`: `{student.name}` must have one output of shape (batch, classes). Received: "
                f"{keras.tree.map_structure(np.shape, said)}. Build a model that ends in that output alone."
            )
        if not np.isfinite(said).all():
            raise ValueError(
                f"`calibrate_bias`: `{student.name}` must give finite scores. Received: NaN or infinity in batch "
                f"{len(logits)}. Look at how it was trained."
            )
        first = x if first is None else first
        logits.append(_as_logits(said.astype("float64")))
        labels += [] if y is None else [_as_shares(np.asarray(y), said.shape)]
        weights.append(np.ones(len(said)) if sample_weight is None else np.asarray(sample_weight, "float64").ravel())
    if not logits:
        raise ValueError("`calibrate_bias`: `data` must hold at least one batch. Received: none.")
    share = np.concatenate(weights) / sum(batch.sum() for batch in weights)
    return first, np.concatenate(logits), share @ np.concatenate(labels) if labels else None, share


def _batches(data: Any) -> Iterator[tuple[Any, Any, Any]]:
    if hasattr(data, "element_spec"):
        for element in data:
            yield keras.utils.unpack_x_y_sample_weight(element)
        return
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    lengths = {len(array) for part in (x, y, sample_weight) for array in keras.tree.flatten(part) if array is not None}
    if len(lengths) != 1:
        raise ValueError(
            "`calibrate_bias`: the arrays of `data` must hold as many examples as each other. Received: arrays of "
            f"{sorted(lengths)}."
        )
    for start in range(0, lengths.pop(), BATCH_SIZE):
        window = slice(start, start + BATCH_SIZE)
        yield tuple(
            None if part is None else keras.tree.map_structure(lambda array, window=window: array[window], part)
            for part in (x, y, sample_weight)
        )


def _as_logits(said: np.ndarray) -> np.ndarray:
    if (said >= 0).all() and (abs(said.sum(-1) - 1) < 1e-2).all():  # to the precision of float16
        return np.log(np.maximum(said, np.finfo("float32").tiny))
    return said


def _as_shares(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if labels.shape == shape:
        return labels.astype("float64")
    flat = labels.reshape(len(labels), -1)
    if flat.shape != (shape[0], 1) or flat.min() < 0 or flat.max() >= shape[1]:
        raise ValueError(
            f"`calibrate_bias`: labels must be integers from 0 to {shape[1] - 1}, or of shape (batch, {shape[1]}). "
            f"Received: shape {labels.shape}, from {labels.min()} to {labels.max()}."
        )
    return np.eye(shape[1])[flat[:, 0].astype(int)]


def _bias_of(student: keras.Model, x: Any, logits: np.ndarray) -> keras.Variable:
    """The bias that moves the logits one to one, found by moving each that might: so any architecture will do."""
    nudge = np.random.default_rng(0).choice([-2.0, -1.0, 1.0, 2.0], logits.shape[1])
    nudge[:2] = 2.0, -2.0
    for layer in reversed(student._flatten_layers()):
        bias = getattr(layer, "bias", None)
        if not isinstance(bias, keras.Variable) or tuple(bias.shape) != nudge.shape:
            continue
        before = bias.numpy()
        bias.assign(before + nudge)
        moved = _centred(_as_logits(student.predict_on_batch(x).astype("float64")) - logits)
        bias.assign(before)
        if np.abs(moved - _centred(nudge[None])).max() <= 1e-2 * max(1.0, np.abs(logits).max()):
            return bias
    raise ValueError(
        f"`calibrate_bias`: `{student.name}` must have a layer whose bias is added to its {len(nudge)} logits, as the "
        "last `Dense` has. Received: a model without. Train it with `use_bias=True` there."
    )


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(-1, keepdims=True)


def _wanted(shares: np.ndarray | None, count: int) -> np.ndarray:
    if shares is None:
        raise ValueError(
            "`calibrate_bias`: the shares of the classes must be known. Received: data without labels, and "
            "priors=None. Give the `priors`, or data as `(x, y)`."
        )
    if shares.shape != (count,) or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() <= 0:
        raise ValueError(
            f"`calibrate_bias`: `priors` must be {count} shares, none negative. Received: priors={shares.tolist()}."
        )
    return shares / shares.sum()


def _checked_classes(classes: Sequence[int], count: int) -> list[int]:
    chosen = [int(index) for index in classes]
    if not chosen or not set(chosen) <= set(range(count)):
        raise ValueError(
            f"`calibrate_bias`: `classes` must be one or more of 0 to {count - 1}. Received: classes={classes!r}."
        )
    return chosen


def _check_shares(wanted: np.ndarray, moving: np.ndarray) -> None:
    extreme = [index for index in np.flatnonzero(moving) if not 0 < wanted[index] < 1]
    if extreme:
        raise ValueError(
            "`calibrate_bias`: a class whose bias moves must have a share between 0 and 1. Received: "
            f"{', '.join(f'{wanted[index]:g} of class {index}' for index in extreme)}. Give data or `priors` in which "
            "all of them occur, or the other `classes` alone."
        )


def _solved(logits: np.ndarray, weights: np.ndarray, wanted: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Newton's method on the convex function above, each step halved until it goes down."""
    added = np.zeros(len(wanted))
    value, expected, curvature = _function(logits + added, weights, moving)
    for _ in range(_STEPS):
        slope = (expected - wanted)[moving]
        if np.abs(slope).max() < _TOLERANCE:
            break
        step = np.zeros(len(wanted))
        step[moving] = -np.linalg.lstsq(curvature, slope, rcond=None)[0]
        while True:
            found, expected, curvature = _function(logits + added + step, weights, moving)
            if found - wanted @ (added + step) <= value - wanted @ added or np.abs(step).max() < 1e-12:
                break
            step /= 2
        added, value = added + step, found
    return added - added.mean() if moving.all() else added


def _function(logits: np.ndarray, weights: np.ndarray, moving: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean of `log Σ exp z`, its gradient, which is the expected shares, and its second derivatives where it moves."""
    top = logits.max(-1, keepdims=True)
    raised = np.exp(logits - top)
    total = raised.sum(-1, keepdims=True)
    probabilities = raised / total
    expected, seen = weights @ probabilities, probabilities[:, moving]
    curvature = np.diag(expected[moving]) - seen.T @ (weights[:, None] * seen)
    return float(weights @ (top + np.log(total))[:, 0]), expected, curvature
