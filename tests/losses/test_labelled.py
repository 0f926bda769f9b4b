import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from keras_kd.losses import decoupled, normalized, soft_target_cross_entropy, soft_target_kl, weighted_soft_labels
from tests.losses.cases import labelled

few = settings(deadline=None, max_examples=25, derandomize=True)
rows = arrays("float32", (2, 4), elements=st.floats(-20, 20, width=32))
labels = arrays("int64", (2,), elements=st.integers(0, 3))
temperatures = st.floats(0.5, 20)

P, Q = np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]), np.array([[0.25, 0.25, 0.5], [0.1, 0.3, 0.6]])
LABELS = np.array([0, 2])
every = pytest.mark.parametrize("loss", [decoupled, normalized, weighted_soft_labels])


def check(loss, expected, *arguments, labels=LABELS, **keywords):
    value = loss(np.log(P), np.log(Q), labels, *arguments, **keywords)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def gradient_of(loss, teacher, student, labels, **arguments):
    student = tf.Variable(student, dtype="float32")
    with tf.GradientTape() as tape:
        value = loss(tf.constant(teacher, "float32"), student, labels, **arguments)
    return np.asarray(value), np.asarray(tape.gradient(value, student))


def test_decoupled_by_hand():
    target = [
        0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75),
        0.6 * np.log(0.6 / 0.6) + 0.4 * np.log(0.4 / 0.4),
    ]
    rest = [
        0.5 * np.log(0.5 / (1 / 3)) + 0.5 * np.log(0.5 / (2 / 3)),
        0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75),
    ]
    check(decoupled, np.array(target) + 8 * np.array(rest), 1.0)
    check(decoupled, 3 * np.array(target) + 2 * np.array(rest), 1.0, 3.0, 2.0)


def test_normalized_by_hand():
    target = [-0.5 * np.log(0.25), -0.6 * np.log(0.6)]
    rest = [-0.5 * np.log(1 / 3) - 0.5 * np.log(2 / 3), -0.5 * np.log(0.25) - 0.5 * np.log(0.75)]
    check(normalized, np.array(target) + 1.5 * np.array(rest))
    check(normalized, np.array(target) + 0.5 * np.array(rest), 0.5)


def test_weighted_soft_labels_by_hand():
    weights = [1 - np.exp(-np.log(0.25) / np.log(0.5)), 1 - np.exp(-1)]
    cross_entropies = [-np.sum(p * np.log(q)) for p, q in zip(P, Q, strict=True)]
    check(weighted_soft_labels, np.array(weights) * cross_entropies, 1.0)


@few
@given(rows, rows, labels, temperatures)
def test_decoupled_with_the_teachers_own_weights_is_soft_targets(teacher, student, labels, temperature):
    # KL(p || q) = KL(binary) + (1 - p_t) KL(rest), the decomposition that the paper starts from.
    p = softmax(np.float64(teacher) / temperature, -1)
    others = 1 - np.take_along_axis(p, labels[:, None], -1)[:, 0]
    value = decoupled(teacher, student, labels, temperature, 1.0, others.astype("float32"))
    expected = soft_target_kl(teacher, student, temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=2e-5 * temperature**2)


def test_the_temperature_of_normalized_is_of_the_rest_alone():
    teacher, student, labels = np.log(P), np.log(Q), LABELS
    at_1, at_3 = (
        np.float64(normalized(teacher, student, labels, gamma, temperature))
        for gamma, temperature in ((0.0, 1.0), (0.0, 3.0))
    )
    np.testing.assert_array_equal(at_1, at_3)
    rest = normalized(teacher, student, labels, 1.0, 3.0) - at_3
    expected = []
    for p, q, label in zip(teacher, student, labels, strict=True):
        expected += [-9 * softmax(np.delete(p, label) / 3) @ log_softmax(np.delete(q, label) / 3)]
    np.testing.assert_allclose(rest, expected, rtol=1e-5)


@few
@given(rows, rows, labels, temperatures, st.floats(-30, 30, width=32))
def test_a_constant_added_to_logits_changes_nothing(teacher, student, labels, temperature, shift):
    for loss in (decoupled, normalized):
        value = loss(teacher, student, labels, temperature=temperature)
        tolerance = {"rtol": 1e-3, "atol": 2e-4 * temperature**2}
        shifted = loss(teacher + shift, student - shift, labels, temperature=temperature)
        np.testing.assert_allclose(shifted, value, **tolerance)


