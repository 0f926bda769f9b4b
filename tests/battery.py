"""The laws that every public loss obeys, beside an oracle written independently in float64 NumPy.

To add a loss: add its `Case` to one of the files in `tests/losses/cases`. `test_battery.py` fails until it is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.weighing import weighted_mean, with_mask_of


def straight(function, teacher, student, **arguments):
    return function(teacher, student, **arguments)


@dataclass(frozen=True)
class Case:
    """A loss, what it must equal, and which laws have a special form for it.

    Attributes:
        loss: The public function.
        oracle: Of the same signature, in float64, without `mask` and `data_format`.
        shape: Of teacher and student.
        arguments: Further arguments of both functions.
        call: Hands teacher and student to either function, where they are not just its first two arguments.
        floor: The value where student = teacher, by teacher; `None` is zero, a divergence or a distance.
        least_at_teacher: Whether the gradient vanishes where student = teacher.
        any_leading: Whether the batch may have any number of leading dimensions: losses of logits.
        relational: Whether the value of an example depends on the others of its batch.
        labels: Whether the functions take integer `labels`.
        masked: Whether the loss takes a `mask`, of places for features, of examples for logits.
        masks_examples: Whether that mask is of examples although there is but one leading dimension.
        scale: Standard deviation of the numbers drawn.
        large: The scale of the law for large numbers.
        teacher_shape: Where it may differ from the student's.
    """

    loss: Callable
    oracle: Callable
    shape: tuple[int, ...] = (6, 5)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    call: Callable = straight
    floor: Callable | None = None
    least_at_teacher: bool = True
    any_leading: bool = True
    relational: bool = False
    labels: bool = False
    masked: bool = False
    masks_examples: bool = False
    scale: float = 3.0
    large: float = 1e4
    teacher_shape: tuple[int, ...] | None = None

    def value(self, teacher, student, **more):
        return self.call(self.loss, teacher, student, **self.arguments, **self.labels_for(student), **more)

    def expected(self, teacher, student, **more):
        teacher, student = np.float64(teacher), np.float64(student)
        return self.call(self.oracle, teacher, student, **self.arguments, **self.labels_for(student), **more)

    def labels_for(self, student):
        """The same label for the same place of a batch, whatever it is cut into."""
        if not self.labels:
            return {}
        shape = tuple(student.shape)[:-1]
        return {"labels": (np.arange(np.prod(shape, dtype=int)) * 7 % 3 % student.shape[-1]).reshape(shape)}

    def batch(self, scale=None, seed=0):
        """Teacher and student, exact in float16, so that every dtype sees the same numbers."""
        draw = np.random.default_rng(seed)
        shapes = (self.teacher_shape or self.shape, self.shape)
        return tuple(
            draw.normal(scale=scale or self.scale, size=shape).astype("float16").astype("float64") for shape in shapes
        )


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


def assert_gradient(gradient, expected, rtol=1e-4):
    """Beside the greatest of them: what is nearly zero is the difference of large numbers."""
    assert_close(gradient, expected, rtol=rtol, atol=max(1e-5, 1e-5 * np.abs(expected).max()))


def equals_the_oracle(case):
    for seed in range(3):
        teacher, student = case.batch(seed=seed)
        expected = case.expected(teacher, student)
        value = case.value(np.float32(teacher), np.float32(student))
        assert tuple(value.shape) == expected.shape, (value.shape, expected.shape)
        assert expected.shape[:1] == case.shape[:1], expected.shape
        assert_close(value, expected)


def graph_equals_eager(case):
    teacher, student = (np.float32(tensor) for tensor in case.batch())
    specs = [tf.TensorSpec((None, *tensor.shape[1:])) for tensor in (teacher, student)]
    if case.labels:  # labels follow the batch, whose size must be known to make them
        specs = [tf.TensorSpec(tensor.shape) for tensor in (teacher, student)]
    traced = tf.function(case.value, input_signature=specs)
    assert_close(traced(teacher, student), case.value(teacher, student), rtol=1e-5, atol=1e-5)


def at_its_floor_where_student_is_teacher(case):
    _, teacher = case.batch()
    same = replace(case, teacher_shape=None)
    expected = np.zeros(same.expected(teacher, teacher).shape) if case.floor is None else case.floor(teacher)
    assert_close(same.value(teacher, teacher), expected)
    if case.least_at_teacher:
        assert_close(tape_gradients(same, teacher, teacher)[1], np.zeros(case.shape))


def gradient_equals_finite_differences(case):
    teacher, student = case.batch()
    assert_gradient(tape_gradients(case, teacher, student)[1], numeric_gradient(case, teacher, student))


def right_when_large(case):
    teacher, student = case.batch(scale=case.large)
    assert_close(case.value(teacher, student), case.expected(teacher, student), atol=1e-2)
    gradient = tape_gradients(case, teacher, student)[1]
    expected = numeric_gradient(case, teacher, student, step=1e-7 * case.large)
    assert_close(gradient, expected, rtol=1e-4, atol=max(1e-3, 1e-5 * np.abs(expected).max()))


def right_in_float16(case):
    for scale in {case.scale, case.large}:
        teacher, student = case.batch(scale=scale)
        value = case.value(np.float16(teacher), np.float16(student))
        assert_close(value, case.expected(teacher, student), atol=1e-2 if scale > 10 else 1e-5)
        gradient = tape_gradients(case, teacher, student, "float16")[1]
        expected = numeric_gradient(case, teacher, student, step=1e-3)
        assert_close(gradient, expected, rtol=1e-3, atol=max(1e-3, 1e-4 * np.abs(expected).max()))


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
    if not (case.relational or case.labels):
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
    if not case.relational:
        spoilt[1] += 100.0
    weights = np.full(len(student), 2.0)
    weights[1] = 0.0
    kept = case.expected(teacher, student)
    expected = np.sum(2.0 * np.delete(kept, 1, axis=0)) / kept.size
    assert_close(weighted_mean(case.value(teacher, student), weights), expected)
    assert_close(weighted_mean(case.value(teacher, spoilt), weights), expected)


def masked_equals_sliced(case):
    """What a mask leaves out has no say: the value is that of the rest alone."""
    teacher, student = case.batch()
    if case.masked and not (case.any_leading or case.masks_examples):
        assert_masked_places_have_no_say(case, teacher, student)
        return
    keep = np.arange(len(student)) % 3 != 1
    masked = tf.constant(np.where(keep.reshape(-1, *[1] * (student.ndim - 1)), student, 100.0))
    masked._keras_mask = tf.constant(keep)
    more = {"mask": masked._keras_mask} if case.masked else {}
    labels = {name: value[keep] for name, value in case.labels_for(student).items()}
    unlabelled = replace(case, labels=False, arguments={**case.arguments, **labels})
    if case.relational and not case.masked:
        expected = case.expected(teacher, np.asarray(masked))[keep].mean()
    else:
        expected = unlabelled.expected(teacher[keep], student[keep]).mean()
    assert_close(weighted_mean(with_mask_of(masked, case.value(teacher, masked, **more))), expected)


def assert_masked_places_have_no_say(case, teacher, student):
    """Of features `(batch, steps, channels)`, the last two steps are padding."""
    flat = replace(case, shape=(4, 7, case.shape[-1]), teacher_shape=None)
    if case.teacher_shape:
        flat = replace(flat, teacher_shape=(4, 7, case.teacher_shape[-1]))
    teacher, student = flat.batch()
    mask = np.broadcast_to(np.arange(7) < 5, (4, 7))
    expected = flat.expected(teacher[:, :5], student[:, :5])
    teacher[:, 5:], student[:, 5:] = 50.0, -70.0
    assert_close(flat.value(teacher, student, mask=mask), expected)


def channels_may_come_first(case):
    """Features of a grid give the same value in either data format, whether named or Keras's own."""
    if case.any_leading or len(case.shape) != 4:
        return
    teacher, student = case.batch()
    first = [np.moveaxis(tensor, -1, 1) for tensor in (teacher, student)]
    expected = case.expected(teacher, student)
    channels_first = replace(case, arguments={**case.arguments, "data_format": "channels_first"})
    assert_close(channels_first.value(*first), expected)
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        assert_close(case.value(*first), expected)
        last = replace(case, arguments={**case.arguments, "data_format": "channels_last"})
        assert_close(last.value(teacher, student), expected)
    finally:
        keras.config.set_image_data_format(before)


LAWS = [
    equals_the_oracle,
    graph_equals_eager,
    at_its_floor_where_student_is_teacher,
    gradient_equals_finite_differences,
    right_when_large,
    right_in_float16,
    no_gradient_to_the_teacher,
    any_leading_dimensions,
    float32_whatever_comes_in,
    weight_zero_has_no_effect,
    masked_equals_sliced,
    channels_may_come_first,
]
