"""Natural and robust accuracy, beside a count by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.robust import RobustAccuracy, RobustDistiller, robust_accuracy
from tests.robust.by_hand import assert_refused, cross_entropy, examples, linear, mlp

KERNEL = np.array([[1.0, 0.0], [-2.0, 0.5], [1.5, 0.0], [0.0, 1.0], [0.5, -0.5]])
X = np.random.default_rng(3).uniform(0.2, 0.8, (101, 5)).astype("float32")
Y = np.random.default_rng(4).integers(0, 2, 101)


def counted(epsilon):
    """A linear model is right under attack where its margin is greater than ε ‖w_y - w_other‖₁."""
    natural = robust = 0
    for x, label in zip(X, Y, strict=True):
        difference = KERNEL[:, label] - KERNEL[:, 1 - label]
        natural += x @ difference > 0
        robust += x @ difference > epsilon * np.abs(difference).sum()
    return RobustAccuracy(natural / 101, robust / 101, 101)


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_it_is_what_the_margins_say(epsilon):
    expected = counted(epsilon)
    assert 0 < expected.robust < expected.natural < 1
    assert robust_accuracy(linear(KERNEL), (X, Y), epsilon=epsilon) == expected


@pytest.mark.parametrize("batch_size", [7, 101, 1000])
def test_batches_of_any_size_and_data_sets_give_the_same(batch_size):
    expected = counted(0.1)
    assert robust_accuracy(linear(KERNEL), [X, Y], epsilon=0.1, batch_size=batch_size) == expected
    weights = np.linspace(0, 9, 101)
    dataset = tf.data.Dataset.from_tensor_slices((X, np.eye(2)[Y], weights)).batch(batch_size)
    assert robust_accuracy(linear(KERNEL), dataset, epsilon=0.1) == expected


def test_more_steps_leave_less_and_the_same_seed_the_same():
    x, y = examples(200)
    model = mlp()
    y = np.argmax(model(x), -1)
    accuracies = [robust_accuracy(model, (x, y), epsilon=0.3, steps=s, step_size=0.05) for s in (1, 3, 20)]
    assert [accuracy.natural for accuracy in accuracies] == [1.0] * 3
    one, three, twenty = (accuracy.robust for accuracy in accuracies)
    assert one > three > twenty
    assert robust_accuracy(model, (x, y), epsilon=0.3, step_size=0.05).robust == twenty


def test_evaluate_tells_it_by_name_and_leaves_the_training_as_it_is():
    x, y = examples(60)
    distiller = RobustDistiller(mlp(), mlp(9, seed=1), epsilon=0.1, step_size=0.02, seed=7)
    distiller.compile("sgd", cross_entropy(), metrics=["accuracy", "pgd_accuracy"])
    starts = [np.asarray(variable).copy() for variable in distiller.non_trainable_variables]
    logs = distiller.evaluate(x, y, batch_size=30, verbose=0, return_dict=True)
    expected = robust_accuracy(distiller.student, (x, y), epsilon=0.1, step_size=0.02, batch_size=30)
    assert sorted(logs) == ["accuracy", "loss", "pgd_accuracy", "student_loss"]
    np.testing.assert_allclose(logs["pgd_accuracy"], expected.robust, rtol=1e-6)
    np.testing.assert_allclose(logs["accuracy"], expected.natural, rtol=1e-6)
    assert expected.robust < expected.natural
    for variable, value in zip(distiller.non_trainable_variables, starts, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_validation_knows_it_and_training_does_not():
    x, y = examples(24)
    distiller = RobustDistiller(mlp(), mlp(9, seed=1), epsilon=0.1)
    distiller.compile("sgd", cross_entropy(), metrics=["pgd_accuracy"])
    history = distiller.fit(x, y, validation_data=(x, y), epochs=2, verbose=0).history
    assert sorted(history) == [
        *("adversarial_loss", "loss", "natural_loss", "student_loss"),
        *("val_loss", "val_pgd_accuracy", "val_student_loss"),
    ]
    last = robust_accuracy(distiller.student, (x, y), epsilon=0.1, batch_size=32).robust
    np.testing.assert_allclose(history["val_pgd_accuracy"][-1], last, rtol=1e-6)


def test_what_it_cannot_count_is_refused():
    assert_refused(
        lambda: robust_accuracy(linear(KERNEL), X),
        "`robust_accuracy`: `data` must be arrays `(x, y)` or a `tf.data.Dataset` of batches. Received: a ndarray.",
    )
    assert_refused(
        lambda: robust_accuracy(linear(KERNEL), (X[:0], Y[:0])),
        "`robust_accuracy`: `data` must hold examples. Received none.",
    )
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")], name="sure")
    assert_refused(
        lambda: robust_accuracy(model, (X, Y)),
        "`robust_accuracy`: the model must give logits. Received: `sure`, whose output is a sigmoid. End it in a layer "
        "without activation.",
    )
