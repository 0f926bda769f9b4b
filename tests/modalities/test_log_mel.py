"""`LogMel` against SciPy's transform and triangles drawn by hand, in Keras and in LiteRT."""

import math

import keras
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

import keras_kd as kd
from keras_kd.export import LiteRTModel
from keras_kd.modalities import LogMel

RNG = np.random.default_rng(0)
WAVES = (RNG.normal(size=(3, 2000)) * np.array([[0.5], [0.05], [0.001]])).astype("float32")


def oracle(waves, rate=8000, frame=256, hop=128, bands=40, low=20.0, high=None, floor=1e-6):
    """In float64: SciPy's spectrum, each triangle by interpolation between its three corners."""
    transform = 2 ** math.ceil(math.log2(frame))
    window = np.zeros(transform)
    start = (transform - frame) // 2
    window[start : start + frame] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
    waves = np.asarray(waves, "float64")
    _, _, spectrum = scipy.signal.stft(
        waves, nperseg=transform, noverlap=transform - hop, window=window, boundary="even", padded=False
    )
    power = np.abs(spectrum * window.sum()) ** 2
    mel = lambda f: 1127.01048 * math.log1p(f / 700)  # noqa: E731
    low, high = mel(low), mel(high or rate / 2)
    step = (high - low) / (bands + 1)
    places = [mel(k * rate / transform) for k in range(transform // 2 + 1)]
    out = np.empty((len(waves), power.shape[2], bands))
    for band in range(bands):
        corners = [low + (band + i) * step for i in range(3)]
        triangle = np.interp(places, corners, [0, 1, 0], left=0, right=0)
        triangle[0] = 0  # HTK leaves the constant part out
        out[:, :, band] = np.log(np.maximum(np.einsum("bkt,k->bt", power, triangle), floor))
    return out


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rate": 16000, "frame": 400, "hop": 160, "bands": 32, "low": 60.0, "high": 7000.0, "floor": 1e-4},
        {"frame": 100, "hop": 77, "bands": 8},
    ],
)
def test_equals_scipy(settings):
    expected = oracle(WAVES, **settings)
    layer = LogMel(**settings)
    features = keras.ops.convert_to_numpy(layer(WAVES))
    assert features.shape == expected.shape == tuple(layer.compute_output_shape(WAVES.shape))
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("samples", [256, 257, 383, 384])
def test_the_number_of_frames_is_that_of_scipy(samples):
    waves = WAVES[:, :samples]
    symbolic = LogMel()(keras.Input((samples,)))
    assert LogMel()(waves).shape[1] == symbolic.shape[1] == oracle(waves).shape[1] == 1 + samples // 128


@pytest.mark.parametrize("frequency", [300.0, 1000.0, 3100.0])
def test_a_pure_tone_is_greatest_in_its_band(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(8000) / 8000)[None].astype("float32")
    mel = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    centres = np.linspace(mel(20), mel(4000), 42)[1:-1]
    nearest = np.abs(centres - mel(frequency)).argmin()
    # Away from the ends, where the mirrored tone has a kink.
    assert (np.asarray(LogMel()(tone))[0, 2:-2].argmax(axis=1) == nearest).all()


def test_an_impulse_is_flat_in_the_frames_that_see_it():
    impulse = np.zeros((1, 2048), "float32")
    impulse[0, 1024] = 1
    features = np.asarray(LogMel()(impulse))[0]
    # The window is 1 at its centre, so the band's energy is the area of its triangle; frames a hop away see its zero.
    areas = oracle(impulse)[0, 8]
    np.testing.assert_allclose(features[8], areas, atol=1e-4)
    energies = np.exp(features[8])
    steps = np.diff([700 * (10 ** (m / 2595) - 1) for m in np.linspace(31.749, 2146.076, 42)])
    np.testing.assert_allclose(energies[10:], (steps[:-1] + steps[1:])[10:] / 2 / 31.25, rtol=0.1)
    np.testing.assert_allclose(np.delete(features, 8, axis=0), math.log(1e-6), rtol=1e-6)


def test_silence_is_the_floor_and_has_a_gradient_of_zero():
    silence = tf.zeros((2, 512))
    with tf.GradientTape() as tape:
        tape.watch(silence)
        features = LogMel(floor=1e-3)(silence)
    np.testing.assert_allclose(features, math.log(1e-3), rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(features, silence), np.zeros((2, 512)))


def test_normalized_recordings_are_equally_loud():
    expected = oracle(WAVES / np.abs(WAVES).max(axis=1, keepdims=True), floor=0.01)
    layer = LogMel(floor=0.01, normalize=True)
    for loudness in (1, 100):
        np.testing.assert_allclose(layer(loudness * WAVES), expected, rtol=1e-4, atol=2e-4)