@every
def test_labels_in_every_form_give_the_same(loss):
    expected = loss(np.log(P), np.log(Q), LABELS)
    smoothed = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
    for labels in (LABELS[:, None], np.eye(3)[LABELS], smoothed, LABELS.astype("float32"), LABELS.astype("uint8")):
        np.testing.assert_array_equal(loss(np.log(P), np.log(Q), labels), expected)


@every
def test_labels_of_a_map_in_every_form_give_the_same(loss):
    draw = np.random.default_rng(0)
    teacher, student = draw.normal(size=(2, 2, 3, 4, 5)).astype("float32")
    labels = draw.integers(0, 5, (2, 3, 4))
    expected = getattr(labelled, loss.__name__)(np.float64(teacher), np.float64(student), labels)
    for form in (labels, labels[..., None], np.eye(5)[labels]):
        np.testing.assert_allclose(loss(teacher, student, form), expected, rtol=2e-5)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_outside_the_classes_leaves_no_target(label):
    teacher, student = np.log(P[:1]), np.log(Q[:1])
    expected = {
        decoupled: (8 * soft_target_kl(teacher, student, 4.0), 8 * 4 * (softmax(student / 4) - softmax(teacher / 4))),
        normalized: (1.5 * soft_target_cross_entropy(teacher, student, 1.0), 1.5 * (Q[:1] - P[:1])),
        weighted_soft_labels: ([0.0], np.zeros((1, 3))),
    }
    for loss, (value, gradient) in expected.items():
        received = gradient_of(loss, teacher, student, [label])
        np.testing.assert_allclose(received[0], value, rtol=1e-5, err_msg=loss.__name__)
        np.testing.assert_allclose(received[1], gradient, rtol=1e-4, atol=1e-6, err_msg=loss.__name__)


@pytest.mark.parametrize("label", [0, 1])
def test_two_classes_have_no_rest(label):
    teacher, student = np.array([[1.0, 3.0]]), np.array([[2.0, 0.5]])
    value, gradient = gradient_of(decoupled, teacher, student, [label])
    np.testing.assert_allclose(value, soft_target_kl(teacher, student, 4.0), rtol=1e-5)
    np.testing.assert_allclose(gradient, 4 * (softmax(student / 4) - softmax(teacher / 4)), rtol=1e-4)
    value, gradient = gradient_of(normalized, teacher, student, [label])
    p, q, target = softmax(teacher)[0, label], softmax(student), np.eye(2)[[label]]
    np.testing.assert_allclose(value, [-p * np.log(q[0, label])], rtol=1e-5)
    np.testing.assert_allclose(gradient, p * (q - target), rtol=1e-4)


def test_decoupled_is_exact_where_a_probability_rounds_to_one():
    # The target is sure to e^-30 for the teacher and to e^-40 for the student; 1 - p is 0 in float32.
    teacher, student = np.array([[30.0, 0.0, 0.0]]), np.array([[0.0, 40.0, 0.0]])
    value, gradient = gradient_of(decoupled, teacher, student, [0], temperature=1.0, non_target_weight=0.0)
    np.testing.assert_allclose(value, [40.0], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("teacher", "student", "weight"),
    [
        ([200.0, 0.0], [0.0, 1.0], 1.0),  # the teacher's cross-entropy is zero, the student's is not
        ([200.0, 0.0], [300.0, 0.0], 0.0),  # both are
        ([0.0, 0.0], [300.0, 0.0], 0.0),  # the student's is
        ([30.0, 0.0], [30.0, 0.0], 1 - np.exp(-1)),  # both are e^-30, which `1 - p` would round to zero
        ([20.0, 0.0], [19.0, 0.0], 1 - np.exp(-np.e)),
    ],
)
def test_weights_of_soft_labels_at_their_ends(teacher, student, weight):
    teacher, student = np.array([teacher]), np.array([student])
    value, gradient = gradient_of(weighted_soft_labels, teacher, student, [0])
    np.testing.assert_allclose(value, weight * soft_target_cross_entropy(teacher, student, 2.0), rtol=1e-5)
    expected = weight * 2 * (softmax(student / 2) - softmax(teacher / 2))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_default_arguments_are_the_papers():
    teacher, student = np.log(P), np.log(Q)
    for loss, defaults in (
        (decoupled, {"temperature": 4.0, "target_weight": 1.0, "non_target_weight": 8.0}),
        (normalized, {"gamma": 1.5, "temperature": 1.0}),
        (weighted_soft_labels, {"temperature": 2.0}),
    ):
        expected = getattr(labelled, loss.__name__)(teacher, student, LABELS, **defaults)
        np.testing.assert_allclose(loss(teacher, student, LABELS), expected, rtol=1e-5, err_msg=loss.__name__)
