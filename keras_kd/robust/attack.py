"""Projected gradient ascent in the inputs: the worst that a small perturbation does to a model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_kd.losses import hard_labels
from keras_kd.losses.tensors import targets_of
from keras_kd.probabilities import scores_by_graph

STARTS = ("uniform", "normal", None)
# Of the width of the value range.
NORMAL_DEVIATION = 0.001
# The sign is the same, and gradients of examples that a model is sure of do not vanish in float16.
GRADIENT_SCALE = 2.0**8


@dataclass(frozen=True)
class PGD:
    """The attack as a setting, for any loss.

    `x' ← clip(x' + step_size · sign(∇ loss(x')), x ± epsilon, value_range)`, `steps` times.

    Args:
        epsilon: Greatest change of a value, in the units of the inputs, `> 0`. Defaults to 8/255.
        step_size: Change in one step, `> 0`. Defaults to a quarter of `epsilon`.
        steps: Number of steps, `>= 1`. Defaults to 10.
        value_range: Least and greatest value of the inputs. Defaults to (0, 1).
        start: Where to begin: `"uniform"` in the ball, `"normal"` beside the input with standard deviation 0.001 of
            the value range, or `None`, at the input. Defaults to `"uniform"`.

    Raises:
        ValueError: If an argument is out of range.
    """

    epsilon: float = 8 / 255
    step_size: float | None = None
    steps: int = 10
    value_range: Sequence[float] = (0.0, 1.0)
    start: str | None = "uniform"

    def __post_init__(self):
        _check_positive("epsilon", self.epsilon)
        if self.step_size is None:
            object.__setattr__(self, "step_size", self.epsilon / 4)
        _check_positive("step_size", self.step_size)
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"`PGD`: `steps` must be an integer >= 1. Received: steps={self.steps!r}.")
        _check_range(self.value_range)
        object.__setattr__(self, "value_range", tuple(map(float, self.value_range)))
        if self.start not in STARTS:
            raise ValueError(f"`PGD`: `start` must be one of {list(STARTS)}. Received: start={self.start!r}.")

    def __call__(self, loss: Callable[[Any], Any], x: Any, seed: Any) -> Any:
        """Raises the loss of each example.

        Args:
            loss: Values per example, of inputs like `x`.
            x: Floating inputs of shape `(batch, ...)`, within the value range.
            seed: A number, or a `keras.random.SeedGenerator`, which moves on.

        Returns:
            Adversarial examples, of shape and dtype of `x`, cut off from every gradient.

        Raises:
            ValueError: If the inputs are not floating, or have no say in the loss.
            tf.errors.InvalidArgumentError: If the inputs leave the value range; dropped where XLA compiles.
        """
        x = ops.convert_to_tensor(x)
        if not x.dtype.is_floating:
            raise ValueError(
                f"`PGD`: only floating inputs can be attacked. Received: {x.dtype.name}. Cast and scale them to "
                f"{self.value_range}."
            )
        x = self._within_the_range(x)
        low = tf.maximum(x - self.epsilon, self.value_range[0])
        high = tf.minimum(x + self.epsilon, self.value_range[1])

        def climb(adversarial):
            step = self.step_size * tf.sign(_input_gradient(loss, adversarial))
            return (tf.clip_by_value(adversarial + step, low, high),)

        begin = tf.clip_by_value(x + self._start(x, seed), low, high)
        # A loop, so that the graph of a step does not grow with the number of steps.
        (adversarial,) = tf.while_loop(lambda _: True, climb, (begin,), maximum_iterations=self.steps)
        return tf.stop_gradient(adversarial)

    def _start(self, x: tf.Tensor, seed: Any) -> Any:
        if self.start == "uniform":
            return keras.random.uniform(ops.shape(x), -self.epsilon, self.epsilon, dtype=x.dtype.name, seed=seed)
        if self.start == "normal":
            deviation = NORMAL_DEVIATION * (self.value_range[1] - self.value_range[0])
            return keras.random.normal(ops.shape(x), stddev=deviation, dtype=x.dtype.name, seed=seed)
        return tf.zeros_like(x)

    def _within_the_range(self, x: tf.Tensor) -> tf.Tensor:
        low, high = tf.reduce_min(x), tf.reduce_max(x)
        wanted = f"PGD: scale the inputs to value_range={self.value_range}. Received, least and greatest:"
        inside = (low >= self.value_range[0]) & (high <= self.value_range[1])
        with tf.control_dependencies([tf.debugging.Assert(inside, [wanted, low, high])]):
            return tf.identity(x)


def pgd(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    epsilon: float = 8 / 255,
    step_size: float | None = None,
    steps: int = 20,
    value_range: Sequence[float] = (0.0, 1.0),
    start: str | None = "uniform",
    seed: Any = None,
) -> Any:
    r"""Adversarial examples by projected gradient descent, in the L∞ ball around the inputs.

    `x' ← clip(x' + step_size · sign(∇_x' CE(model(x'), y)), x ± epsilon, value_range)`, `steps` times. The model
    runs in inference mode; nothing of it moves.

    Args:
        model: Gives class logits of shape `(batch, ..., classes)` for one tensor.
        x: Inputs of shape `(batch, ...)`, any float dtype, within `value_range`.
        y: Integers of shape `(batch, ...)` or `(batch, ..., 1)`, or scores `(batch, ..., classes)`, which count by
            their greatest.
        epsilon: Greatest change of a value, in the units of the inputs, `> 0`. Defaults to 8/255.
        step_size: Change in one step, `> 0`. Defaults to a quarter of `epsilon`.
        steps: Number of steps, `>= 1`. Defaults to 20.
        value_range: Least and greatest value of the inputs. Defaults to (0, 1).
        start: Where to begin: `"uniform"` in the ball, `"normal"` beside the input (standard deviation 0.001 of the
            value range), or `None`, at the input. Defaults to `"uniform"`.
        seed: A number, or a `keras.random.SeedGenerator`. Defaults to Keras's own, that of `set_random_seed`.

    Returns:
        Adversarial examples, of shape and dtype of `x`.

    Raises:
        ValueError: If an argument is out of range, the model gives probabilities, or its inputs cannot be attacked.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
        >>> model.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]])])
        >>> pgd(model, np.array([[0.5, 0.5]], "float32"), [0], epsilon=0.25, seed=0).numpy()
        array([[0.25, 0.75]], dtype=float32)

    Reference:
        Madry, Makelov, Schmidt, Tsipras, Vladu. Towards Deep Learning Models Resistant to Adversarial Attacks. 2018.
        arXiv:1706.06083. On MNIST the paper takes 40 steps of 0.01 within 0.3, on CIFAR-10 steps of 2/255 within 8/255.
    """
    refuse_scores("pgd", model)
    attack = PGD(epsilon, step_size, steps, value_range, start)
    return attack(lambda inputs: label_loss(y, model(inputs, training=False)), x, seed)


def label_loss(labels: Any, logits: Any) -> Any:
    """Cross-entropy with the labels: values of shape `(batch, ...)`."""
    return hard_labels(targets_of(labels, logits), logits)


def refuse_scores(owner: str, model: keras.Model) -> None:
    """Checks that a model's graph ends in logits: the gradient of a softmax that is sure of itself vanishes.

    Raises:
        ValueError: If it is known to end in probabilities.
    """
    scores = scores_by_graph(model)
    found = set(scores.outputs.values()) & {"softmax", "sigmoid"} if scores else ()
    if found:
        raise ValueError(
            f"`{owner}`: the model must give logits. Received: `{model.name}`, whose output is a {found.pop()}. End it "
            "in a layer without activation."
        )


def _input_gradient(loss: Callable[[Any], Any], inputs: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        total = GRADIENT_SCALE * tf.reduce_sum(loss(inputs))
    gradient = tape.gradient(total, inputs)
    if gradient is None:
        raise ValueError("`PGD`: the model has no gradient by its inputs: it casts them to integers, or ignores them.")
    return gradient


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"`PGD`: `{name}` must be a number > 0. Received: {name}={value!r}.")


def _check_range(value_range: Any) -> None:
    pair = isinstance(value_range, tuple | list) and len(value_range) == 2
    if not pair or not all(isinstance(end, int | float) for end in value_range) or not value_range[0] < value_range[1]:
        raise ValueError(
            "`PGD`: `value_range` must be the least and the greatest value of the inputs, as in (0, 1). Received: "
            f"value_range={value_range!r}."
        )
