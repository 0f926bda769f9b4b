import itertools
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, logsumexp, softmax

from keras_kd.cache.codecs import Sampled, TopK
from keras_kd.losses import jensen_shannon, reverse_kl, soft_target_kl
from keras_kd.outcomes import SampledClasses, TopClasses

few = settings(deadline=None, max_examples=60, derandomize=True)
CLASSES = 6
rows = arrays("float32", (2, CLASSES), elements=st.floats(-50, 50, width=32))
temperatures = st.floats(0.5, 10)


def draw(*shape, seed=0, scale=4.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype("float32")


def top_classes(logits, k, temperature=2.0, dtype="float16"):
    codec = TopK(k, temperature, dtype)
    said = codec.decode(codec.encode(logits, np.random.default_rng(0)))
    return TopClasses(said["classes"], said["logits"], logits.shape[-1], temperature)


def grouped(logits, classes, temperature):
    """Logarithms of the probabilities of some classes and of the others together, row by row."""
    log_p = log_softmax(np.asarray(logits, "float64") / temperature, axis=-1)
    together = []
    for row, ids in zip(log_p.reshape(-1, log_p.shape[-1]), np.reshape(classes, (-1, classes.shape[-1])), strict=True):
        others = [value for place, value in enumerate(row) if place not in ids]
        together.append([*row[ids], logsumexp(others)])
    return np.reshape(together, (*classes.shape[:-1], -1))


def kl(log_p, log_q):
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def full_kl(teacher, student, temperature):
    whole = [log_softmax(np.asarray(logits, "float64") / temperature, axis=-1) for logits in (teacher, student)]
    return temperature**2 * kl(*whole)


def grouped_kl(said, student):
    """Of what was stored, rounded as it is, beside the student's classes put together in float64."""
    log_p = np.asarray(said.logits, "float64") / said.temperature
    return said.temperature**2 * kl(log_softmax(log_p, -1), grouped(student, said.classes, said.temperature))


def rounding_of_float16(log_p, log_q):
    """The most that storing log ratios in float16 can change `KL(p || q)`.

    A ratio r moves by at most `ε = max(|r| 2^-11, 2^-25)`, the normaliser by `log Σ p e^ε`, `log p` by `A`, the sum of
    the two; `KL(p̃ || q) - KL(p || q) = Σ p̃ log(p̃ / p) + Σ (p̃ - p) log(p / q)` and `p̃ <= p e^A`.
    """
    moved = np.maximum(np.abs(log_p - log_p[..., :1]) * 2.0**-11, 2.0**-25)
    moved = moved + logsumexp(log_p + moved, axis=-1, keepdims=True)
    return np.sum(np.exp(log_p) * (np.exp(moved) * moved + np.expm1(moved) * np.abs(log_p - log_q)), axis=-1)


def rounding_of_float32(temperature, greatest=50.0):
    """Of `T² (log p - log q)`: each is the difference of numbers up to `2 max|z| / T`, a few times rounded."""
    return temperature**2 * 8 * 2.0**-23 * (1 + 2 * greatest / temperature)


def gradient_of(said, student, dtype="float32", loss=soft_target_kl):
    student = tf.Variable(student, dtype=dtype)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(*said.paired_with(student), said.temperature))
    return np.asarray(tape.gradient(total, student), "float64")


def finite_differences(function, student, step=1e-4):
    gradient = np.zeros(student.shape)
    for index in np.ndindex(student.shape):
        shift = np.zeros(student.shape)
        shift[index] = step
        gradient[index] = (function(student + shift).sum() - function(student - shift).sum()) / (2 * step)
    return gradient


