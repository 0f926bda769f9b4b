"""The formulas of the game, against loops in plain Python, and their gradients against finite differences."""

import inspect
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_kd import losses
from keras_kd.losses import adversarial

RNG = np.random.default_rng(0)
TEACHER, STUDENT = RNG.normal(scale=2.0, size=(2, 7))
TEACHER_CLASSES, STUDENT_CLASSES = RNG.normal(scale=2.0, size=(2, 7, 4))
LABELS = np.array([0, 1, 2, 3, 0, 3, 1])
GRADIENTS = RNG.normal(size=(7, 2, 3))


def log_sigmoid(score):
    return -math.log1p(math.exp(-score)) if score > 0 else score - math.log1p(math.exp(score))


def class_entropy(row, label):
    greatest = max(row)
    return greatest + math.log(sum(math.exp(one - greatest) for one in row)) - row[label]


def told_apart(t, s, smoothing=0.0):
    return -(1 - smoothing) * log_sigmoid(t) - smoothing * log_sigmoid(-t) - log_sigmoid(-s)


# The tensors a formula takes, its further arguments, and the value of one example.
CASES = {
    "gan_student": ((STUDENT,), {}, lambda s: -log_sigmoid(s)),
    "gan_discriminator": ((TEACHER, STUDENT), {}, told_apart),
    "smoothed": ((TEACHER, STUDENT), {"label_smoothing": 0.1}, lambda t, s: told_apart(t, s, 0.1)),
    "ac_student": (
        (STUDENT, STUDENT_CLASSES),
        {"labels": LABELS},
        lambda s, row, label: (-log_sigmoid(s) + class_entropy(row, label)) / 2,
    ),
    "ac_discriminator": (
        (TEACHER, STUDENT, TEACHER_CLASSES, STUDENT_CLASSES),
        {"labels": LABELS},
        lambda t, s, teacher_row, student_row, label: (
            (told_apart(t, s) + class_entropy(teacher_row, label) + class_entropy(student_row, label)) / 2
        ),
    ),
    "critic_student": ((STUDENT,), {}, lambda s: -s),
    "hinge_discriminator": ((TEACHER, STUDENT), {}, lambda t, s: max(0, 1 - t) + max(0, 1 + s)),
    "wasserstein_discriminator": ((TEACHER, STUDENT), {}, lambda t, s: s - t),
    "gradient_penalty": ((GRADIENTS,), {}, lambda g: (math.sqrt(sum(one * one for one in g.flat)) - 1) ** 2),
}


def function(name):
    return getattr(adversarial, "gan_discriminator" if name == "smoothed" else name)


def expected(name, tensors):
    _, arguments, of_example = CASES[name]
    rows = zip(*tensors, *([arguments["labels"]] if "labels" in arguments else []), strict=True)
    return np.array([of_example(*row) for row in rows])


def test_every_formula_has_a_case():
    measures = {"named_right", "ranked_right"}
    own = {
        name
        for name, one in vars(adversarial).items()
        if inspect.isfunction(one) and one.__module__.endswith("adversarial")
    }
    assert {name for name in own if not name.startswith("_")} == (set(CASES) - {"smoothed"}) | measures
    assert losses.adversarial is adversarial


@pytest.mark.parametrize("name", CASES)
def test_a_formula_equals_the_loop(name):
    tensors, arguments, _ = CASES[name]
    value = function(name)(*tensors, **arguments)
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, expected(name, tensors), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_finite_differences_and_flow_to_both(name):
    tensors, arguments, _ = CASES[name]
    variables = [tf.Variable(tensor, dtype="float32") for tensor in tensors]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(function(name)(*variables, **arguments))
    for place, gradient in enumerate(tape.gradient(total, variables)):
        for index in np.ndindex(tensors[place].shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [np.array(tensor) for tensor in tensors]
                moved[place][index] += step
                ends.append(expected(name, moved).sum())
            np.testing.assert_allclose(gradient[index], (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", [name for name in CASES if name != "gradient_penalty"])
def test_scores_of_ten_thousand_have_exact_values_and_gradients(name, dtype):
    tensors, arguments, _ = CASES[name]
    # Exact in float16, so that both precisions see the same numbers.
    tensors = [np.float64(np.float16(tensor * 1e4 / np.abs(tensor).max())) for tensor in tensors]
    variables = [tf.Variable(tensor, dtype=dtype) for tensor in tensors]
    with tf.GradientTape() as tape:
        values = function(name)(*variables, **arguments)
    # Beneath 1.2e-38 float32 has no numbers left.
    np.testing.assert_allclose(values, expected(name, tensors), rtol=1e-5, atol=1.2e-38)
    for gradient in tape.gradient(values, variables):
        assert np.abs(gradient).max() <= 1.0
        assert np.abs(gradient).max() > 0.0


def test_the_students_gradient_is_greatest_where_the_discriminator_is_sure():
    # The saturating log(1 - σ) would have gradient -σ(-30), 1e-13, here.
    score = tf.Variable([-30.0])
    with tf.GradientTape() as tape:
        value = adversarial.gan_student(score)
    np.testing.assert_allclose(tape.gradient(value, score), [-1.0], rtol=1e-6)


def test_a_slope_of_zero_is_penalised_by_one_and_has_no_gradient():
    gradients = tf.Variable(np.zeros((2, 3), "float32"))
    with tf.GradientTape() as tape:
        values = adversarial.gradient_penalty(gradients)
    np.testing.assert_array_equal(values, [1.0, 1.0])
    np.testing.assert_array_equal(tape.gradient(values, gradients), np.zeros((2, 3)))


@pytest.mark.parametrize("form", ["one-hot", "smoothed", "column"])
def test_labels_come_in_the_forms_that_keras_knows(form):
    one_hot = np.eye(4)[LABELS]
    labels = {"one-hot": one_hot, "smoothed": 0.9 * one_hot + 0.025, "column": LABELS[:, None]}[form]
    plain = adversarial.ac_student(STUDENT, STUDENT_CLASSES, LABELS)
    np.testing.assert_array_equal(adversarial.ac_student(STUDENT, STUDENT_CLASSES, labels), plain)


def test_smoothed_labels_are_least_at_the_odds_of_the_label():
    # One-sided: 0.9 to 0.1 is a score of log 9 for the teacher, and minus infinity for the student.
    scores = np.linspace(-5, 5, 2001)
    values = np.array(adversarial.gan_discriminator(scores, np.zeros(2001), label_smoothing=0.1))
    np.testing.assert_allclose(scores[values.argmin()], math.log(9), atol=0.005)
    values = np.array(adversarial.gan_discriminator(np.zeros(2001), scores, label_smoothing=0.1))
    assert values.argmin() == 0


def test_accuracies_are_shares_of_the_right_answers():
    teacher, student = np.array([3.0, 3.0, -3.0, -3.0, 0.0]), np.array([-1.0, 1.0, -1.0, 1.0, 0.0])
    np.testing.assert_array_equal(adversarial.named_right(teacher, student), [1.0, 0.5, 0.5, 0.0, 0.5])
    np.testing.assert_array_equal(adversarial.ranked_right(teacher, student), [1.0, 1.0, 0.0, 0.0, 0.5])


def test_spatial_scores_keep_their_places():
    teacher, student = RNG.normal(size=(2, 3, 4, 5))
    values = adversarial.gan_discriminator(teacher, student)
    loop = [[[told_apart(t, s) for t, s in zip(*rows, strict=True)] for rows in zip(*maps, strict=True)]
            for maps in zip(teacher, student, strict=True)]  # fmt: skip
    np.testing.assert_allclose(values, loop, rtol=1e-5)