def test_what_is_all_but_silent_is_not_blown_up():
    hiss = 1e-5 * WAVES[:1] / np.abs(WAVES[:1]).max()
    np.testing.assert_allclose(LogMel(normalize=True)(hiss), oracle(1e3 * hiss), rtol=1e-4, atol=2e-4)


def test_an_example_does_not_depend_on_the_others():
    together = np.asarray(LogMel()(WAVES))
    for index in range(3):
        np.testing.assert_allclose(np.asarray(LogMel()(WAVES[index : index + 1]))[0], together[index], atol=1e-4)


def test_a_mixed_policy_computes_in_float32_and_hands_on_float16():
    features = LogMel(dtype="mixed_float16")(100 * WAVES)  # energies of up to 1e7
    assert features.dtype == "float16"
    np.testing.assert_allclose(features, oracle(100 * WAVES), rtol=1e-3, atol=1e-2)


def test_runs_in_a_data_pipeline():
    features = next(iter(tf.data.Dataset.from_tensor_slices(WAVES).batch(3).map(LogMel())))
    np.testing.assert_allclose(features, oracle(WAVES), rtol=1e-4, atol=2e-4)


def test_round_trip_and_no_weights(tmp_path):
    inputs = keras.Input((2000,), name="audio")
    model = keras.Model(inputs, LogMel(bands=12, high=3000, name="front")(inputs))
    model.save(tmp_path / "front.keras")
    loaded = keras.models.load_model(tmp_path / "front.keras")
    assert loaded.count_params() == 0
    assert loaded.get_layer("front").get_config() == model.get_layer("front").get_config()
    np.testing.assert_allclose(loaded(WAVES), oracle(WAVES, bands=12, high=3000), rtol=1e-4, atol=2e-4)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    inputs = keras.Input((2000,), name="audio")
    model = keras.Model(inputs, LogMel()(inputs))
    folder = tmp_path_factory.mktemp("front")
    forms = ("float32", "float16", "dynamic", "int8")
    settings = {"representative_data": WAVES, "evaluation_data": WAVES, "tolerances": {"int8": 0}}
    report = kd.export_student(model, folder, formats="tflite", quantize=forms, **settings)
    return {file.quantize: file for file in report.files}


@pytest.mark.parametrize("form", ["float32", "float16", "dynamic"])
def test_a_file_equals_keras_for_any_batch(exported, form):
    file = LiteRTModel(exported[form].path)
    assert file.batch_size is None
    for count in (1, 3):
        # In "float16" the constants are rounded by up to 2^-11: the triangles once, the window squared.
        halves = 3 * 2**-11 if form == "float16" else 0
        np.testing.assert_allclose(file(WAVES[:count]), oracle(WAVES[:count]), rtol=1e-4, atol=2e-4 + halves)


def test_an_int8_file_keeps_the_loudest_levels_alone(exported):
    features, expected = LiteRTModel(exported["int8"].path)(WAVES), oracle(WAVES)
    loud = expected > expected.max() - math.log(16)
    quiet = expected < expected.max() - math.log(4 * 256)
    assert np.abs(features - expected)[loud].mean() < 0.25
    assert np.abs(features - expected)[quiet].mean() > 1


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"hop": 0}, "`LogMel`: `hop` must be >= 1. Received: hop=0."),
        ({"floor": 0}, "`LogMel`: `floor` must be > 0. Received: floor=0."),
        ({"low": 5000}, "`LogMel`: `low` must be >= 0 and <= 4000. Received: low=5000."),
        ({"high": 4001}, "`LogMel`: `high` must be >= 20 and <= 4000. Received: high=4001."),
        ({"normalize": 1}, "`LogMel`: `normalize` must be True or False. Received: normalize=1."),
        (
            {"bands": 100},
            "`LogMel`: every band must be as wide as a step of the transform, 31.25 Hz. "
            "Received: bands=100, of which 1 hold nothing. Take fewer `bands` or a longer `frame`.",
        ),
    ],
)
def test_refusals(settings, text):
    with pytest.raises(ValueError, match="`LogMel`") as error:
        LogMel(**settings)
    assert str(error.value) == text


@pytest.mark.parametrize("shape", [(3, 128), (3, 2000, 1)])
def test_what_is_no_waveform_is_refused(shape):
    with pytest.raises(ValueError, match="`LogMel`") as error:
        LogMel()(np.zeros(shape, "float32"))
    assert str(error.value) == (
        "`LogMel`: inputs must be waveforms of shape (batch, samples), of at least 129 samples. "
        f"Received: shape {shape}."
    )