@few
@given(rows, rows, st.integers(1, CLASSES - 1), temperatures)
def test_kl_of_top_classes_is_a_lower_bound_of_the_full_one(teacher, student, k, temperature):
    said = top_classes(teacher, k, temperature)
    value = soft_target_kl(*said.paired_with(student), temperature)
    slack = rounding_of_float32(temperature)
    np.testing.assert_allclose(value, grouped_kl(said, student), rtol=1e-6, atol=slack)
    exact = [grouped(logits, said.classes, temperature) for logits in (teacher, student)]
    stored = temperature**2 * rounding_of_float16(*exact)
    assert np.all(np.abs(value - temperature**2 * kl(*exact)) <= stored + slack)
    assert np.all(value >= -slack)
    assert np.all(value <= full_kl(teacher, student, temperature) * (1 + 1e-6) + stored + slack)


@few
@given(rows, rows, temperatures)
def test_all_classes_but_one_say_all(teacher, student, temperature):
    said = top_classes(teacher, CLASSES - 1, temperature, "float32")
    value = soft_target_kl(*said.paired_with(student), temperature)
    expected = full_kl(teacher, student, temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=rounding_of_float32(temperature))


def test_the_bound_rises_with_k_to_the_full_kl():
    teacher, student = draw(50, CLASSES), draw(50, CLASSES, seed=1)
    full = full_kl(teacher, student, 2.0)
    values = [
        np.asarray(soft_target_kl(*top_classes(teacher, k, 2.0, "float32").paired_with(student), 2.0))
        for k in range(1, CLASSES)
    ]
    for lower, higher in itertools.pairwise(values):
        assert np.all(lower <= higher + 1e-5)
    np.testing.assert_allclose(values[-1], full, rtol=1e-5)
    assert values[0].mean() < 0.8 * full.mean()


def test_it_sees_what_renormalised_top_classes_hide():
    # Both have 2 : 1 for the first two classes; the rest is 1/4 of the teacher and 5/8 of the student.
    teacher, student = np.log(np.float32([[4, 2, 1, 1]]) / 8), np.log(np.float32([[2, 1, 3, 2]]) / 8)
    said = top_classes(teacher, 2, temperature=1.0, dtype="float32")
    renormalised = soft_target_kl(teacher[:, :2], student[:, :2], 1.0)
    np.testing.assert_allclose(renormalised, [0.0], atol=1e-7)
    value = soft_target_kl(*said.paired_with(student), 1.0)
    np.testing.assert_allclose(value, [0.75 * math.log(2) + 0.25 * math.log(0.4)], rtol=1e-5)


def test_it_sees_a_rest_that_one_less_the_sum_would_clamp():
    # 1 - q_0 is 0 in float32 for both students, whose rests are e^-30 and e^-60.
    teacher, student = np.float32([[0.0, -7.0, -8.0]] * 2), np.float32([[0, -30, -90], [0, -60, -90]])
    assert np.all(1 - softmax(student, -1)[:, 0] == 0)
    value = np.asarray(soft_target_kl(*top_classes(teacher, 1, 1.0, "float32").paired_with(student), 1.0))
    rest = (math.exp(-7) + math.exp(-8)) / (1 + math.exp(-7) + math.exp(-8))
    np.testing.assert_allclose(value[1] - value[0], 30 * rest, rtol=1e-5)


@pytest.mark.parametrize("loss", [soft_target_kl, reverse_kl, jensen_shannon])
def test_every_loss_compares_the_same_outcomes(loss):
    teacher, student = draw(4, CLASSES), draw(4, CLASSES, seed=1)
    said = top_classes(teacher, 3, 2.0, "float32")
    expected = loss(*(2.0 * grouped(logits, said.classes, 2.0) for logits in (teacher, student)), 2.0)
    np.testing.assert_allclose(loss(*said.paired_with(student), 2.0), expected, rtol=1e-4)


def test_the_student_is_t_log_q_of_the_classes_and_of_the_rest():
    student = draw(4, 3, CLASSES, seed=1)
    said = top_classes(draw(4, 3, CLASSES), 2, 3.0)
    teacher, paired = said.paired_with(student)
    np.testing.assert_array_equal(teacher, said.logits)
    np.testing.assert_allclose(paired, 3.0 * grouped(student, said.classes, 3.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 4.0), ("float32", 1e4), ("float16", 4.0), ("float16", 1e4)])
