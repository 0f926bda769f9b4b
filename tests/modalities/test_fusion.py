"""`fusion_model`: its shape, and what presence, attention and gates must do, by values."""

import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.special

from keras_kd.modalities import LogMel, PresentSoftmax, fusion_model
from keras_kd.modalities.fusion import FUSIONS
from tests.modalities.three import AUDIO, CLASSES, IMAGE, SUBSETS, TEXT, THREE, batch, with_presence

WIDTH = 3


def moved(model, seed=0):
    """Biases and batch statistics off 0 and 1, where leaving them out would go unseen."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(weight + rng.uniform(0.1, 0.5, size=weight.shape))
    return model


def build(fusion="concat", **kwargs):
    keras.utils.set_random_seed(1)
    return moved(fusion_model(THREE, CLASSES, fusion=fusion, width=WIDTH, **kwargs))


def listened(model, *names):
    """The model's layers of these names, and its logits."""
    return keras.Model(model.input, [*(model.get_layer(name).output for name in names), model.output])


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("present", [False, True])
def test_inputs_outputs_and_taps(fusion, present):
    model = build(fusion, present=present)
    expected = {"image": ((8, 8, 1), "float32"), "audio": ((1024,), "float32"), "text": ((6,), "int32")}
    if present:
        expected.update({f"{name}_present": ((), "bool") for name in THREE})
    assert {name: (tensor.shape[1:], tensor.dtype) for name, tensor in model.input.items()} == expected
    assert {name: tensor.name for name, tensor in model.input.items()} == {name: name for name in expected}
    assert model.output_shape == (None, CLASSES)
    assert model.output_names == ["logits"]
    for name in THREE:
        assert model.get_layer(f"{name}_embedding").output.shape == (None, 2 * WIDTH)


@pytest.mark.parametrize("name", THREE)
def test_one_modality_alone(name):
    model = fusion_model({name: THREE[name]}, CLASSES, width=WIDTH)
    assert list(model.input) == [name]
    x, _ = batch(2)
    assert model({name: x[name]}).shape == (2, CLASSES)
    assert not [layer.name for layer in model.layers if layer.name == "fusion"]


def test_plain_shapes_are_floats_of_their_rank():
    modalities = {"picture": (6, 5, 2), "spectrogram": (7, 4), "sensor": (9,)}
    model = fusion_model(modalities, 4, width=2)
    assert {name: (t.shape[1:], t.dtype) for name, t in model.input.items()} == {
        name: (shape, "float32") for name, shape in modalities.items()
    }
    assert model.count_params() == by_hand(2, 4)


def by_hand(width, classes):
    """Parameters of the three branches of plain shapes, side by side."""
    wide = 2 * width

    def convolved(channels, kernel):
        sizes = [channels, width, wide, wide]
        convolutions = sum(kernel * a * b + 4 * b for a, b in itertools.pairwise(sizes))
        return 4 * channels + convolutions + (wide + 1) * wide

    sensor = (9 + 1) * wide + (wide + 1) * wide
    return convolved(2, kernel=9) + convolved(4, kernel=3) + sensor + (3 * wide + 1) * wide + (wide + 1) * classes


def test_width_scales_it():
    sizes = [fusion_model(THREE, CLASSES, width=width).count_params() for width in (8, 16, 32, 64)]
    assert all(2.5 * small < large < 4.2 * small for small, large in itertools.pairwise(sizes))


def test_the_front_end_outside_gives_what_it_gives_inside():
    inside, outside = build(), build(mel=False)
    assert outside.input["audio"].shape == (None, 9, 40)
    outside.set_weights(inside.get_weights())
    x, _ = batch(4)
    features = np.asarray(LogMel(AUDIO.rate, floor=0.01, normalize=True)(x["audio"]))
    np.testing.assert_allclose(outside({**x, "audio": features}), inside(x), rtol=1e-5, atol=1e-6)


def test_a_front_end_of_ones_own():
    mel = LogMel(AUDIO.rate, hop=256, bands=16)
    model = build(mel=mel)
    assert model.get_layer("audio_log_mel").output.shape == (None, 5, 16)
    assert model.get_layer("audio_log_mel") is not mel
    assert build(mel=mel).count_params() == model.count_params()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("subset", SUBSETS, ids=lambda subset: "+".join(sorted(subset)))
