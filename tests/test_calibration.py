import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

import keras_kd as kd

CLASSES = 4


def build(*last, name="student"):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(CLASSES, name="head")]
    return keras.Sequential([*layers, *last], name=name)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(600, 6)).astype("float32"), rng.choice(CLASSES, 600, p=[0.1, 0.2, 0.3, 0.4])


def most_likely(logits, shares, moving):
    """SciPy's minimum of the cross-entropy in the biases that may move."""

    def cross_entropy(free):
        bias = np.zeros(CLASSES)
        bias[moving] = free
        return logsumexp(logits + bias, axis=1).mean() - shares @ bias

    bias = np.zeros(CLASSES)
    bias[moving] = minimize(cross_entropy, np.zeros(len(moving)), tol=1e-10).x
    return bias


def test_it_is_the_most_likely_bias_and_nothing_else_moves(data):
    student = build()
    before, logits = [weight.numpy() for weight in student.weights], student.predict(data[0], verbose=0)
    added = kd.calibrate_bias(student, data)
    oracle = most_likely(logits.astype("float64"), np.bincount(data[1]) / 600, [0, 1, 2, 3])
    np.testing.assert_allclose(added, oracle - oracle.mean(), atol=1e-4)
    np.testing.assert_allclose(student.predict(data[0], verbose=0), logits + added, atol=1e-5)
    for old, new in zip(before[:-1], student.weights[:-1], strict=True):
        np.testing.assert_array_equal(new, old)
    expected = softmax(student.predict(data[0], verbose=0).astype("float64"), -1).mean(0)
    np.testing.assert_allclose(expected, np.bincount(data[1]) / 600, atol=1e-6)


def test_one_class_alone_moves_until_it_comes_as_often_as_it_should(data):
    student = build()
    logits = student.predict(data[0], verbose=0)
    added = kd.calibrate_bias(student, data[0], priors=[2, 2, 4, 2], classes=[2])
    assert added[[0, 1, 3]].tolist() == [0, 0, 0]
    assert softmax(logits + added, -1)[:, 2].mean() == pytest.approx(0.4, abs=1e-6)


def test_it_finds_again_what_was_taken_away(data):
    student = build()
    x = data[0]
    priors = softmax(student.predict(x, verbose=0).astype("float64"), -1).mean(0)
    student.get_layer("head").bias.assign([0, -9.0, 3.5, 0])
    added = kd.calibrate_bias(student, x, priors=priors)
    np.testing.assert_allclose(added - added[0], [0, 9.0, -3.5, 0], atol=1e-4)


def test_saturated_logits_are_met_too(data):
    student = build()
    student.get_layer("head").kernel.assign(500 * student.get_layer("head").kernel)
    added = kd.calibrate_bias(student, data[0], priors=[0.97, 0.01, 0.01, 0.01])
    expected = softmax(student.predict(data[0], verbose=0).astype("float64"), -1).mean(0)
    np.testing.assert_allclose(expected, [0.97, 0.01, 0.01, 0.01], atol=1e-4)
    assert np.abs(added).max() > 100


@pytest.mark.parametrize("form", ["one-hot", "column", "batched", "weighted", "distiller"])
def test_data_and_students_in_every_form(form, data):
    x, y = data
    expected = kd.calibrate_bias(build(), data)
    student = build()
    if form == "weighted":
        doubled = np.concatenate([np.where(y == 1, 0.0, 2.0), np.where(y == 1, 2.0, 0.0)])
        given = (np.concatenate([x, x]), np.concatenate([y, y]), doubled)
    else:
        given = {
            "one-hot": (x, np.eye(CLASSES)[y]),
            "column": (x, y[:, None]),
            "batched": tf.data.Dataset.from_tensor_slices(data).batch(77),
        }.get(form, data)
    asked = kd.Distiller(student, build(name="teacher")) if form == "distiller" else student
    np.testing.assert_allclose(kd.calibrate_bias(asked, given), expected, atol=1e-6)
    np.testing.assert_allclose(student.get_layer("head").bias, expected, atol=1e-6)


