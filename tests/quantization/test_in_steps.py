"""Layer normalisation, scaling and attention in steps, against NumPy that rounds to the ranges that were learnt."""

import keras
import numpy as np
from keras import layers

from keras_kd.quantization.attention import QuantizedAttention
from keras_kd.quantization.grid import activation_scale
from keras_kd.quantization.normalization import QuantizedLayerNormalization
from keras_kd.quantization.scaling import QuantizedScaling
from tests.quantization.test_double_rounding import by_integers

RNG = np.random.default_rng(3)


def rounded(x, quantize):
    low, high = quantize.range
    scale = float(activation_scale(low, high))
    zero = np.round(-low / scale)
    return scale * (np.clip(np.floor(x / scale + zero + 0.5), 0, 255) - zero)


def constant(x):
    scale = float(activation_scale(min(x.min(), 0.0), max(x.max(), 1e-6)))
    zero = np.round(-min(x.min(), 0.0) / scale)
    return scale * (np.clip(np.floor(x / scale + zero + 0.5), 0, 255) - zero)


def near(found, expected, quantize, share=0.99):
    """Equal but where float32 and float64 round a half to different sides."""
    found, step = np.asarray(found, "float64"), float(quantize.scale)
    assert np.mean(np.abs(found - expected) < step / 10) >= share
    assert np.abs(found - expected).max() < 4 * step


def test_layer_normalization_before_and_after_the_ranges_are_known():
    plain = layers.LayerNormalization(epsilon=0.01)
    x = RNG.normal(size=(40, 6, 8)).astype("float32") * 3
    plain.build(x.shape)
    plain.set_weights([RNG.uniform(0.5, 2, size=8), RNG.normal(size=8)])
    layer = QuantizedLayerNormalization(plain)
    assert np.abs(np.asarray(layer(x)) - np.asarray(plain(x))).max() < 0.03  # γ and β are rounded from the first
    layer(x, training=True)
    ranges = layer.ranges
    mean = rounded(x.mean(-1, keepdims=True), ranges["mean"])
    centred = rounded(x - mean, ranges["centred"])
    variance = rounded(rounded(centred**2, ranges["squared"]).mean(-1, keepdims=True), ranges["variance"])
    inverse = rounded(1 / np.sqrt(rounded(variance + 0.01, ranges["stabilised"])), ranges["inverse"])
    gamma, beta = map(constant, plain.get_weights())
    scaled = rounded(rounded(centred * inverse, ranges["normalised"]) * gamma, ranges["result"])
    near(layer(x), rounded(scaled + beta, ranges["result"]), ranges["result"], share=0.97)


def test_scaling_is_batch_normalization_by_its_moving_statistics():
    plain = layers.BatchNormalization(epsilon=0.01)
    x = RNG.normal(size=(40, 3, 5)).astype("float32")
    plain.build(x.shape)
    plain.set_weights([RNG.uniform(0.5, 2, size=5) for _ in range(4)])
    layer = QuantizedScaling(plain)
    assert np.abs(np.asarray(layer(x)) - np.asarray(plain(x, training=False))).max() < 0.05
    layer(x, training=True)
    gamma, beta, mean, variance = map(np.float64, plain.get_weights())
    factor = gamma / np.sqrt(variance + 0.01)
    scaled = rounded(x * constant(factor), layer.rounding)
    near(layer(x), rounded(scaled + constant(beta - mean * factor), layer.rounding), layer.rounding)
    np.testing.assert_allclose(plain.get_weights()[2], mean)


def on_grid(kernel, axes):
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.round(kernel / scale) * scale


def test_attention_before_and_after_the_ranges_are_known():
    plain = layers.MultiHeadAttention(2, 4, value_dim=3)
    x, y = (RNG.normal(size=(30, length, 8)).astype("float32") for length in (5, 7))
    plain.build(x.shape, y.shape)
    plain.set_weights([RNG.normal(size=weight.shape) for weight in plain.get_weights()])
    layer = QuantizedAttention(plain)
    weights = {weight.path.split("/", 1)[-1]: np.float64(weight) for weight in plain.weights}
    scale = {"query": 0.5, "key": 1.0, "value": 1.0}

    def project(name, given):
        kernel, bias = (scale[name] * weights[f"{name}/{part}"] for part in ("kernel", "bias"))
        return np.einsum("btc,chd->bhtd", given, on_grid(kernel, (0,))) + bias[:, None]

    def attend(say):
        queries, keys, values = (say(f"{n[:-1]}ies" if n == "query" else f"{n}s", project(n, g)) for n, g in given)
        scores = say("scores", queries @ keys.transpose(0, 1, 3, 2))
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares = say("shares", shares / shares.sum(-1, keepdims=True))
        context = say("context", shares @ values)
        kernel = on_grid(weights["attention_output/kernel"], (0, 1))
        return np.einsum("bhtd,hdc->btc", context, kernel) + weights["attention_output/bias"]

    given = [("query", x), ("key", y), ("value", y)]
    ranges = layer.ranges
    fixed_only = attend(lambda name, v: rounded(v, ranges[name]) if name == "shares" else v)
    np.testing.assert_allclose(layer(x, y), fixed_only, atol=2e-2)
    layer(x, y, training=True)
    found = np.asarray(layer(x, y), "float64")
    factors = {"scores": ("queries", "keys"), "context": ("shares", "values")}

    def say(name, v):
        if name not in factors:
            return rounded(v, ranges[name])
        step = float(ranges[factors[name][0]].scale) * float(ranges[factors[name][1]].scale)
        result = float(ranges[name].scale)
        return rounded(result * by_integers(np.round(v / step), step / result), ranges[name])

    expected = attend(say)
    assert np.abs(found - expected).mean() < 1e-3
    assert np.abs(found - np.asarray(plain(x, y))).mean() > 1e-2


def test_they_come_back_from_their_configuration(tmp_path):
    inputs = keras.Input((5, 8))
    y = QuantizedLayerNormalization(layers.LayerNormalization(), decay=0.5)(inputs)
    y = QuantizedAttention(layers.MultiHeadAttention(2, 4), decay=0.5)(y, y)
    model = keras.Model(inputs, QuantizedScaling(layers.BatchNormalization(), decay=0.5)(y))
    x = RNG.normal(size=(9, 5, 8)).astype("float32")
    for scale in (1, 2, 3):
        model(scale * x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert [layer.decay for layer in loaded.layers[1:]] == [0.5] * 3
