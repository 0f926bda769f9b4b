"""A scaled model against the same model written by hand at that width."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.assistants.scaling import scale_model
from keras_kd.taps import forward


def at(width):
    """The rule of the docstring, for models written by hand."""
    return lambda size: max(1, round(width * size))


def vgg(width):
    w = at(width)
    model = keras.Sequential([keras.Input((8, 8, 3), name="image")], name="vgg")
    for block, size in enumerate([8, 16]):
        model.add(layers.Conv2D(w(size), 3, padding="same", activation="relu", name=f"conv{block}"))
        model.add(layers.MaxPooling2D(name=f"pool{block}"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(w(20), activation="relu", name="hidden"))
    model.add(layers.Dropout(0.5, name="dropout"))
    model.add(layers.Dense(4, name="head"))
    model.add(layers.Activation("softmax", dtype="float32", name="classes"))
    return model


def mobile_net(width):
    w = at(width)
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(w(8), 3, use_bias=False, padding="same", name="stem")(inputs)
    for block, size in enumerate([10, 14]):
        x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name=f"depthwise{block}")(x)
        x = layers.BatchNormalization(name=f"norm{block}")(x)
        x = layers.ReLU(6.0, name=f"relu{block}")(x)
        gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"squeeze{block}")(x)
        gate = layers.Conv2D(w(5), 1, activation="relu", name=f"reduce{block}")(gate)
        x = layers.Multiply(name=f"excite{block}")([x, layers.Conv2D(1, 1, name=f"gate{block}")(gate)])
        x = layers.SeparableConv2D(w(size), 3, padding="same", name=f"pointwise{block}")(x)
        x = layers.PReLU(shared_axes=[1, 2], name=f"prelu{block}")(x)
    x = layers.Conv2D(4, 1, name="head")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="pool")(x), name="mobile")


def residual(x, size, name, stride=1):
    y = layers.Conv2D(size, 3, strides=stride, padding="same", name=f"{name}_conv1")(x)
    y = layers.BatchNormalization(name=f"{name}_norm")(y)
    y = layers.Conv2D(size, 3, padding="same", name=f"{name}_conv2")(y)
    if stride > 1:
        x = layers.Conv2D(size, 1, strides=stride, name=f"{name}_projection")(x)
    return keras.ops.relu(layers.Add(name=f"{name}_add")([x, y]))


def res_net(width):
    w = at(width)
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(w(6), 3, padding="same", name="stem")(inputs)
    x = residual(residual(x, w(6), "block1"), w(12), "block2", stride=2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x), name="resnet")


def transformer(width):
    w = at(width)
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(11, w(8), mask_zero=True, name="embedding")(tokens)
    y = layers.LayerNormalization(name="norm1")(x)
    y = layers.MultiHeadAttention(2, w(4), name="attention")(y, y)
    x = x + y
    y = layers.Dense(w(16), activation="gelu", name="expand")(layers.LayerNormalization(name="norm2")(x))
    x = x + layers.EinsumDense("btf,fd->btd", (None, w(8)), bias_axes="d", name="contract")(y)
    return keras.Model(tokens, layers.Dense(3, name="head")(x[:, 0]), name="transformer")


def vision_transformer(width):
    w = at(width)
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(w(6), 4, strides=4, name="patches")(inputs)
    x = layers.Reshape((4, w(6)), name="tokens")(x)
    x = layers.Add(name="add")([x, layers.MultiHeadAttention(2, w(3), output_shape=w(6), name="attention")(x, x)])
    x = layers.Permute((2, 1), name="turn")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten(name="flat")(x)), name="vit")


def text(width):
    w = at(width)
    model = keras.Sequential([keras.Input((7,), name="tokens"), layers.Embedding(9, w(6), name="embedding")])
    model.name = "text"
    model.add(layers.Bidirectional(layers.LSTM(w(5), return_sequences=True), name="both"))
    model.add(layers.TimeDistributed(layers.Dense(w(7)), name="each"))
    model.add(layers.GRU(w(4), return_sequences=True, name="gru"))
    cells = [layers.LSTMCell(w(6), name="cell1"), layers.SimpleRNNCell(w(5), name="cell2")]
    model.add(layers.RNN(layers.StackedRNNCells(cells, name="cells"), name="stack"))
    model.add(layers.Dense(2, name="head"))
    return model


def nested(width):
    """A backbone, and a second model behind it that takes the scaled features, deep inside."""
    w = at(width)
    image = keras.Input((8, 8, 3), name="inner_image")
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(w(4), 3, name="conv_a")], name="inner")
    backbone = keras.Model(image, layers.Conv2D(w(6), 3, name="conv_b")(inner(image)), name="backbone")
    features = keras.Input((4, 4, w(6)), name="features")
    x = layers.Conv2D(w(8), 3, name="conv_c")(features)
    neck = keras.Model(features, layers.GlobalMaxPooling2D(name="pool")(x), name="neck")
    head = keras.Sequential([layers.Dense(w(10), name="hidden"), layers.Dense(3, name="logits")], name="head")
    inputs = keras.Input((8, 8, 3), name="image")
    return keras.Model(inputs, head(neck(backbone(inputs))), name="nested")


def nested_sequential(width):
    w = at(width)
    first = keras.Sequential([keras.Input((4,)), layers.Dense(w(6), name="a")], name="first")
    second = keras.Sequential([keras.Input((w(8),)), layers.Dense(w(10), name="c"), layers.Dense(2)], name="second")
    second.layers[1].name = "d"
    return keras.Sequential([first, layers.Dense(w(8), name="b"), second], name="chain")


def shared(width):
    """One encoder for two inputs, compared by the angle between what it says."""
    w = at(width)
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    hidden, encoder = layers.Dense(w(9), activation="tanh", name="hidden"), layers.Dense(w(4), name="encoder")
    outputs = layers.Dot(axes=1, normalize=True, name="cosine")([encoder(hidden(left)), encoder(hidden(right))])
    return keras.Model([left, right], outputs, name="siamese")


def several(width):
    """Two inputs by name, two outputs: what the pixels output decides lies further back."""
    w = at(width)
    image, extra = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="extra", dtype="float16")
    x = layers.Conv2D(w(6), 3, padding="same", name="conv")(image)
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    joined = layers.Concatenate(name="join")([pooled, layers.Dense(w(10), name="dense")(extra)])
    up = layers.Conv2DTranspose(2, 3, padding="same", name="up")(layers.Dense(w(4), name="mix")(x))
    up = layers.UpSampling2D(name="bigger")(layers.BatchNormalization(name="norm")(up))
    outputs = {"classes": layers.Dense(3, name="classes")(joined), "pixels": up}
    return keras.Model({"image": image, "extra": extra}, outputs, name="several")


def residual_output(width):
    """The output is the sum along the residual stream, so that all who write to it keep their width."""
    w = at(width)
    inputs = keras.Input((5,), name="inputs")
    x = layers.Dense(8, name="enter")(inputs)
    for block in range(2):
        y = layers.Dense(w(12), activation="relu", name=f"expand{block}")(x)
        x = layers.Add(name=f"add{block}")([x, layers.Dense(8, name=f"contract{block}")(y)])
    return keras.Model(inputs, layers.LayerNormalization(name="norm")(x), name="stream")


MODELS = [
    *(vgg, mobile_net, res_net, transformer, vision_transformer, text),
    *(nested, nested_sequential, shared, several, residual_output),
]


def inner_layers(model):
    """The layers of a model and of the models in it, but for the inputs."""
    found = []
    for layer in model.layers:
        found += [] if isinstance(layer, layers.InputLayer) else [layer]
        found += inner_layers(layer) if isinstance(layer, keras.Model) else []
    return found


def assert_same_architecture(scaled, by_hand):
    assert [layer.name for layer in inner_layers(scaled)] == [layer.name for layer in inner_layers(by_hand)]
    for ours, theirs in zip(inner_layers(scaled), inner_layers(by_hand), strict=True):
        ours, theirs = ([tuple(weight.shape) for weight in layer.weights] for layer in (ours, theirs))
        assert ours == theirs
    assert scaled.count_params() == by_hand.count_params()
    assert (scaled.name, type(scaled)) == (by_hand.name, type(by_hand))
    assert getattr(scaled, "output_names", None) == getattr(by_hand, "output_names", None)
    assert keras.tree.map_structure(str, scaled.input_shape) == keras.tree.map_structure(str, by_hand.input_shape)
    assert keras.tree.map_structure(str, scaled.output_shape) == keras.tree.map_structure(str, by_hand.output_shape)
    assert [one.dtype for one in scaled.inputs] == [one.dtype for one in by_hand.inputs]


@pytest.mark.parametrize("width", [0.5, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_it_is_what_one_would_write_by_hand(build, width):
    assert_same_architecture(scale_model(build(1.0), width), build(width))


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_its_weights_of_the_teacher_make_it_compute_the_same(build):
    """At width 1 the graphs must be the same, which shapes alone do not say."""
    model = build(1.0)
    sibling = scale_model(model, 1.0)
    sibling.set_weights(model.get_weights())
    rng = np.random.default_rng(0)
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    x = keras.tree.map_structure(lambda one: rng.integers(0, 9, (2, *one.shape[1:])).astype(one.dtype), structure)
    for ours, theirs in zip(keras.tree.flatten(sibling(x)), keras.tree.flatten(model(x)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_scaled_layer_shared_in_the_model_is_shared_in_the_sibling():
    sibling = scale_model(shared(1.0), 0.5)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    np.testing.assert_allclose(sibling([x, x]), np.ones((3, 1)), rtol=1e-5)


def test_taps_go_on_to_work():
    tapped = forward(scale_model(nested(1.0), 0.5), np.ones((2, 8, 8, 3), "float32"), ["backbone/inner/conv_a"]).taps
    assert tapped["backbone/inner/conv_a"].shape == (2, 6, 6, 2)


@pytest.mark.parametrize(
    ("width", "sizes"),
    # 12 · 0.4 = 4.8, of 4 groups: round(4.8 / 4) · 4 = 4; 12 · 0.6 = 7.2: 8. 10 · 0.4 and 10 · 0.6 know no groups.
    [(0.4, (4, 4, 4)), (0.6, (8, 8, 6)), (0.01, (4, 4, 1)), (2, (24, 24, 20))],
)
def test_widths_before_groups_are_multiples_of_them(width, sizes):
    inner = keras.Sequential([keras.Input((8, 8, 12)), layers.GroupNormalization(4, name="groups")], name="inner")
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(12, 3, padding="same", name="plain"), inner])
    model.add(layers.Conv2D(12, 1, groups=2, name="grouped"))
    model.add(layers.GroupNormalization(4, name="again"))
    model.add(layers.Conv2D(10, 1, name="free"))
    model.add(layers.Conv2D(2, 1, name="head"))
    sibling = scale_model(model, width)
    assert tuple(sibling.get_layer(name).filters for name in ("plain", "grouped", "free")) == sizes
    assert sibling.get_layer("inner").get_layer("groups").gamma.shape == (sizes[0],)


def test_flags_policies_and_penalties_are_kept():
    half = keras.Sequential([keras.Input((6,)), layers.Dense(4, name="c"), layers.Dense(5, name="d")], name="half")
    half.get_layer("c").trainable = False
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, kernel_regularizer="l2", dtype="mixed_float16"), half])
    model.layers[0].name = "a"
    model.add(layers.Dense(2, name="b"))
    half.get_layer("d").trainable, model.get_layer("b").trainable = True, False
    model.compile("sgd", loss=lambda y, p: p)
    sibling = scale_model(model, 0.5, name="student")
    assert (sibling.name, sibling.compiled, len(sibling.losses)) == ("student", False, 1)
    assert sibling.get_layer("a").dtype_policy.name == "mixed_float16"
    flags = {layer.name: layer.trainable for layer in inner_layers(sibling)}
    assert flags == {layer.name: layer.trainable for layer in inner_layers(model)}
    assert flags == {"a": True, "half": True, "c": False, "d": True, "b": False}
    half.trainable = False
    assert [len(one.trainable_weights) for one in (model, scale_model(model, 0.5))] == [2, 2]


def test_the_original_is_left_as_it_was():
    model = res_net(1.0)
    before = [weight.numpy().copy() for weight in model.weights]
    calls = [len(operation._inbound_nodes) for operation in model.operations]
    scale_model(model, 0.5)
    assert [len(operation._inbound_nodes) for operation in model.operations] == calls
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_what_preprocessing_learned_is_kept():
    norm, words = layers.Normalization(name="norm"), layers.StringLookup(name="words")
    norm.adapt(np.array([[0.0], [2.0], [4.0]], "float32"))
    words.adapt(np.array(["cat", "dog", "cat"]))
    number, word = keras.Input((1,)), keras.Input((), dtype="string")
    x = layers.Concatenate()([layers.Dense(4)(norm(number)), layers.Embedding(3, 6)(words(word))])
    sibling = scale_model(keras.Model([number, word], layers.Dense(1)(x)), 0.5)
    np.testing.assert_allclose(sibling.get_layer("norm")(np.array([[2.0], [4.0]])), [[0], [1.5**0.5]], rtol=1e-6)
    assert sibling.get_layer("words").get_vocabulary() == ["[UNK]", "cat", "dog"]


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50"])
def test_published_models(name):
    """Kernels of hidden convolutions lose 3/4 of their weights; first and last layers, norms and biases but a half."""
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10)
    sibling = scale_model(model, 0.5)
    hidden = [layer for layer in model.layers if type(layer) is layers.Conv2D][1:]

    def kernels(one):
        return sum(int(np.prod(one.get_layer(layer.name).kernel.shape)) for layer in hidden)

    assert kernels(sibling) == kernels(model) / 4
    assert model.count_params() / 4 < sibling.count_params() < model.count_params() / 3.7
    assert sibling(np.zeros((2, 32, 32, 3), "float32")).shape == (2, 10)


def test_it_trains_and_is_saved_and_exported(tmp_path):
    keras.utils.set_random_seed(0)
    sibling = scale_model(vision_transformer(1.0), 0.5)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 8, 8, 3)).astype("float32")
    sibling.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = sibling.fit(x, np.arange(16) % 3, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    sibling.save(tmp_path / "sibling.keras")
    sibling.export(tmp_path / "saved_model", verbose=False)
    served = keras.layers.TFSMLayer(str(tmp_path / "saved_model"), call_endpoint="serve")
    for other in (keras.models.load_model(tmp_path / "sibling.keras"), served):
        np.testing.assert_allclose(other(x), sibling(x), rtol=1e-5, atol=1e-5)
