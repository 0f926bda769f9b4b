"""`ModalityDropout` against probabilities found by enumeration."""

import itertools

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_kd.modalities import ModalityDropout

COUNT = 20_000
NAMES = ("image", "audio", "text")


def ones(count=COUNT):
    return {
        "image": np.ones((count, 2, 2, 1), "float32"),
        "audio": np.ones((count, 3), "float32"),
        "text": np.full((count, 2), 7, "int32"),
    }


def probabilities(rates, has):
    """Of each set of kept modalities, by going through all outcomes of independent draws."""
    has = [name for name in NAMES if name in has]
    found = {}
    for outcome in itertools.product([True, False], repeat=len(has)):
        chance = np.prod([1 - rates[n] if keep else rates[n] for n, keep in zip(has, outcome, strict=True)])
        kept = frozenset(n for n, keep in zip(has, outcome, strict=True) if keep)
        for saved in [kept] if kept else [frozenset([name]) for name in has]:
            found[saved] = found.get(saved, 0.0) + chance / (1 if kept else len(has))
    return found


def kept_sets(outputs):
    """What each example kept, read from the tensors; every value of a tensor must say the same."""
    kept = {}
    for name in NAMES:
        flat = outputs[name].numpy().reshape(len(outputs[name]), -1)
        assert ((flat == flat[:, :1]).all(axis=1) & np.isin(flat[:, 0], [0, 1, 7])).all()
        kept[name] = flat[:, 0] != 0
    rows = np.stack([kept[name] for name in NAMES], axis=1)
    return [frozenset(name for name, keep in zip(NAMES, row, strict=True) if keep) for row in rows.tolist()]


def check_frequencies(sets, expected):
    assert sum(expected.values()) == pytest.approx(1)
    for kept in {*sets, *expected}:
        p = expected.get(kept, 0.0)
        low, high = scipy.stats.binom.interval(1 - 1e-6, len(sets), p)
        assert low <= sets.count(kept) <= high, (kept, sets.count(kept), len(sets) * p)


@pytest.mark.parametrize(
    "rates", [{"image": 0.5, "audio": 0.2, "text": 0.8}, {"image": 0.0, "audio": 0.6, "text": 1.0}]
)
def test_sets_come_as_often_as_the_formula_says(rates):
    outputs = ModalityDropout(rates, seed=1)(ones(), training=True)
    check_frequencies(kept_sets(outputs), probabilities(rates, NAMES))


def test_a_number_is_the_rate_of_all_and_one_of_all_is_always_kept():
    outputs = ModalityDropout(1.0, seed=2)(ones(), training=True)
    check_frequencies(kept_sets(outputs), {frozenset([name]): 1 / 3 for name in NAMES})


@pytest.mark.parametrize("compiled", [{}, {"jit_compile": True}])
def test_what_is_absent_stays_absent_and_does_not_count(compiled):
    rates = {"image": 0.5, "audio": 0.7, "text": 0.9}
    has = {"image": np.arange(COUNT) % 2 == 0, "audio": np.ones(COUNT, bool), "text": np.arange(COUNT) % 4 < 2}
    x = {name: tensor * has[name].reshape(-1, *[1] * (tensor.ndim - 1)) for name, tensor in ones().items()}
    layer = ModalityDropout(rates, seed=3)
    step = tf.function(lambda x: layer(x, training=True), **compiled)
    outputs = step({**x, **{f"{name}_present": mask for name, mask in has.items()}, "weight": np.ones(COUNT)})
    sets = kept_sets(outputs)
    for name in NAMES:
        np.testing.assert_array_equal(outputs[f"{name}_present"], [name in kept for kept in sets])
    np.testing.assert_array_equal(outputs["weight"], np.ones(COUNT))
    for index in range(4):
        present = [name for name in NAMES if has[name][index]]
        check_frequencies(sets[index::4], probabilities(rates, present))


def test_an_example_without_any_stays_without():
    x = {**ones(5), **{f"{name}_present": np.zeros(5, bool) for name in NAMES}}
    outputs = ModalityDropout(0.5)(x, training=True)
    assert kept_sets(outputs) == [frozenset()] * 5
    assert not any(outputs[f"{name}_present"].numpy().any() for name in NAMES)


def test_draws_differ_from_call_to_call_and_repeat_with_the_seed():
    first, again = (ModalityDropout(0.5, seed=4) for _ in range(2))
    calls = [[kept_sets(layer(ones(50), training=True)) for _ in range(2)] for layer in (first, again)]
    assert calls[0] == calls[1]
    assert calls[0][0] != calls[0][1]