def test_gradient_of_top_classes_equals_finite_differences(dtype, scale):
    said = top_classes(draw(3, CLASSES), 2)
    student = draw(3, CLASSES, seed=1, scale=scale).astype("float16").astype("float64")
    expected = finite_differences(lambda logits: grouped_kl(said, logits), student, step=1e-4 if scale == 4 else 1e-2)
    rtol = 1e-4 if dtype == "float32" else 2.0**-10  # the gradient is float16, too
    np.testing.assert_allclose(gradient_of(said, student, dtype), expected, rtol=rtol, atol=1e-5)


def test_gradient_where_all_logits_are_equal():
    said = TopClasses(np.array([[1]]), np.log(np.float32([[0.5, 0.5]])), num_classes=4, temperature=1.0)
    # q = 1/4 and 3/4: the gradient of the class is 1/4 - 1/2, the rest share the opposite.
    np.testing.assert_allclose(gradient_of(said, np.full((1, 4), 7.0)), [[1 / 12, -1 / 4, 1 / 12, 1 / 12]], rtol=1e-5)


def test_top_is_the_greatest_class():
    logits = draw(5, 4, CLASSES)
    np.testing.assert_array_equal(top_classes(logits, 3).top, logits.argmax(-1))


def unbiased_pair():
    return np.log(np.float64([[0.5, 0.3, 0.2]])), np.float64([[0.4, -0.3, 1.1]])


def gradient_of_all(teacher, student, temperature):
    return temperature * (softmax(student / temperature, -1) - softmax(teacher / temperature, -1))


def test_the_mean_gradient_of_all_draws_is_the_full_gradient():
    teacher, student = unbiased_pair()
    p = softmax(teacher[0] / 2.0)
    mean = np.zeros((1, 3))
    for pair in itertools.product(range(3), repeat=2):
        mean += p[pair[0]] * p[pair[1]] * gradient_of(SampledClasses(np.array([pair]), 3, 2.0), student)
    np.testing.assert_allclose(mean, gradient_of_all(teacher, student, 2.0), atol=1e-6)


def test_the_gradient_of_renormalised_top_classes_is_not_the_full_one():
    teacher, student = unbiased_pair()
    p, q = np.exp(teacher[0]), softmax(student[0])
    truncated = q - np.array([0.625, 0.375, 0.0])
    kept = np.where([[True, True, False]], teacher, -1e30)
    with tf.GradientTape() as tape:
        logits = tf.Variable(student, dtype="float32")
        value = soft_target_kl(kept, logits, 1.0)
    np.testing.assert_allclose(tape.gradient(value, logits)[0], truncated, atol=1e-6)
    # Every time, however long one trains: the third class is pushed away by all that it has.
    np.testing.assert_allclose(truncated - (q - p), [-0.125, -0.075, 0.2], atol=1e-12)


def test_drawn_by_the_codec_the_mean_gradient_is_within_four_standard_errors():
    teacher, student = np.repeat(draw(1, 5, scale=1.5), 20000, 0), np.repeat(draw(1, 5, seed=1, scale=1.5), 20000, 0)
    codec = Sampled(3, 2.0)
    classes = codec.decode(codec.encode(teacher, np.random.default_rng(7)))["classes"]
    gradients = gradient_of(SampledClasses(classes, 5, 2.0), student)
    error = gradients.std(axis=0, ddof=1) / np.sqrt(len(gradients))
    away = gradients.mean(axis=0) - gradient_of_all(teacher, student, 2.0)[0]
    assert np.all(np.abs(away) <= 4 * error), away / error
    assert np.all(error < 0.01), error


