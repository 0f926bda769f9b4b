"""`FakeQuantize` against moving averages by hand."""

import keras
import numpy as np
import pytest

from keras_kd.quantization import FakeQuantize

RNG = np.random.default_rng(1)


def test_ranges_are_means_at_first_and_then_move_slowly():
    layer = FakeQuantize(decay=0.6)
    batches = [RNG.normal(scale=scale, size=(8, 3)).astype("float32") for scale in (1, 2, 4, 3, 1)]
    low = high = 0.0
    for step, batch in enumerate(batches):
        rate = max(1 - 0.6, 1 / (step + 1))
        low += rate * (min(batch.min(), 0) - low)
        high += rate * (max(batch.max(), 0) - high)
        layer(batch, training=True)
        assert layer.range == pytest.approx((low, high), rel=1e-5)
    layer(100 * batches[0], training=False)
    assert layer.range == pytest.approx((low, high), rel=1e-5)


def test_zero_is_in_every_range():
    layer = FakeQuantize()
    layer(np.array([3.0, 5.0], "float32"), training=True)
    assert layer.range == (0.0, 5.0)
    layer = FakeQuantize()
    layer(np.array([-3.0, -5.0], "float32"), training=True)
    assert layer.range == (-5.0, 0.0)
    layer = FakeQuantize()
    layer(np.zeros(3, "float32"), training=True)
    assert layer.range == (0.0, pytest.approx(1e-6))


def test_all_passes_before_the_first_step_and_is_rounded_after():
    layer, x = FakeQuantize(), np.array([0.0, 0.4, 100.3, 255.0], "float32")
    np.testing.assert_array_equal(layer(x, training=False), x)
    assert layer.range is None
    assert float(layer.scale) == 0
    layer(x, training=True)
    np.testing.assert_array_equal(layer(x, training=False), [0, 0, 100, 255])
    assert float(layer.scale) == 1


def test_a_fixed_range_does_not_move():
    layer = FakeQuantize(fixed=(0.0, 255 / 256))
    np.testing.assert_array_equal(layer(np.array([0.501, 3.0], "float32"), training=True), [128 / 256, 255 / 256])
    assert layer.range == (0.0, 255 / 256)
    assert layer.weights == []


def test_float16_comes_back_as_it_went():
    layer = FakeQuantize(dtype="mixed_float16")
    y = layer(np.array([0.0, 60000.0], "float16"), training=True)
    assert y.dtype == "float16"
    assert layer.range == (0.0, 60000.0)
    np.testing.assert_array_equal(layer(np.array([60000.0, 100.0], "float16")), np.float16([60000.0, 0.0]))


def test_the_range_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), FakeQuantize(decay=0.5), FakeQuantize(fixed=(-1.0, 2.0))])
    x = RNG.normal(size=(4, 3)).astype("float32")
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].range == model.layers[0].range
    assert (loaded.layers[0].decay, loaded.layers[1].fixed) == (0.5, (-1.0, 2.0))
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.5}, r"`FakeQuantize`: `decay` must be >= 0 and <= 1. Received: decay=1.5"),
        ({"fixed": (1.0, 2.0)}, r"`FakeQuantize`: `fixed` must be .*Received: fixed=\(1.0, 2.0\)"),
        ({"fixed": (0.0, 0.0)}, r"`fixed` must be .*Received: fixed=\(0.0, 0.0\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FakeQuantize(**arguments)