def test_inference_changes_nothing():
    x = {**ones(4), "audio_present": np.array([True, False, True, False])}
    outputs = ModalityDropout(0.9)(x)
    assert list(outputs) == list(x)
    for name in x:
        np.testing.assert_array_equal(outputs[name], x[name])


def test_no_gradient_goes_to_what_is_dropped():
    x = {"image": tf.ones((200, 3)), "audio": tf.ones((200, 2))}
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = ModalityDropout(0.5, seed=5)(x, training=True)
        total = sum(tf.reduce_sum(tf.square(tensor)) for tensor in outputs.values())
    for name, gradient in tape.gradient(total, x).items():
        np.testing.assert_array_equal(gradient, 2 * outputs[name].numpy())
        assert {0.0, 2.0} == set(np.unique(gradient))


def test_types_stay_under_a_mixed_policy():
    layer = ModalityDropout(0.5, dtype="mixed_float16")
    x = {**ones(2), "text_present": np.ones(2, bool)}
    inputs = {name: keras.Input(v.shape[1:], dtype=v.dtype, name=name) for name, v in x.items()}
    for outputs in (layer(x, training=True), layer(inputs)):
        assert {name: keras.backend.standardize_dtype(v.dtype) for name, v in outputs.items()} == {
            "image": "float32",
            "audio": "float32",
            "text": "int32",
            "text_present": "bool",
        }


def summed(tensors):
    return keras.ops.stack([keras.ops.mean(keras.ops.cast(t, "float32"), axis=-1) for t in tensors], axis=1)


@keras.saving.register_keras_serializable(package="tests")
class Inside(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = ModalityDropout(0.5, seed=6)

    def call(self, inputs, training=None):
        outputs = self.dropout(inputs, training=training)
        return summed([outputs["audio"], outputs["text"]])


def functional():
    inputs = {"audio": keras.Input((3,), name="audio"), "text": keras.Input((2,), dtype="int32", name="text")}
    outputs = ModalityDropout(0.5, seed=6)(inputs)
    return keras.Model(inputs, summed([outputs["audio"], outputs["text"]]))


@pytest.mark.parametrize("make", [functional, Inside])
def test_as_part_of_a_model(make, tmp_path):
    x = {name: tensor for name, tensor in ones(400).items() if name != "image"}
    model = make()
    rows = {tuple(row) for row in keras.ops.convert_to_numpy(model(x, training=True)).tolist()}
    assert rows == {(1.0, 7.0), (0.0, 7.0), (1.0, 0.0)}
    np.testing.assert_array_equal(model.predict(x, verbose=0), np.tile([1.0, 7.0], (400, 1)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), np.tile([1.0, 7.0], (400, 1)))


@pytest.mark.parametrize("rates", [0.25, {"image": 0.5, "audio": 0.0}])
def test_round_trip(rates):
    config = ModalityDropout(rates, seed=7, name="drop").get_config()
    assert (config["rates"], config["seed"], config["name"]) == (rates, 7, "drop")
    assert ModalityDropout.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        (1.5, "`ModalityDropout`: `rates` must be >= 0 and <= 1. Received: rates=1.5."),
        (
            {"image": 0.5, "audio": -1},
            "`ModalityDropout`: `rates['audio']` must be >= 0 and <= 1. Received: rates['audio']=-1.",
        ),
        (
            {"image": 0.5},
            "`ModalityDropout`: `rates` must be for two modalities or more, as one is always kept; give those that are "
            "never dropped the rate 0. Received: ['image'].",
        ),
    ],
)
def test_refused_rates(rates, text):
    with pytest.raises(ValueError, match="`ModalityDropout`") as error:
        ModalityDropout(rates)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("rates", "x", "text"),
    [
        (0.5, np.ones((2, 3)), "inputs must be a dict of tensors by modality. Received: one of shape (2, 3)."),
        (
            {"image": 0.5, "smell": 0.5},
            {"image": np.ones((2, 3))},
            "inputs must hold every modality of `rates`. Received: ['image'], without ['smell'].",
        ),
        (
            0.5,
            {"image": np.ones((2, 3)), "image_present": np.ones(2, bool)},
            "`rates` must be for two modalities or more, as one is always kept; give those that are never dropped the "
            "rate 0. Received: ['image'].",
        ),
    ],
)
def test_refused_inputs(rates, x, text):
    with pytest.raises(ValueError, match="`ModalityDropout`") as error:
        ModalityDropout(rates)(x, training=True)
    assert str(error.value) == f"`ModalityDropout`: {text}"