def test_what_stands_for_an_absent_modality_changes_nothing(fusion, subset):
    model = build(fusion, present=True)
    x, _ = batch(5)
    zeros = with_presence(x, subset)
    rubbish = {name: zeros[name] if name in subset or name not in x else x[name][::-1] for name in zeros}
    broken = {
        name: np.full_like(value, np.nan) if name in ("image", "audio") and name not in subset else value
        for name, value in zeros.items()
    }
    expected = model(zeros)
    for training in (False, True):
        expected = model(zeros, training=training)
        np.testing.assert_array_equal(model(rubbish, training=training), expected)
        np.testing.assert_array_equal(model(broken, training=training), expected)
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_an_absent_embedding_is_not_in_the_output(fusion):
    """Other weights in the branch of an absent modality change nothing; in that of a present one, they do."""
    model = build(fusion, present=True)
    x, _ = batch(5)
    has_audio = np.array([True, False, True, False, False])
    x = {**with_presence(x, THREE), "audio_present": has_audio}
    before = np.asarray(model(x))
    model.get_layer("audio_embedding").set_weights([w + 1 for w in model.get_layer("audio_embedding").get_weights()])
    after = np.asarray(model(x))
    np.testing.assert_array_equal(before[~has_audio], after[~has_audio])
    assert (np.abs(before - after)[has_audio].max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_any_modality_the_logits_are_finite_and_all_the_same(fusion):
    logits = np.asarray(build(fusion, present=True)(with_presence(batch(3)[0], set())))
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(logits, np.repeat(logits[:1], 3, axis=0))


def test_attention_is_a_softmax_over_the_present():
    model = build("attention", present=True)
    names = [f"{name}_embedding" for name in THREE]
    x, _ = batch(7)
    rng = np.random.default_rng(3)
    masks = np.array([subset for subset in itertools.product([True, False], repeat=3) if any(subset)])
    x = {**x, **{f"{name}_present": masks[:, i] for i, name in enumerate(THREE)}}
    for weight in model.get_layer("attention_hidden").weights:
        weight.assign(rng.normal(size=weight.shape))
    *embeddings, weights, fused, _ = listened(model, *names, "modality_weights", "fusion")(x)
    (kernel, bias), (direction,) = (model.get_layer(f"attention_{n}").get_weights() for n in ("hidden", "scores"))
    for row in range(7):
        present = [i for i in range(3) if masks[row, i]]
        scores = [float(np.tanh(embeddings[i][row].numpy() @ kernel + bias) @ direction[:, 0]) for i in present]
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(weights[row].numpy()[present], expected, rtol=1e-5)
        assert weights[row].numpy()[~masks[row]].tolist() == [0.0] * (3 - len(present))
        mixed = sum(w * embeddings[i][row].numpy() for w, i in zip(expected, present, strict=True))
        np.testing.assert_allclose(fused[row], mixed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scores", [[80.0, 0.0, -80.0], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
def test_the_present_weights_add_up_however_far_the_scores_are_apart(scores):
    for mask in itertools.product([True, False], repeat=3):
        weights = PresentSoftmax()(np.array([scores], "float32"), np.array([mask])).numpy()[0]
        expected = np.zeros(3)
        if any(mask):
            expected[list(mask)] = scipy.special.softmax(np.array(scores)[list(mask)])
        np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize("present", [False, True])
def test_gates_are_those_of_the_paper(present):
    model = build("gated", present=present)
    x, _ = batch(4)
    x = with_presence(x, {"image", "text"}) if present else x
    outputs = listened(model, *(f"{name}_embedding" for name in THREE), "fusion")(x)
    embeddings = [e.numpy() * (not present or name != "audio") for e, name in zip(outputs, THREE, strict=False)]
    everything = np.concatenate(embeddings, axis=1)
    expected = 0
    for name, embedding in zip(THREE, embeddings, strict=True):
        (gate, gate_bias), (value, value_bias) = (
            model.get_layer(f"{name}_{p}").get_weights() for p in ("gate", "value")
        )
        part = np.tanh(embedding @ value + value_bias) / (1 + np.exp(-everything @ gate - gate_bias))
        expected = expected + part * (not present or name != "audio")
    np.testing.assert_allclose(outputs[3], expected, rtol=1e-4, atol=1e-6)


def test_dropout_drops_inputs_and_tells_the_fusion():
    model = build("attention", present=True, dropout_rates=0.6, seed=2)
    weights = listened(model, "modality_weights")(with_presence(batch(60)[0], THREE), training=True)[0].numpy()
    kept = {tuple(row) for row in (weights > 0).tolist()}
    assert kept == {row for row in itertools.product([True, False], repeat=3) if any(row)}
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_saved_and_loaded_it_is_the_same(fusion, tmp_path):
    model = build(fusion, present=True, dropout_rates={"image": 0.5, "audio": 0.2})
    model.save(tmp_path / "model.keras")
    x = with_presence(batch(3)[0], {"image", "audio"})
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


def test_logits_are_float32_under_a_mixed_policy():
    x, _ = batch(3)
    expected = build("gated")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = build("gated")
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(expected.get_weights())
    assert mixed(x).dtype == "float32"
    np.testing.assert_allclose(mixed(x), expected(x), rtol=2e-2, atol=2e-2)


NO_MODALITY = SimpleNamespace(seconds=3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"modalities": {}},
            "`modalities` must be a dict of what the model sees by name, as in {'image': (28, 28, 1)}. Received: {}.",
        ),
        (
            {"modalities": {"a/b": (3,), "image": IMAGE, "image_present": TEXT}},
            "names of `modalities` must be strings without '/', and not those of presence, which `present=True` adds. "
            "Received: ['a/b', 'image_present'].",
        ),
        (
            {"modalities": {"smell": NO_MODALITY}},
            "modality 'smell' must be a shape of one to three sizes, or have the attributes height, width, channels; "
            f"samples, rate; or length, vocabulary. Received: {NO_MODALITY!r}.",
        ),
        ({"fusion": "sum"}, "`fusion` must be one of ['concat', 'attention', 'gated']. Received: fusion='sum'."),
        ({"width": 0}, "`width` must be an integer >= 1. Received: width=0."),
        ({"num_classes": 2.5}, "`num_classes` must be an integer >= 1. Received: num_classes=2.5."),
        ({"mel": "yes"}, "`mel` must be True, False or a `LogMel`. Received: mel='yes'."),
    ],
)
def test_refusals(arguments, text):
    with pytest.raises(ValueError, match="`fusion_model`") as error:
        fusion_model(**{"modalities": {"image": IMAGE}, "num_classes": 3, **arguments})
    assert str(error.value) == f"`fusion_model`: {text}"
