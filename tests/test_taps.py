import re
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.taps import Tap, forward

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
LAYERS = "outer, backbone, shared, head"


def functional():
    """A nested backbone, a layer called twice, a head."""
    inner = keras.Input((4,), name="inner")
    backbone = keras.Model(inner, layers.Dense(5, "tanh", name="deep")(inner), name="backbone")
    inputs = keras.Input((4,), name="outer")
    shared = layers.Dense(5, name="shared")
    x = shared(shared(backbone(inputs)))
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4, name="first"), layers.Dense(3, name="second")]
        self.head = layers.Dense(2, name="head")
        self.unused = layers.Dense(2, name="unused")
        self.calls = 0

    def build(self, shape):
        """Left to the layers, which their first call builds."""

    def call(self, x):
        self.calls += 1
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def dense(layer, x):
    return x @ layer.kernel.numpy() + layer.bias.numpy()


def assert_equal(tensor, expected):
    np.testing.assert_allclose(tensor, expected, rtol=1e-5, atol=1e-6)


def assert_refused(text, model, *taps, x=X):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        forward(model, x, taps)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("block3", Tap(("block3",), None, "output")),
        ("backbone/block4_add", Tap(("backbone", "block4_add"), None, "output")),
        ("shared[1]", Tap(("shared",), 1, "output")),
        ("a/b[12]:input", Tap(("a", "b"), 12, "input")),
    ],
)
def test_a_tap_reads_as(text, expected):
    assert Tap.parse(text) == expected


@pytest.mark.parametrize("text", ["", "a:output", "a[x]", "a[-1]", "a:input[0]", None, 3])
def test_a_malformed_tap_is_refused(text):
    with pytest.raises(ValueError, match=r"A tap must be a layer's name, .*'shared\[1\]'.*Received: "):
        Tap.parse(text)


def test_taps_equal_an_extractor_built_by_hand():
    model = functional()
    backbone, shared = model.get_layer("backbone"), model.get_layer("shared")
    deep = keras.Model(backbone.input, backbone.get_layer("deep").output)(X)
    once = dense(shared, deep.numpy())
    twice = dense(shared, once)
    expected = {
        "backbone/deep": deep,
        "backbone": deep,
        "backbone/deep:input": X,
        "shared[0]": once,
        "shared[1]": twice,
        "shared[1]:input": once,
        "head:input": twice,
        "head": model.predict(X, verbose=0),
    }
    signals = forward(model, X, list(expected))
    assert list(signals.taps) == list(expected)
    for tap, value in expected.items():
        assert_equal(signals.taps[tap], value)
    assert_equal(signals.structure, expected["head"])


def test_subclassed_models_and_blocks_in_lists_are_heard():
    model = Subclassed()
    signals = forward(model, X, ["second", "first:input", "head:input"])
    first, second = model.blocks
    expected = dense(second, dense(first, X))
    assert_equal(signals.taps["first:input"], X)
    assert_equal(signals.taps["second"], expected)
    assert_equal(signals.taps["head:input"], expected)


def test_plain_layers_that_hold_layers_are_heard():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = layers.Dense(3, name="inner")

        def call(self, x):
            return self.inner(x) * 0.0

    model = keras.Sequential([keras.Input((4,)), Block(name="block")])
    signals = forward(model, X, ["block/inner", "block"])
    assert_equal(signals.taps["block/inner"], dense(model.layers[0].inner, X))
    assert_equal(signals.taps["block"], np.zeros((3, 3)))


def test_an_overridden_call_of_a_functional_model_counts():
    class Doubled(keras.Model):
        def call(self, x, training=None):
            return super().call(2.0 * x)

    inputs = keras.Input((4,))
    model = Doubled(inputs, layers.Dense(2, name="head")(inputs))
    signals = forward(model, X, ["head:input", "head"])
    assert_equal(signals.taps["head:input"], 2.0 * X)
    assert_equal(signals.taps["head"], dense(model.get_layer("head"), 2.0 * X))


def test_an_unbuilt_sequential_is_built_and_heard():
    model = keras.Sequential([layers.Dense(3, name="hidden"), layers.Dense(2, name="head")])
    signals = forward(model, X, ["hidden"])
    assert_equal(signals.taps["hidden"], dense(model.layers[0], X))


def test_training_reaches_the_model():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="norm")])
    assert_equal(forward(model, X, ["norm"]).taps["norm"], X / np.sqrt(1 + 1e-3))
    trained = forward(model, X, ["norm"], training=True).taps["norm"]
    assert_equal(trained, (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3))


@pytest.mark.parametrize("taps", [(), ("head",), ("first", "second", "second:input", "head", "head")])
def test_one_forward_pass_whatever_the_taps(taps):
    model = Subclassed()
    model(X)
    before = model.calls
    forward(model, X, taps)
    assert model.calls == before + 1


def test_taps_work_in_a_traced_function():
    model = functional()
    traced = tf.function(lambda x: forward(model, x, ["backbone/deep", "shared[1]"]).taps)
    for tap, value in forward(model, X, ["backbone/deep", "shared[1]"]).taps.items():
        assert_equal(traced(X)[tap], value)