class Subclassed(keras.Model):
    """Its layers of four biases are made in another order than they are called in."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(CLASSES)
        self.body = keras.layers.Dense(CLASSES, activation="relu")
        self.norm = keras.layers.LayerNormalization()

    def call(self, x):
        return self.head(self.norm(self.body(x)))


def pooled():
    """A convolution for each class, then the mean over the places."""
    layers = keras.layers
    return [layers.Reshape((2, 3, 1)), layers.Conv2D(CLASSES, 2, name="head"), layers.GlobalAveragePooling2D()]


@pytest.mark.parametrize("kind", ["softmax", "nested", "subclassed", "pooled", "bfloat16"])
def test_the_bias_is_found_in_any_architecture(kind, data):
    keras.utils.set_random_seed(0)
    if kind == "softmax":
        student = build(keras.layers.Dropout(0.5), keras.layers.Softmax())
    elif kind == "subclassed":
        student = Subclassed()
        student(data[0])
    elif kind == "pooled":
        student = keras.Sequential([keras.Input((6,)), *pooled()])
    elif kind == "bfloat16":
        head = keras.layers.Dense(CLASSES, dtype="mixed_bfloat16")
        student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, dtype="mixed_bfloat16"), head])
    else:
        student = keras.Sequential([keras.Input((6,)), build()])
    said = student.predict(data[0], verbose=0).astype("float64")
    logits = np.log(said) if kind == "softmax" else said
    added = kd.calibrate_bias(student, data)
    said = student.predict(data[0], verbose=0).astype("float64")
    log_p = np.log(said) if kind == "softmax" else log_softmax(said, -1)
    np.testing.assert_allclose(log_p, log_softmax(logits + added, -1), atol=5e-2 if kind == "bfloat16" else 1e-4)
    assert np.abs(added).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, r"the shares of the classes must be known\. Received: data without labels, and priors=None"),
        ({"priors": [0.5, 0.5]}, r"`priors` must be 4 shares, none negative\. Received: priors=\[0\.5, 0\.5\]"),
        ({"priors": [1, 1, -1, 1]}, r"`priors` must be 4 shares, none negative"),
        ({"priors": [1, 1, 0, 2]}, r"must have a share between 0 and 1\. Received: 0 of class 2"),
        (
            {"priors": [1, 1, 1, 1], "classes": [4]},
            r"must be one or more of 0 to 3\. Received: classes=\[4\]",
        ),
        ({"priors": [1, 1, 1, 1], "classes": []}, r"`classes` must be one or more of 0 to 3"),
    ],
)
def test_what_is_wrong_is_said_and_the_student_is_as_it_was(arguments, text, data):
    student = build()
    with pytest.raises(ValueError, match=text):
        kd.calibrate_bias(student, data[0], **arguments)
    assert student.get_layer("head").bias.numpy().tolist() == [0, 0, 0, 0]


def test_labels_that_do_not_fit_are_refused(data):
    x, y = data
    with pytest.raises(ValueError, match=r"integers from 0 to 3, .* Received: shape \(256,\), from 0 to 9"):
        kd.calibrate_bias(build(), (x, np.where(y == 3, 9, y)))
    with pytest.raises(ValueError, match=r"as many examples as each other\. Received: arrays of \[10, 600\]"):
        kd.calibrate_bias(build(), (x, y[:10]))
    with pytest.raises(ValueError, match=r"share between 0 and 1\. Received: 0 of class 3"):
        kd.calibrate_bias(build(), (x[y < 3], y[y < 3]))
    with pytest.raises(ValueError, match="at least one batch"):
        kd.calibrate_bias(build(), tf.data.Dataset.from_tensor_slices(data).batch(9).take(0))


def test_a_student_of_nan_is_told_from_one_without_a_bias(data):
    student = build()
    student.get_layer("head").kernel.assign(np.full((5, CLASSES), np.nan))
    with pytest.raises(ValueError, match=r"`student` must give finite scores\. Received: NaN or infinity in batch 0"):
        kd.calibrate_bias(student, data)


def test_students_without_such_a_bias_are_refused(data):
    headless = keras.Sequential([keras.Input((6,)), keras.layers.Dense(CLASSES, use_bias=False)], name="bare")
    with pytest.raises(ValueError, match=r"`bare` must have a layer whose bias is added to its 4 logits"):
        kd.calibrate_bias(headless, data)
    hidden = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(CLASSES), keras.layers.Rescaling(2.0)], name="twice"
    )
    with pytest.raises(ValueError, match=r"`twice` must have a layer whose bias is added to its 4 logits"):
        kd.calibrate_bias(hidden, data)
    assert hidden.layers[0].bias.numpy().tolist() == [0, 0, 0, 0]
    inputs = keras.Input((6,))
    two = keras.Model(inputs, [keras.layers.Dense(4)(inputs), keras.layers.Dense(2)(inputs)], name="two")
    with pytest.raises(ValueError, match=r"one output of shape \(batch, classes\)\. Received: \[\(256, 4\)"):
        kd.calibrate_bias(two, data)
