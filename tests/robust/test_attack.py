"""PGD equals NumPy loops, reaches the maximum where it is known, and stays where it must."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.robust import pgd
from keras_kd.robust.attack import PGD
from tests.robust.by_hand import assert_refused, attack, examples, kernels, linear, mlp, one_hot, start_of

X, Y = examples()
KERNEL = kernels()[1]


@pytest.mark.parametrize("start", [None, "uniform", "normal"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_it_takes_the_steps_that_numpy_takes(steps, start):
    settings = {"epsilon": 0.2, "step_size": 0.06, "steps": steps}
    expected = attack(KERNEL, X, one_hot(Y), start_of(start, X, 0.2, seed=3), **settings)
    received = pgd(linear(KERNEL), X, Y, start=start, seed=keras.random.SeedGenerator(3), **settings)
    np.testing.assert_allclose(received, expected, atol=1e-6)


def test_the_step_is_a_quarter_of_epsilon_if_not_given():
    expected = attack(KERNEL, X, one_hot(Y), X, epsilon=0.2, step_size=0.05, steps=1)
    np.testing.assert_allclose(pgd(linear(KERNEL), X, Y, epsilon=0.2, steps=1, start=None), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_of_two_classes_it_reaches_the_maximum_to_the_bit(dtype):
    """A linear model of two classes loses most where every value goes ε towards the other class."""
    x, labels = np.random.default_rng(1).random((20, 6)).astype(dtype), np.arange(20) % 2
    kernel = np.random.default_rng(2).normal(size=(6, 2)).astype("float32")
    towards = np.sign(kernel[:, 1 - labels] - kernel[:, labels]).T.astype(dtype)
    expected = np.clip(x + np.asarray(0.1, dtype) * towards, 0, 1)
    np.testing.assert_array_equal(pgd(linear(kernel), x, labels, epsilon=0.1, seed=0), expected)


def test_an_example_that_the_model_is_sure_of_is_attacked_in_float16():
    """Its probability of error, exp(-20), is no number of float16."""
    model = linear([[0.0, -40.0]], dtype="mixed_float16")
    received = pgd(model, np.array([[0.5]], "float32"), [0], epsilon=0.125, start=None)
    np.testing.assert_array_equal(received, [[0.375]])


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 0.5)])
@pytest.mark.parametrize("start", [None, "uniform", "normal"])
def test_it_stays_in_the_ball_and_in_the_range_to_the_bit(start, value_range):
    low, high = np.float32(value_range)
    x = np.random.default_rng(5).uniform(low, high, (64, 4)).astype("float32")
    x[0], x[1] = low, high
    labels, epsilon = np.arange(64) % 3, np.float32(0.3)
    moved = np.asarray(pgd(mlp(), x, labels, epsilon=0.3, value_range=value_range, start=start, seed=1))
    assert (moved >= np.maximum(x - epsilon, low)).all()
    assert (moved <= np.minimum(x + epsilon, high)).all()
    assert (np.abs(moved - x) > 0.29).mean() > 0.5  # it went somewhere


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.0, 2.0)])
def test_starts_are_drawn_as_published(low, high):
    def begin(start):
        x = tf.zeros((400, 50)) + 0.5
        settled = PGD(0.25, 1e-9, 1, (low, high), start)(lambda inputs: tf.reduce_sum(inputs, -1), x, seed=0)
        return np.asarray(settled) - 0.5

    uniform, normal = begin("uniform"), begin("normal")
    assert uniform.min() < -0.2499
    assert uniform.max() > 0.2499
    np.testing.assert_allclose(uniform.std(), 0.25 / np.sqrt(3), rtol=0.01)
    np.testing.assert_allclose(normal.std(), 0.001 * (high - low), rtol=0.02)
    np.testing.assert_allclose(begin(None), 1e-9, atol=1e-7)


@pytest.mark.parametrize("labels", [Y, Y[:, None], one_hot(Y), np.float32(one_hot(Y)) * 0.7 + 0.1])
def test_labels_come_in_any_form(labels):
    expected = pgd(mlp(), X, Y, epsilon=0.1, seed=0)
    np.testing.assert_array_equal(pgd(mlp(), X, labels, epsilon=0.1, seed=0), expected)


def test_nothing_of_the_model_moves_and_nothing_drops_out():
    keras.utils.set_random_seed(0)
    dropout = keras.layers.Dropout(0.5, seed=1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), dropout, keras.layers.Dense(3)])
    before = [np.asarray(variable).copy() for variable in model.variables]
    first = pgd(model, X, Y, epsilon=0.3, seed=0)
    np.testing.assert_array_equal(pgd(model, X, Y, epsilon=0.3, seed=0), first)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_generator_moves_on_and_a_number_does_not():
    generator = keras.random.SeedGenerator(4)
    first, second = (np.asarray(pgd(mlp(), X, Y, epsilon=0.1, steps=1, seed=generator)) for _ in range(2))
    assert (first != second).any()
    again = pgd(mlp(), X, Y, epsilon=0.1, steps=1, seed=keras.random.SeedGenerator(4))
    np.testing.assert_array_equal(again, first)


def test_the_graph_does_not_grow_with_the_steps():
    def size(steps):
        attack = tf.function(lambda x: pgd(model, x, Y, steps=steps, seed=0))
        return len(attack.get_concrete_function(tf.TensorSpec((None, 4))).graph.as_graph_def().SerializeToString())

    model = mlp()
    assert abs(size(40) - size(2)) < 10


def test_its_gradient_goes_nowhere():
    model, x = mlp(), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(pgd(model, x, Y, seed=0))
    assert tape.gradient(total, [x, model.layers[0].kernel]) == [None, None]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epsilon": 0}, "`PGD`: `epsilon` must be a number > 0. Received: epsilon=0."),
        ({"epsilon": "8"}, "`PGD`: `epsilon` must be a number > 0. Received: epsilon='8'."),
        ({"step_size": -0.1}, "`PGD`: `step_size` must be a number > 0. Received: step_size=-0.1."),
        ({"steps": 0}, "`PGD`: `steps` must be an integer >= 1. Received: steps=0."),
        ({"steps": 2.5}, "`PGD`: `steps` must be an integer >= 1. Received: steps=2.5."),
        (
            {"value_range": (1, 0)},
            "`PGD`: `value_range` must be the least and the greatest value of the inputs, as in (0, 1). Received: "
            "value_range=(1, 0).",
        ),
        (
            {"value_range": 255},
            "`PGD`: `value_range` must be the least and the greatest value of the inputs, as in (0, 1). Received: "
            "value_range=255.",
        ),
        ({"start": "gauss"}, "`PGD`: `start` must be one of ['uniform', 'normal', None]. Received: start='gauss'."),
    ],
)
def test_what_is_out_of_range_is_refused(settings, expected):
    assert_refused(lambda: pgd(linear(KERNEL), X, Y, **settings), expected)


def test_what_cannot_be_attacked_is_refused():
    assert_refused(
        lambda: pgd(linear(KERNEL), X.astype("uint8"), Y),
        "`PGD`: only floating inputs can be attacked. Received: uint8. Cast and scale them to (0.0, 1.0).",
    )
    deaf = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(keras.ops.zeros_like), keras.layers.Dense(3)])
    assert_refused(
        lambda: pgd(deaf, X, Y),
        "`PGD`: the model has no gradient by its inputs: it casts them to integers, or ignores them.",
    )


def test_probabilities_are_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")], name="sure")
    assert_refused(
        lambda: pgd(model, X, Y),
        "`pgd`: the model must give logits. Received: `sure`, whose output is a softmax. End it in a layer without "
        "activation.",
    )


@pytest.mark.parametrize("x", [X * 255, X - 0.5, np.where(X > 0.5, np.nan, X)])
def test_inputs_outside_the_range_stop_it(x):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"PGD: scale the inputs to value_range=\(0.0, 1.0\)"):
        pgd(linear(KERNEL), x, Y)