def test_gradients_flow_through_a_tap():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="hidden"), layers.Dense(2)])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(forward(model, X, ["hidden"]).taps["hidden"])
    assert_equal(tape.gradient(value, model.layers[0].kernel), np.repeat(X.sum(0)[:, None], 3, 1))


@pytest.mark.parametrize(
    ("tap", "text"),
    [
        ("nowhere", f"`top` has no layer `nowhere`. Its layers: {LAYERS}. Its named tensors: none."),
        ("top", f"`top` has no layer `top`. Its layers: {LAYERS}. Its named tensors: none."),
        ("nowhere/deep", f"`top` has no layer `nowhere`. Its layers: {LAYERS}."),
        ("backbone/nowhere", "`backbone` has no layer `nowhere`. Its layers: inner, deep. Its named tensors: none."),
        ("head/kernel", "`head` has no layer `kernel`. Its layers: none. Its named tensors: none."),
        (
            "shared",
            "the layer is called 2 times in one forward pass. Say which call, from 0 to 1, as in 'shared[0]'.",
        ),
        ("shared[2]", "the layer is called 2 time(s) only, counted from 0."),
    ],
)
def test_a_tap_that_names_nothing_says_what_there_is(tap, text):
    model = functional()
    model.name = "top"
    assert_refused(f"Tap {tap!r}: {text}", model, tap)


def test_a_layer_that_does_not_run_is_named():
    text = "Tap 'unused': the layer `unused` exists, but the forward pass does not call it."
    assert_refused(text, Subclassed(), "unused")


@pytest.mark.parametrize(
    ("layer", "inputs", "tap", "count", "beside"),
    [
        (layers.Add(name="it"), 2, "it:input", 2, "before"),
        (layers.LSTM(4, return_state=True, name="it"), 1, "it", 3, "after"),
        (layers.MultiHeadAttention(1, 2, name="it"), 2, "it:input", 2, "before"),
    ],
)
def test_a_side_of_several_tensors_is_refused(layer, inputs, tap, count, beside):
    symbols = [keras.Input((3, 4)) for _ in range(inputs)]
    outputs = layer(symbols) if isinstance(layer, layers.Add) else layer(*symbols)
    side = "input" if tap.endswith(":input") else "output"
    assert_refused(
        f"Tap {tap!r}: the layer's {side} is {count} tensors; a tap needs one. Tap a layer {beside} it, or name the "
        "tensor with `tap` in a `call` of your own.",
        keras.Model(symbols, outputs),
        tap,
        x=[np.ones((2, 3, 4), "float32")] * inputs,
    )


def test_layers_of_one_name_are_refused():
    model = Subclassed()
    model.name, model.blocks[1].name = "top", "first"
    text = "Tap 'first': `top` has 2 layers named `first`. Give each a `name` of its own."
    assert_refused(text, model, "first")
    assert_refused(text.replace("'first'", "'first/inner'"), model, "first/inner")


def test_one_layer_in_two_attributes_is_one_layer():
    model = Subclassed()
    model.again = model.head
    heard = forward(model, X, ["head"]).taps["head"]
    first, second = model.blocks
    assert_equal(heard, dense(model.head, dense(second, dense(first, X))))


def test_the_model_is_left_as_it_was():
    model = functional()
    attributes = [set(layer.__dict__) for layer in model._flatten_layers()]
    values = [variable.numpy() for variable in model.variables]
    forward(model, X, ["backbone/deep", "shared[0]"])
    assert [set(layer.__dict__) for layer in model._flatten_layers()] == attributes
    for variable, value in zip(model.variables, values, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_an_error_in_the_forward_pass_leaves_nothing_behind():
    class Breaking(Subclassed):
        def call(self, x):
            super().call(x)
            raise RuntimeError("broken")

    model = Breaking()
    model.built = True
    with pytest.raises(RuntimeError, match="broken"):
        forward(model, X, ["first", "head:input"])
    assert all("call" not in layer.__dict__ for layer in model._flatten_layers())


def test_a_call_that_the_user_set_on_the_layer_stays():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="hidden")])
    hidden = model.layers[0]
    own = types.MethodType(lambda self, x, training=None: 2.0 * type(self).call(self, x), hidden)
    hidden.call = own
    assert_equal(forward(model, X, ["hidden"]).taps["hidden"], 2.0 * dense(hidden, X))
    assert hidden.__dict__.get("call") is own


def test_threads_that_listen_to_one_layer_do_not_mix():
    """As the replicas of a mirrored model do while they are traced."""
    both_inside = threading.Barrier(2, timeout=20)

    class Meeting(Subclassed):
        def call(self, x):
            both_inside.wait()
            outputs = super().call(x)
            both_inside.wait()
            return outputs

    model = Meeting()
    Subclassed.call(model, X)  # builds the layers
    model.built = True
    heard = {}

    def listen(shift):
        heard[shift] = forward(model, X + shift, ["first", "first:input"]).taps

    threads = [threading.Thread(target=listen, args=(shift,)) for shift in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = model.blocks[0]
    for shift in (0, 1):
        assert_equal(heard[shift]["first:input"], X + shift)
        assert_equal(heard[shift]["first"], dense(first, X + shift))
    assert "call" not in first.__dict__
