"""Every public loss, beside an oracle written independently in float64 NumPy, and the laws that all of them obey.

To add a loss: add its `Case` to `CASES`. `tests/losses/test_battery.py` fails until it is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import log_softmax, rel_entr, softmax

from keras_kd import losses
from keras_kd.weighing import weighted_mean, with_mask_of


@dataclass(frozen=True)
class Case:
    """A loss, what it must equal, and which laws have a special form for it.

    Attributes:
        loss: The public function.
        oracle: `(teacher, student, **arguments)` in float64.
        shape: Of teacher and student.
        arguments: Further arguments of both functions.
        floor: The value where student = teacher. Zero for a divergence or a distance.
        any_leading: Whether the batch may have any number of leading dimensions.
    """

    loss: Callable
    oracle: Callable
    shape: tuple[int, ...] = (6, 5)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    floor: Callable = lambda teacher, **arguments: np.zeros(teacher.shape[:-1])
    any_leading: bool = True

    def value(self, teacher, student):
        return self.loss(teacher, student, **self.arguments)

    def expected(self, teacher, student):
        return self.oracle(np.float64(teacher), np.float64(student), **self.arguments)

    def batch(self, scale=3.0, seed=0):
        """Teacher and student, exact in float16, so that every dtype sees the same numbers."""
        draw = np.random.default_rng(seed).normal(scale=scale, size=(2, *self.shape))
        return draw.astype("float16").astype("float64")


def kl(teacher, student, temperature=4.0):
    return temperature**2 * rel_entr(softmax(teacher / temperature, -1), softmax(student / temperature, -1)).sum(-1)


def kl_of_any_size(teacher, student, temperature=4.0):
    # `rel_entr` is infinite where a probability underflows.
    log_p, log_q = log_softmax(teacher / temperature, -1), log_softmax(student / temperature, -1)
    return temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), -1)


def cross_entropy(teacher, student, temperature=4.0):
    p = softmax(teacher / temperature, -1)
    return -(temperature**2) * np.einsum("...k,...k", p, log_softmax(student / temperature, -1))


def scaled_entropy(teacher, temperature=4.0):
    log_p = log_softmax(teacher / temperature, -1)
    return -(temperature**2) * np.sum(np.exp(log_p) * log_p, -1)


CASES = {
    "hint": Case(losses.hint, lambda t, s: np.mean((t - s) ** 2, -1), shape=(4, 2, 3)),
    "soft_target_cross_entropy": Case(losses.soft_target_cross_entropy, cross_entropy, floor=scaled_entropy),
    "soft_target_kl": Case(losses.soft_target_kl, kl_of_any_size, arguments={"temperature": 2.5}),
}


def numeric_gradient(case, teacher, student, step=1e-4):
    """Central differences of the oracle's sum by every element of the student."""
    gradient = np.zeros(student.shape)
    for index in np.ndindex(student.shape):
        shift = np.zeros(student.shape)
        shift[index] = step
        rise = case.expected(teacher, student + shift).sum() - case.expected(teacher, student - shift).sum()
        gradient[index] = rise / (2 * step)
    return gradient


def tape_gradients(case, teacher, student, dtype="float32"):
    """Gradients of the loss's sum by teacher and by student."""
    teacher, student = tf.Variable(teacher, dtype=dtype), tf.Variable(student, dtype=dtype)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(case.value(teacher, student))
    return tape.gradient(total, (teacher, student))


def assert_close(value, expected, rtol=2e-5, atol=1e-5):
    np.testing.assert_allclose(np.asarray(value, "float64"), expected, rtol=rtol, atol=atol)


def equals_the_oracle(case):
    for seed in range(3):
        teacher, student = case.batch(seed=seed)
        assert_close(case.value(np.float32(teacher), np.float32(student)), case.expected(teacher, student))