@few
@given(rows, arrays("int32", (2, 4), elements=st.integers(0, CLASSES - 1)), temperatures)
def test_value_and_gradient_of_drawn_classes(student, classes, temperature):
    said = SampledClasses(classes, CLASSES, temperature)
    shares = np.array([[list(ids).count(place) / 4 for place in range(CLASSES)] for ids in classes])
    log_q = log_softmax(student.astype("float64") / temperature, axis=-1)
    entropy = [math.fsum(share * math.log(share) for share in row if share) for row in shares]
    value = soft_target_kl(*said.paired_with(student), temperature)
    expected = temperature**2 * (entropy - np.sum(shares * log_q, axis=-1))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=rounding_of_float32(temperature))
    np.testing.assert_allclose(
        gradient_of(said, student), temperature * (np.exp(log_q) - shares), rtol=1e-4, atol=1e-5 * temperature
    )


def test_drawn_classes_by_hand():
    classes = np.array([[[2, 2], [0, 1]]])
    teacher, student = SampledClasses(classes, 3, 2.0).paired_with(np.float16([[[1, 2, 3], [4, 5, 6]]]))
    half = 2 * math.log(0.5)
    np.testing.assert_allclose(teacher, np.float32([[[-1e30, -1e30, 0.0], [half, half, -1e30]]]), rtol=1e-6)
    np.testing.assert_array_equal(student, np.float32([[[1, 2, 3], [4, 5, 6]]]))
    assert teacher.dtype == student.dtype == tf.float32


def said_of(kind, shape, k=2):
    """What a teacher says, by arrays of `classes` and `logits`."""
    said = top_classes(draw(*shape), k)
    if kind is TopClasses:
        return (said.classes, said.logits), lambda classes, logits: TopClasses(classes, logits, shape[-1], 2.0)
    return (said.classes,), lambda classes: SampledClasses(classes, shape[-1], 2.0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(4, CLASSES), (2, 3, CLASSES), (2, 3, 2, CLASSES)])
@pytest.mark.parametrize("kind", [TopClasses, SampledClasses])
def test_graph_equals_eager_for_any_leading_dimensions(kind, shape, compiled):
    arrays_said, make = said_of(kind, shape)
    student = draw(*shape, seed=1)

    def value(student, *arrays):
        return soft_target_kl(*make(*arrays).paired_with(student), 2.0)

    tensors = (student, *arrays_said)
    specs = [tf.TensorSpec([*[None] * (tensor.ndim - 1), tensor.shape[-1]], tensor.dtype) for tensor in tensors]
    traced = tf.function(value, input_signature=specs, jit_compile=compiled)
    expected = value(student, *arrays_said)
    assert expected.shape == shape[:-1]
    np.testing.assert_allclose(traced(student, *arrays_said), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "outcomes"), [(TopClasses, 3), (SampledClasses, CLASSES)])
@pytest.mark.parametrize("leading", [(None,), (None, None), (4, 3)])
def test_symbols_have_the_shapes_of_tensors(kind, outcomes, leading):
    arrays_said, make = said_of(kind, (4, CLASSES))
    symbols = [keras.KerasTensor((*leading, array.shape[-1]), dtype=array.dtype.name) for array in arrays_said]
    teacher, student = make(*symbols).paired_with(keras.KerasTensor((*leading, CLASSES), dtype="float16"))
    assert teacher.shape == student.shape == (*leading, outcomes)
    assert teacher.dtype == student.dtype == "float32"


def test_no_gradient_to_the_teacher():
    said = top_classes(draw(3, CLASSES), 2)
    teacher = tf.Variable(said.logits)
    with tf.GradientTape() as tape:
        paired = TopClasses(said.classes, teacher, CLASSES, 2.0).paired_with(draw(3, CLASSES, seed=1))
        value = soft_target_kl(*paired, 2.0) + tf.reduce_sum(paired[0])
    assert tape.gradient(value, teacher) is None


@pytest.mark.parametrize("kind", [TopClasses, SampledClasses])
def test_a_student_of_other_classes_is_refused(kind):
    arrays_said, make = said_of(kind, (4, CLASSES))
    text = (
        f"`{kind.__name__}`: the student must give logits of the teacher's 6 classes. Received: student logits of "
        "shape (4, 7). Give the student as many outputs, or cache a teacher of the same classes."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make(*arrays_said).paired_with(keras.KerasTensor((4, 7)))
