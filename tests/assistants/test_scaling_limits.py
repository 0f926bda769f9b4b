"""Scaled models with layers of the user's own, in wrappers, with states; and models that are refused."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.assistants.scaling import scale_model

REMEDY = "Give `plan_assistants` a function `build(width)` instead."


@keras.saving.register_keras_serializable("tests")
class Mixer(keras.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, x):
        return x @ self.kernel

    def compute_output_shape(self, shape):
        return shape


class Twice(keras.Layer):
    def call(self, x):
        return 2 * x


class FirstEight(keras.Layer):
    def call(self, x):
        return x[..., :8]


class NoConfig(keras.Layer):
    def __init__(self, function):
        super().__init__(name="no_config")
        self.function = function

    def call(self, x):
        return self.function(x)


class Own(keras.Model):
    def call(self, x):
        return x


class OwnCall(keras.Model):
    def __init__(self):
        x = keras.Input((4,))
        super().__init__(x, layers.Dense(3)(x))

    def call(self, x, training=None):
        return super().call(x) + 1


def between(*middle, size=16):
    """A functional model with something between a wide layer and the classes."""
    x = y = keras.Input((4, 4, 3), name="image")
    y = layers.Conv2D(size, 1, name="conv")(x)
    for layer in middle:
        y = layer(y)
    return keras.Model(x, layers.Dense(2, name="head")(layers.Flatten(name="flat")(y)))


def test_layers_without_weights_of_the_users_own_are_made_again():
    sibling = scale_model(between(Twice(name="twice"), layers.Lambda(lambda x: 3 * x, name="thrice")), 0.5)
    assert sibling.get_layer("twice").output.shape == sibling.get_layer("thrice").output.shape == (None, 4, 4, 8)


def test_functions_of_the_users_own_need_not_be_registered():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation=lambda x: x + 7), layers.Dense(2)])
    sibling = scale_model(model, 0.5)
    np.testing.assert_array_equal(sibling.layers[0](np.zeros((1, 4))), np.full((1, 3), 7))


def test_gated_halves_and_states_are_scaled_together():
    first, second = keras.Input((5, 3)), keras.Input((5, 2))
    _, h, c = layers.LSTM(8, return_state=True, name="encoder")(first)
    x = layers.LSTM(8, return_sequences=True, name="decoder")(second, initial_state=[h, c])
    value, gate = keras.ops.split(x, 2, axis=-1)
    model = keras.Model([first, second], layers.Dense(2, name="head")(value * keras.ops.sigmoid(gate)))
    sibling = scale_model(model, 0.5)
    assert sibling([np.ones((2, 5, 3)), np.ones((2, 5, 2))]).shape == (2, 5, 2)
    assert sibling.get_layer("head").kernel.shape == (2, 2)
    assert sibling.output_names == model.output_names


def test_a_model_in_a_wrapper_is_scaled_and_decides_the_outputs():
    frame = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"), layers.Flatten()], name="frame")
    last = keras.Sequential([keras.Input((8,)), layers.Dense(6, name="wide"), layers.Dense(4, name="out")], name="last")
    clip = keras.Input((2, 6, 6, 3))
    x = layers.GRU(8, return_sequences=True)(layers.TimeDistributed(frame, name="frames")(clip))
    model = keras.Model(clip, layers.TimeDistributed(last, name="lasts")(layers.Dense(8, name="in")(x)))
    with pytest.raises(ValueError, match="layer `lasts`"):  # in a wrapper, a model's input keeps its width
        scale_model(model, 0.5)
    model = keras.Model(clip, layers.TimeDistributed(layers.Dense(4), name="lasts")(layers.Dense(8, name="in")(x)))
    sibling = scale_model(model, 0.5)
    assert sibling.get_layer("frames").layer.get_layer("conv").kernel.shape == (3, 3, 3, 2)
    assert [sibling.get_layer(name).output.shape[-1] for name in ("frames", "in", "lasts")] == [32, 4, 4]


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="this Keras has no such layer")
def test_an_embedding_that_gives_words_back():
    tokens, embedding = keras.Input((5,), dtype="int32"), layers.ReversibleEmbedding(11, 8, name="words")
    x = layers.Dense(8, name="mix")(embedding(tokens))
    sibling = scale_model(keras.Model(tokens, embedding(x, reverse=True)), 0.5)
    assert [tuple(weight.shape) for weight in sibling.weights] == [(11, 4), (4, 4), (4,)]


def states_of_another_width():
    """The decoder decides the outputs and keeps its width, the encoder does not: in Keras it fails when it runs."""
    first, second = keras.Input((5, 3)), keras.Input((5, 2))
    _, *states = layers.LSTM(6, return_state=True)(first)
    return keras.Model([first, second], layers.LSTM(6, name="decoder")(second, initial_state=states))


def groups_of_two_layers():
    """Neither 2 nor 6 channels are a multiple of 8 groups, so that neither layer can be held to one."""
    x = keras.Input((4, 4, 3))
    y = layers.Concatenate()([layers.Conv2D(2, 1)(x), layers.Conv2D(6, 1)(x)])
    return keras.Model(x, layers.Conv2D(2, 1)(layers.GroupNormalization(8, name="norm")(y)))


def split_at(x):
    return keras.ops.split(x, [8], axis=-1)[0]


def sum_with_input():
    x = keras.Input((8,), name="features")
    return keras.Model(x, layers.Dense(2)(layers.Add(name="add")([x, layers.Dense(8)(x)])))


def silent_sum():
    """At half the width the sum of (…, 2) and (…, 2) is one of (…, 2) and (…, 1), which broadcasts."""
    x = keras.Input((2,), name="features")
    return keras.Model(x, layers.Dense(2)(keras.ops.multiply(x, layers.Dense(2)(x))))


def sum_with_constant():
    x = keras.Input((2,), name="features")
    return keras.Model(x, layers.Dense(2)(keras.ops.add(layers.Dense(2)(x), np.ones(2, "float32"))))


def reshape_op(x):
    return keras.ops.reshape(x, (-1, 8, 32))


def first_channels(x):
    return x[..., :8]


@pytest.mark.parametrize(
    ("model", "layer", "kind", "received"),
    [
        (sum_with_input, "add", "Add", "(None, 8), (None, 4)"),
        (silent_sum, "", "Multiply", "(None, 2), (None, 1)"),
        (sum_with_constant, "", "Add", "(None, 1)"),
        (lambda: between(layers.Reshape((8, 32), name="fold")), "fold", "Reshape", "(None, 4, 4, 8)"),
        (lambda: between(layers.Reshape((-1, 32), name="fold")), "fold", "Reshape", "(None, 4, 4, 8)"),
        (lambda: between(reshape_op), "", "Reshape", "(None, 4, 4, 8)"),
        (lambda: between(first_channels), "", "GetItem", "(None, 4, 4, 8)"),
        (lambda: between(split_at), "", "Split", "(None, 4, 4, 8)"),
        (groups_of_two_layers, "norm", "GroupNormalization", "(None, 4, 4, 4)"),
        (states_of_another_width, "decoder", "LSTM", "(None, 5, 2), (None, 3), (None, 3)"),
        (lambda: between(layers.Lambda(first_channels, name="cut")), "cut", "Lambda", "(None, 4, 4, 8)"),
        (lambda: between(FirstEight(name="cut")), "cut", "FirstEight", "(None, 4, 4, 8)"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Reshape((2, 3), name="fold"),
                                   layers.Flatten(), layers.Dense(2)]), "fold", "Reshape", "(None, 3)"),
    ],
)  # fmt: skip
def test_what_no_longer_fits_is_refused(model, layer, kind, received):
    with pytest.raises(ValueError, match="`scale_model`") as caught:
        scale_model(model(), 0.5)
    text = str(caught.value)
    if not layer:
        layer = text.split("layer `")[1].split("`")[0]
        assert layer.startswith(keras.src.utils.naming.to_snake_case(kind))
    assert text == (
        f"`scale_model`: at width=0.5, layer `{layer}` (`{kind}`) must fit what comes in as it did before. "
        f"Received: {received}. {REMEDY}"
    )


@pytest.mark.parametrize(
    ("model", "received"),
    [
        (lambda: Own(), "a `Own`"),
        (lambda: OwnCall(), "a `OwnCall`"),
        (lambda: keras.Sequential([layers.Dense(2)]), "not built yet"),
        (lambda: 3, "a `int`"),
    ],
)
def test_models_without_a_graph_are_refused(model, received):
    with pytest.raises(ValueError, match="`scale_model`") as caught:
        scale_model(model())
    assert str(caught.value) == (
        "`scale_model`: `model` must be a built Sequential or Functional model, without a `call` of its own. "
        f"Received: {received}. {REMEDY}"
    )


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: layers.TimeDistributed(layer, name="each")])
def test_layers_whose_widths_are_not_known_are_refused(wrap):
    with pytest.raises(ValueError, match="`scale_model`") as caught:
        scale_model(between(wrap(Mixer(name="mixer"))))
    assert str(caught.value) == (
        "`scale_model`: all layers with weights must be Keras's own. Received: `mixer`, a `Mixer`, whose widths are "
        f"not known. {REMEDY}"
    )


def test_layers_shared_with_a_wrapper_are_refused():
    x, layer = keras.Input((2, 4)), layers.Dense(4, name="both")
    model = keras.Model(x, layers.Dense(2)(layers.Add()([layers.TimeDistributed(layer)(x), layer(x)])))
    with pytest.raises(ValueError, match="`scale_model`") as caught:
        scale_model(model)
    assert str(caught.value) == (
        "`scale_model`: a layer in a wrapper must be in no other and not be called beside it, for a wrapper's config "
        f"holds a layer of its own. Received: `both`, which is shared. {REMEDY}"
    )


def test_layers_without_a_config_are_refused():
    with pytest.raises(ValueError, match="`scale_model`") as caught:
        scale_model(between(NoConfig(lambda x: x)))
    assert str(caught.value) == (
        "`scale_model`: layer `no_config` must give a config from which it can be made again, with all that it names "
        f"registered. Received: a `NoConfig` that fails. {REMEDY}"
    )


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), "0.5", True, None])
def test_widths_that_are_none_are_refused(width):
    with pytest.raises(ValueError, match="`scale_model`") as caught:
        scale_model(between(), width)
    assert str(caught.value) == f"`scale_model`: `width` must be a finite number > 0. Received: width={width!r}."