def graph_equals_eager(case):
    teacher, student = np.float32(case.batch())
    open_batch = tf.TensorSpec((None, *case.shape[1:]))
    traced = tf.function(case.value, input_signature=[open_batch, open_batch])
    assert_close(traced(teacher, student), case.value(teacher, student), rtol=1e-6, atol=1e-6)


def at_its_floor_where_student_is_teacher(case):
    teacher, _ = case.batch()
    assert_close(case.value(teacher, teacher), case.floor(teacher, **case.arguments))
    assert_close(tape_gradients(case, teacher, teacher)[1], np.zeros(case.shape))


def gradient_equals_finite_differences(case):
    teacher, student = case.batch()
    assert_close(tape_gradients(case, teacher, student)[1], numeric_gradient(case, teacher, student))


def right_at_1e4(case):
    teacher, student = case.batch(scale=1e4)
    assert_close(case.value(teacher, student), case.expected(teacher, student), atol=1e-2)
    gradient = tape_gradients(case, teacher, student)[1]
    assert_close(gradient, numeric_gradient(case, teacher, student, step=1e-3), rtol=1e-4, atol=1e-3)


def right_in_float16(case):
    for scale in (3.0, 1e4):
        teacher, student = case.batch(scale=scale)
        value = case.value(np.float16(teacher), np.float16(student))
        assert_close(value, case.expected(teacher, student), atol=1e-2 if scale > 10 else 1e-5)
        gradient = tape_gradients(case, teacher, student, "float16")[1]
        assert_close(gradient, numeric_gradient(case, teacher, student, step=1e-3), rtol=1e-3, atol=1e-3)


def no_gradient_to_the_teacher(case):
    gradient = tape_gradients(case, *case.batch())[0]
    assert_close(0.0 if gradient is None else gradient, 0.0, atol=0)


def any_leading_dimensions(case):
    if not case.any_leading:
        return
    wide = replace(case, shape=(2, 3, 4, case.shape[-1]))
    teacher, student = wide.batch()
    value = wide.value(teacher, student)
    assert tuple(value.shape) == (2, 3, 4), value.shape
    assert_close(value, wide.expected(teacher, student))
    assert_close(wide.value(teacher[0, 0, 0], student[0, 0, 0]), wide.expected(teacher, student)[0, 0, 0])


def float32_whatever_comes_in(case):
    teacher, student = case.batch(scale=1.0)
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        value = case.value(tf.cast(teacher, dtype), tf.cast(student, dtype))
        assert value.dtype == tf.float32, (dtype, value.dtype)
        assert tuple(value.shape)[:1] == case.shape[:1], value.shape


def weight_zero_has_no_effect(case):
    teacher, student = case.batch()
    spoilt = student.copy()
    spoilt[1] += 100.0
    weights = np.full(len(student), 2.0)
    weights[1] = 0.0
    kept = case.expected(teacher, student)
    expected = np.sum(2.0 * np.delete(kept, 1, axis=0)) / kept.size
    assert_close(weighted_mean(case.value(teacher, student), weights), expected)
    assert_close(weighted_mean(case.value(teacher, spoilt), weights), expected)


def masked_equals_sliced(case):
    teacher, student = case.batch()
    keep = np.arange(len(student)) % 3 != 1
    masked = tf.constant(np.where(keep.reshape(-1, *[1] * (student.ndim - 1)), student, 100.0))
    masked._keras_mask = tf.constant(keep)
    expected = case.expected(teacher[keep], student[keep]).mean()
    assert_close(weighted_mean(with_mask_of(masked, case.value(teacher, masked))), expected)


LAWS = [
    equals_the_oracle,
    graph_equals_eager,
    at_its_floor_where_student_is_teacher,
    gradient_equals_finite_differences,
    right_at_1e4,
    right_in_float16,
    no_gradient_to_the_teacher,
    any_leading_dimensions,
    float32_whatever_comes_in,
    weight_zero_has_no_effect,
    masked_equals_sliced,
]
