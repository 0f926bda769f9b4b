"""`tap`: what a model names in its own `call`."""

import re
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.listening import tap
from keras_kd.taps import forward

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


@keras.saving.register_keras_serializable(package="test_listening")
class Gate(layers.Layer):
    """`x` times `factor`, named."""

    def __init__(self, factor=2.0, says="gated", **kwargs):
        super().__init__(**kwargs)
        self.factor, self.says = factor, says

    def call(self, x):
        return tap(self.says, x * self.factor) + 1.0


class Model(keras.Model):
    """Names its square; then two gates, the second called twice."""

    def __init__(self, **kwargs):
        super().__init__(name="top", **kwargs)
        self.first, self.second = Gate(2.0, name="first"), Gate(3.0, name="second")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        x = self.first(tap("squared", x * x))
        return self.head(self.second(self.second(x)))


once = X * X * 2.0
twice = (once + 1.0) * 3.0
thrice = (twice + 1.0) * 3.0
HEARD = {
    "squared": X * X,
    "first/gated": once,
    "second/gated[0]": twice,
    "second/gated[1]": thrice,
    "gated[0]": once,
    "gated[1]": twice,
    "gated[2]": thrice,
    "second[1]": thrice + 1.0,
}


def assert_heard(taps, expected, rtol=1e-5):
    assert list(taps) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(taps[name], value, rtol=rtol, atol=1e-6, err_msg=name)


def assert_refused(text, call, *args, **kwargs):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        call(*args, **kwargs)


def test_named_tensors_are_heard_by_model_by_layer_and_by_call():
    model = Model()
    signals = forward(model, X, list(HEARD))
    assert_heard(signals.taps, HEARD)
    np.testing.assert_allclose(signals.structure, model(X), rtol=1e-6)


def test_the_tensor_comes_back_as_it_is():
    tensor = tf.constant(X)
    assert tap("name", tensor) is tensor


