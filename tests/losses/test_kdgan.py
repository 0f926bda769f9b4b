"""The formulas of KDGAN's three players, beside SciPy, finite differences and what draws of classes must amount to."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax
from scipy.stats import gumbel_r, norm

from keras_kd.losses.kdgan import concrete, found_out, three_way_discrimination


def drawn(shape, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(scale=2.0, size=shape), draw.uniform(size=shape)


def gradient_of(function, *tensors):
    tensors = [tf.Variable(tensor, dtype="float32") for tensor in tensors]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(function(*tensors))
    return [np.asarray(gradient) for gradient in tape.gradient(total, tensors)]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 10.0])
def test_concrete_is_the_softmax_of_logits_and_gumbel_noise(temperature):
    logits, uniform = drawn((6, 5))
    expected = softmax((logits + gumbel_r.ppf(uniform)) / temperature, axis=-1)
    value = concrete(np.float32(logits), np.float32(uniform), temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_concrete_names_each_class_as_often_as_its_probability():
    draws, classes = 20000, np.array([0.5, 0.3, 0.15, 0.05])
    _, uniform = drawn((draws, 4), seed=1)
    samples = np.asarray(concrete(np.log(classes), np.float32(uniform), temperature=0.1))
    shares = np.bincount(samples.argmax(-1), minlength=4) / draws
    reach = norm.ppf(1 - 1e-4) * np.sqrt(classes * (1 - classes) / draws)
    assert np.all(np.abs(shares - classes) < reach), shares


def test_concrete_at_a_low_temperature_is_one_hot_and_at_a_high_one_even():
    logits, uniform = drawn((8, 5))
    winners = (logits + gumbel_r.ppf(uniform)).argmax(-1)
    np.testing.assert_allclose(concrete(logits, uniform, 1e-3), np.eye(5)[winners], atol=1e-6)
    np.testing.assert_allclose(concrete(logits, uniform, 1e6), np.full((8, 5), 0.2), atol=1e-4)


def test_concrete_lets_the_gradient_through_to_the_logits():
    logits, uniform = drawn((3, 4))
    weights = np.arange(12.0).reshape(3, 4)
    gradient = gradient_of(lambda z: weights * concrete(z, np.float32(uniform), 0.7), logits)[0]
    noise, expected, step = gumbel_r.ppf(uniform), np.zeros((3, 4)), 1e-6
    for index in np.ndindex(3, 4):
        shift = np.zeros((3, 4))
        shift[index] = step
        rise = [(weights * softmax((logits + sign * shift + noise) / 0.7, axis=-1)).sum() for sign in (1, -1)]
        expected[index] = (rise[0] - rise[1]) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_concrete_of_the_ends_of_the_uniform_draw_and_of_large_logits():
    lowest, highest = 0.0, np.nextafter(np.float32(1), np.float32(0))
    never = np.asarray(concrete([[0.0, 0.0]], [[lowest, 0.5]]))
    assert never[0, 0] == pytest.approx(softmax([-np.log(-np.log(1e-37)), gumbel_r.ppf(0.5)])[0], rel=1e-4)
    assert np.asarray(concrete([[0.0, 0.0]], [[highest, 0.5]]))[0, 0] > 0.999
    large = [[1e4, -1e4, 0.0]]
    np.testing.assert_array_equal(concrete(large, [[0.5, 0.5, 0.5]], 0.1), [[1.0, 0.0, 0.0]])
    gradient = gradient_of(lambda z: concrete(z, [[0.5, 0.5, 0.5]], 0.1)[:, 0], large)[0]
    np.testing.assert_array_equal(gradient, [[0.0, 0.0, 0.0]])


def test_concrete_computes_in_float32():
    assert concrete(tf.zeros((1, 2), "float16"), tf.fill((1, 2), 0.5)).dtype == tf.float32


def test_found_out_is_the_log_of_what_is_left_to_one():
    scores = np.linspace(-8, 8, 33)
    np.testing.assert_allclose(found_out(scores), np.log1p(-expit(scores)), rtol=1e-4)


def test_found_out_falls_by_the_probability_of_a_true_label():
    scores = np.array([-1e4, -3.0, 0.0, 3.0, 1e4])
    np.testing.assert_allclose(gradient_of(found_out, scores)[0], -expit(scores), rtol=1e-5)
    np.testing.assert_allclose(found_out([1e4, -1e4]), [-1e4, 0.0])


def test_three_way_discrimination_on_a_batch_by_hand():
    teacher, student, labels = [0.0, 1.0], [2.0, -1.0], [1.0, -2.0]
    expected = [
        -np.log(expit(y)) - 0.25 * np.log(1 - expit(s)) - 0.75 * np.log(1 - expit(t))
        for t, s, y in zip(teacher, student, labels, strict=True)
    ]
    np.testing.assert_allclose(three_way_discrimination(teacher, student, labels, alpha=0.25), expected, rtol=1e-5)


def test_three_way_discrimination_moves_each_score_towards_its_side():
    scores = np.array([-1e4, -1.0, 0.5, 1e4])
    gradients = gradient_of(lambda t, s, y: three_way_discrimination(t, s, y, 0.3), scores, scores, scores)
    for gradient, expected in zip(gradients, (0.7 * expit(scores), 0.3 * expit(scores), -expit(-scores)), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("alpha", "left_out"), [(1.0, 0), (0.0, 1)])
def test_a_forger_of_no_share_has_no_say(alpha, left_out):
    scores = [np.array([0.3]), np.array([-0.4]), np.array([1.1])]
    spoilt = [score + 50.0 * (index == left_out) for index, score in enumerate(scores)]
    np.testing.assert_array_equal(
        three_way_discrimination(*scores, alpha=alpha), three_way_discrimination(*spoilt, alpha=alpha)
    )


def test_the_best_discriminator_knows_the_share_of_true_labels():
    """Of a label that is true with probability u and forged with c and t: p = u / (u + αc + (1 - α)t)."""
    u, c, t, alpha = 0.6, 0.3, 0.1, 0.4
    scores = np.linspace(-5, 5, 20001)
    value = u * np.log(expit(scores)) + (alpha * c + (1 - alpha) * t) * np.log(1 - expit(scores))
    best = scores[value.argmax()]
    score = tf.Variable(best, dtype="float32")
    with tf.GradientTape() as tape:
        parts = three_way_discrimination([score, -50.0, -50.0], [-50.0, score, -50.0], [50.0, 50.0, score], alpha)
        # One label as each of the three gives it, weighed by how often: in each, the other two have nothing to say.
        total = t * parts[0] + c * parts[1] + u * parts[2]
    assert expit(best) == pytest.approx(u / (u + alpha * c + (1 - alpha) * t), abs=1e-3)
    assert float(tape.gradient(total, score)) == pytest.approx(0.0, abs=1e-4)
