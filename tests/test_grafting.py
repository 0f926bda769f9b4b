import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.grafting import rest_of, tensor_at

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def sequential():
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, "tanh", name="hidden"), layers.Dense(2, name="head")], name="mlp"
    )


def joined(model, tensor):
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.Model(inputs, tensor)


@pytest.mark.parametrize("tap", ["hidden", "head:input"])
def test_the_two_parts_are_the_model(tap):
    model = sequential()
    body, rest = joined(model, tensor_at(model, tap, "`Owner`")), rest_of(model, tap, "`Owner`")
    hidden = np.tanh(X @ model.layers[0].kernel.numpy())
    np.testing.assert_allclose(body(X), hidden, rtol=1e-5)
    np.testing.assert_allclose(rest(hidden), model(X), rtol=1e-5, atol=1e-7)
    assert rest.trainable_weights == model.get_layer("head").trainable_weights


def test_a_layer_that_is_called_twice_is_cut_at_the_call_that_is_named():
    shared = layers.Dense(4, "tanh", name="shared")
    image = keras.Input((4,))
    once = shared(image)
    model = keras.Model(image, layers.Dense(2)(shared(once)))
    kernel = shared.kernel.numpy()
    first = np.tanh(X @ kernel)
    for call, expected in ((0, first), (1, np.tanh(first @ kernel))):
        part = joined(model, tensor_at(model, f"shared[{call}]", "`Owner`"))
        np.testing.assert_allclose(part(X), expected, rtol=1e-5, atol=1e-6)


def test_calls_in_other_models_do_not_count():
    model = sequential()
    other = keras.Input((4,))
    model.get_layer("hidden")(other)
    np.testing.assert_allclose(rest_of(model, "hidden", "`Owner`")(model.layers[0](X)), model(X), rtol=1e-6)


def test_several_outputs_keep_their_structure():
    image = keras.Input((4,))
    hidden = layers.Dense(3, name="hidden")(image)
    model = keras.Model(image, {"a": layers.Dense(2)(hidden), "b": layers.Dense(1)(hidden)})
    outputs, expected = rest_of(model, "hidden", "`Owner`")(model.get_layer("hidden")(X)), model(X)
    assert sorted(outputs) == ["a", "b"]
    for name, value in outputs.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.hidden = layers.Dense(3, name="hidden")

    def call(self, x):
        return self.hidden(x)


def with_a_shortcut():
    image = keras.Input((4,), name="image")
    hidden = layers.Dense(4, name="hidden")(image)
    return keras.Model(image, layers.Add(name="sum")([hidden, image]), name="residual")


def nested():
    return keras.Sequential([keras.Input((4,)), sequential()], name="outer")


NO_GRAPH = "must be a Functional or a built Sequential model, to be cut at 'hidden'. Received: a"
NO_TENSOR = "must name one tensor between two layers of"


@pytest.mark.parametrize(
    ("make", "tap", "text"),
    [
        (Subclassed, "hidden", f"`Owner`: `own` {NO_GRAPH} `Subclassed`."),
        (lambda: keras.Sequential(name="new"), "hidden", f"`Owner`: `new` {NO_GRAPH} `Sequential`."),
        (nested, "mlp/hidden", f"`Owner`: 'mlp/hidden' {NO_TENSOR} `outer` itself, to cut it there. Its layers: mlp."),
        (sequential, "hiden", f"`Owner`: 'hiden' {NO_TENSOR} `mlp` itself, to cut it there. Its layers: hidden, head."),
        (
            with_a_shortcut,
            "sum:input",
            f"`Owner`: 'sum:input' {NO_TENSOR} `residual` itself, to cut it there. Its layers: image, hidden, sum.",
        ),
        (
            with_a_shortcut,
            "hidden",
            "`Owner`: the outputs of `residual` depend on more than 'hidden'. Tap a layer that everything passes "
            "through.",
        ),
    ],
)
def test_where_a_model_cannot_be_cut_it_says_why(make, tap, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        rest_of(make(), tap, "`Owner`")
