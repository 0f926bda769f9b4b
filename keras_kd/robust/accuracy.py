"""How often a model is right, and how often it still is where an attacker has a say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_kd.losses.tensors import targets_of
from keras_kd.robust.attack import PGD, label_loss, refuse_scores

EVALUATION_STEPS, EVALUATION_SEED = 20, 0


@dataclass(frozen=True)
class RobustAccuracy:
    """Accuracy of a model with and without an attack.

    Attributes:
        natural: Share of the examples whose label the model names.
        robust: Share of the adversarial examples whose label it names: an upper bound, a stronger attack leaves less.
        examples: Number of examples.
    """

    natural: float
    robust: float
    examples: int


def robust_accuracy(
    model: keras.Model,
    data: Any,
    *,
    epsilon: float = 8 / 255,
    step_size: float | None = None,
    steps: int = EVALUATION_STEPS,
    value_range: Sequence[float] = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = EVALUATION_SEED,
) -> RobustAccuracy:
    """Natural accuracy, and accuracy under the attack of `pgd` on this very model, from a random start.

    Args:
        model: Gives class logits of shape `(batch, classes)` for one tensor.
        data: Arrays `(x, y)`, or a `tf.data.Dataset` of such batches; labels as for `pgd`.
        epsilon: Greatest change of a value, in the units of the inputs, `> 0`. Defaults to 8/255.
        step_size: Change in one step, `> 0`. Defaults to a quarter of `epsilon`.
        steps: Number of steps, `>= 1`. Defaults to 20.
        value_range: Least and greatest value of the inputs. Defaults to (0, 1).
        batch_size: Size of the batches that arrays are cut into. Defaults to 256.
        seed: Seed of the random start, the same for every batch. Defaults to 0.

    Returns:
        The `RobustAccuracy`.

    Raises:
        ValueError: If an argument is out of range, the model gives probabilities, its inputs cannot be attacked, or
            there are no data.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
        >>> model.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]])])
        >>> x, y = np.array([[0.9, 0.1], [0.6, 0.5], [0.2, 0.7], [0.4, 0.3]], "float32"), np.array([0, 0, 1, 1])
        >>> robust_accuracy(model, (x, y), epsilon=0.1)
        RobustAccuracy(natural=0.75, robust=0.5, examples=4)

    Reference:
        Madry, Makelov, Schmidt, Tsipras, Vladu. Towards Deep Learning Models Resistant to Adversarial Attacks. 2018.
        arXiv:1706.06083.
    """
    refuse_scores("robust_accuracy", model)
    attack = PGD(epsilon, step_size, steps, value_range)
    dataset = _as_dataset(data, batch_size)

    def says(x):
        return model(x, training=False)

    @tf.function(autograph=False)
    def count(x, y):
        return [ops.sum(right) for right in (is_right(says, x, y), is_right(says, x, y, attack, seed))]

    count = count.get_concrete_function(*keras.utils.unpack_x_y_sample_weight(dataset.element_spec)[:2])
    natural = robust = examples = 0
    for batch in dataset:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        found = count(x, y)
        natural, robust, examples = natural + float(found[0]), robust + float(found[1]), examples + len(x)
    if not examples:
        raise ValueError("`robust_accuracy`: `data` must hold examples. Received none.")
    return RobustAccuracy(natural / examples, robust / examples, examples)


def is_right(says: Callable[[Any], Any], x: Any, y: Any, attack: PGD | None = None, seed: Any = None) -> Any:
    """1 where the logits name the label, of the inputs or of what an attack makes of them, else 0: `(batch, ...)`."""
    if attack is not None:
        x = attack(lambda inputs: label_loss(y, says(inputs)), x, seed)
    logits = says(x)
    named = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype="float32")
    return ops.sum(named * targets_of(y, logits), axis=-1)


def _as_dataset(data: Any, batch_size: int) -> tf.data.Dataset:
    if isinstance(data, tf.data.Dataset):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError(
            "`robust_accuracy`: `data` must be arrays `(x, y)` or a `tf.data.Dataset` of batches. Received: a "
            f"{type(data).__name__}."
        )
    return tf.data.Dataset.from_tensor_slices(tuple(data)).batch(batch_size)