def test_a_named_tensor_keeps_its_mask():
    class Masked(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(5, 2, mask_zero=True)

        def call(self, x):
            return tap("words", self.embedding(x))

    heard = forward(Masked(), np.array([[1, 2, 0]]), ["words"]).taps["words"]
    np.testing.assert_array_equal(heard._keras_mask, [[True, True, False]])


def test_an_array_is_heard_as_a_tensor():
    class Plain(keras.Model):
        def call(self, x):
            tap("ones", np.ones(2, "float32"))
            return x

    heard = forward(Plain(), X, ["ones"]).taps["ones"]
    assert keras.ops.is_tensor(heard)
    np.testing.assert_array_equal(heard, [1.0, 1.0])


def test_the_order_of_the_taps_is_that_of_the_question():
    assert list(forward(Model(), X, ["gated[1]", "squared", "head"]).taps) == ["gated[1]", "squared", "head"]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_named_tensors_are_heard_in_a_traced_function(jit_compile):
    model = Model()
    model(X)
    traced = tf.function(lambda x: dict(forward(model, x, list(HEARD)).taps), jit_compile=jit_compile)
    taps = traced(X)
    assert_heard({name: taps[name] for name in HEARD}, HEARD)


def test_named_tensors_are_heard_in_a_stateless_scope():
    model = Model()
    model(X)
    with keras.StatelessScope():
        assert_heard(forward(model, X, list(HEARD)).taps, HEARD)


def functional(wrapped=False):
    inputs = keras.Input((4,))
    gate = Gate(5.0, name="gate")
    inside = keras.Sequential([keras.Input((4,)), gate], name="inside") if wrapped else gate
    return keras.Model(inputs, layers.Dense(2, name="head")(inside(inputs)), name="top")


def test_layers_of_functional_models_are_heard():
    assert_heard(forward(functional(), X, ["gated", "gate/gated"]).taps, {"gated": 5 * X, "gate/gated": 5 * X})


def test_nested_models_are_heard_at_every_depth():
    taps = ["gated", "inside/gated", "inside/gate/gated"]
    assert_heard(forward(functional(wrapped=True), X, taps).taps, dict.fromkeys(taps, 5 * X))


def test_a_model_read_from_a_file_names_its_tensors(tmp_path):
    functional().save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_heard(forward(again, X, ["gate/gated"]).taps, {"gate/gated": 5 * X})


def test_a_named_tensor_has_the_compute_dtype():
    model = keras.Sequential([keras.Input((4,)), Gate(2.0, name="gate", dtype="mixed_float16")])
    heard = forward(model, X, ["gated"]).taps
    assert heard["gated"].dtype == "float16"
    assert_heard(heard, {"gated": X.astype("float16") * np.float16(2.0)}, rtol=1e-3)


def test_gradients_flow_through_a_named_tensor():
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        heard = forward(Model(), x, ["first/gated"]).taps["first/gated"]
    np.testing.assert_allclose(tape.gradient(heard, x), 4 * X, rtol=1e-6)


def test_one_forward_pass():
    class Counting(Model):
        calls = 0

        def call(self, x):
            self.calls += 1
            return super().call(x)

    model = Counting()
    model(X)
    before = model.calls
    forward(model, X, list(HEARD))
    assert model.calls == before + 1


def test_a_forward_pass_within_another_is_heard_by_both():
    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = Model()

        def call(self, x):
            return tap("inside", forward(self.inner, x, ["squared"]).taps["squared"] + 1.0)

    assert_heard(forward(Outer(), X, ["squared", "inside"]).taps, {"squared": X * X, "inside": X * X + 1.0})


def test_nothing_is_kept_after_an_error():
    class Breaking(Model):
        def call(self, x):
            super().call(x)
            raise RuntimeError("broken")

    model = Breaking()
    model.built = True
    with pytest.raises(RuntimeError, match="broken"):
        forward(model, X, ["second/gated[0]"])
    assert all("call" not in layer.__dict__ for layer in model._flatten_layers())
    assert_heard(forward(Model(), X, ["squared"]).taps, {"squared": X * X})


def test_threads_do_not_mix():
    """As the replicas of a mirrored model do while they are traced."""
    both_inside = threading.Barrier(2, timeout=20)

    class Meeting(Model):
        def call(self, x):
            both_inside.wait()
            outputs = super().call(x)
            both_inside.wait()
            return outputs

    model, heard = Meeting(), {}
    Model.call(model, X)
    model.built = True

    def listen(shift):
        heard[shift] = forward(model, X + shift, ["squared", "first/gated"]).taps

    threads = [threading.Thread(target=listen, args=(shift,)) for shift in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for shift in (0, 1):
        square = np.square(X + shift)
        assert_heard(heard[shift], {"squared": square, "first/gated": 2 * square})


@pytest.mark.parametrize("name", ["", "a/b", "a:input", "a[0]", "a]", None, 3])
def test_a_bad_name_is_refused_though_no_one_listens(name):
    assert_refused(
        "`tap`: the name must be a string without '/', ':', '[' and ']', which say where to listen. "
        f"Received: {name!r}.",
        tap,
        name,
        tf.constant(1.0),
    )


@pytest.mark.parametrize(("given", "kind"), [([tf.constant(1.0)], "list"), ({}, "dict"), (None, "NoneType")])
def test_what_is_no_tensor_is_refused(given, kind):
    assert_refused(f"`tap`: 'gated' must be one tensor. Received: {kind}.", tap, "gated", given)


def test_a_symbol_of_a_functional_model_is_refused():
    assert_refused(
        "`tap`: 'gated' must be a tensor in the `call` of a model or a layer. Received a symbol of a Functional model: "
        "there, tap the layer that gives it, or `keras.layers.Identity(name='gated')`.",
        tap,
        "gated",
        keras.Input((4,)),
    )


ALL = "Its named tensors: squared, gated."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gatet", f"`top` has no layer `gatet`. Its layers: first, second, head. {ALL}"),
        ("first/squared", "`first` has no layer `squared`. Its layers: none. Its named tensors: gated."),
        ("gated/x", "`top` has no layer `gated`. Its layers: first, second, head."),
        ("squared:input", "`squared` is a named tensor, which has no input. Leave out ':input'."),
        (
            "second/gated",
            "the tensor is named 2 times in one forward pass. Say which call, from 0 to 1, as in 'second/gated[0]'.",
        ),
        ("squared[1]", "the tensor is named 1 time(s) only, counted from 0."),
    ],
)
def test_a_tap_that_names_nothing_says_what_there_is(text, why):
    assert_refused(f"Tap {text!r}: {why}", forward, Model(), X, [text])


@pytest.mark.parametrize(("inside", "holder"), [("", "top"), ("inside/", "inside")])
def test_a_name_that_is_also_a_layers_is_refused(inside, holder):
    gates = [keras.Input((4,)), Gate(says="head", name="gate"), layers.Dense(2, name="head")]
    model = keras.Sequential(gates, name="top")
    if inside:
        model = keras.Sequential([keras.Input((4,)), keras.Sequential(gates, name="inside")], name="top")
    assert_refused(
        f"Tap '{inside}head': `{holder}` has both a layer and a tensor named `head`. Give `tap` another name.",
        forward,
        model,
        X,
        [f"{inside}head"],
    )
    assert_heard(forward(model, X, [f"{inside}gate/head"]).taps, {f"{inside}gate/head": 2 * X})
