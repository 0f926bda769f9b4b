"""NaN and infinity in a training step: found in it, named, and kept from the student."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import assert_same, compiled_distiller, cross_entropy, examples, mlp, values_of

import keras_kd as kd

X, Y = examples(24)
WEIGHTS = np.linspace(0.5, 1.5, 24).astype("float32")
BAD = slice(8, 12)  # the third of the batches of 4
MODES = {
    "graph": {},
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": True},
    "threes": {"steps_per_execution": 3},
}


class Root(keras.layers.Layer):
    """The root of the first feature: of zero it is finite, and its gradient is not."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.dense.build(shape)

    def call(self, inputs):
        return self.dense(inputs) + keras.ops.sqrt(self.scale * keras.ops.abs(inputs[:, :1]))


def with_noise():
    """A student whose statistics and seeds move in its forward pass."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    hidden = [layers.Dense(5, "relu", name="hidden"), layers.BatchNormalization(), layers.Dropout(0.2, seed=1)]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3)])


def rooted():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), Root(name="root")], name="s")


def spoilt(array, value=np.nan):
    array = array.copy()
    array[BAD.start + 1] = value
    return array


def without_bad(array):
    return np.concatenate([array[: BAD.start], array[BAD.stop :]])


def fitted(distiller, *data, **kwargs):
    return distiller.fit(*data, batch_size=4, shuffle=False, verbose=0, **kwargs)


def state_of(distiller):
    return values_of([*distiller.variables, *distiller.optimizer.variables])


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_skips_ends_as_the_run_without_that_batch_to_the_bit(mode):
    runs = []
    for policy, change in (("skip", spoilt), ("raise", without_bad)):
        distiller = compiled_distiller(
            with_noise(),
            mlp(7, seed=1),
            [kd.objectives.SoftTargets(), kd.objectives.Contrastive("hidden", "hidden", dim=3, bank_size=6)],
            compile_with={
                "optimizer": keras.optimizers.Adam(0.01),
                "metrics": ["accuracy", "agreement"],
                "on_nonfinite": policy,
                **MODES[mode],
            },
        )
        keep = without_bad if change is without_bad else np.copy
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = fitted(distiller, change(X), keep(Y), sample_weight=keep(WEIGHTS), epochs=2).history
        runs.append((history, state_of(distiller), [str(w.message) for w in caught if "Skipped" in str(w.message)]))
    (history, state, told), (expected_history, expected_state, nothing) = runs
    assert history == expected_history
    assert_same(state, expected_state)
    batch = "one of the batches 1 to 3" if mode == "threes" else "batch 3"
    assert told == [
        f"`Distiller`: the data hold NaN or infinity in `x`, in {batch} of epoch {epoch}, both counted from 1. "
        "Skipped: 1."
        for epoch in (1, 2)
    ]
    assert nothing == []


@pytest.mark.parametrize(
    ("data", "student", "said"),
    [
        ((spoilt(X), Y, WEIGHTS), mlp, "the data hold NaN or infinity in `x`"),
        ((X, Y, spoilt(WEIGHTS)), mlp, "the data hold NaN or infinity in `sample_weight`"),
        (
            (spoilt(X, 0.0), Y, WEIGHTS),
            rooted,
            "the gradient of `s/root/",
        ),
    ],
    ids=["data", "weights", "gradient"],
)
def test_what_came_to_nan_is_named_with_its_batch(data, student, said):
    x, y, weights = data
    distiller, before = (compiled_distiller(student(), mlp(7, seed=1)) for _ in range(2))
    fitted(before, x[: BAD.start], y[: BAD.start], sample_weight=weights[: BAD.start])
    with pytest.raises(FloatingPointError) as caught:
        fitted(distiller, x, y, sample_weight=weights)
    assert str(caught.value).startswith(f"`Distiller`: {said}")
    assert str(caught.value).endswith(
        ", in batch 3 of epoch 1, both counted from 1. The student learnt nothing from it. Mend the cause, or leave "
        "such batches out: `compile(on_nonfinite='skip')`."
    )
    assert_same(state_of(distiller), state_of(before))


def test_a_student_that_overflows_is_named_and_so_is_what_a_batch_by_hand_gives():
    student = mlp(name="pupil")
    student.layers[-1].bias.assign([np.inf, 0, 0])
    distiller = compiled_distiller(student, mlp(7, seed=1))
    with pytest.raises(
        FloatingPointError, match="the student `pupil` gave NaN or infinity in `output_0`, in batch 1 of"
    ):
        distiller.train_on_batch(X[:4], Y[:4])


def test_both_players_of_a_game_are_left_as_they_were():
    def run(x, y, policy):
        keras.utils.set_random_seed(3)
        distiller = kd.AdversarialDistiller(mlp(), mlp(7, seed=1), discriminator_steps=2)
        distiller.compile(keras.optimizers.Adam(0.01), loss=cross_entropy(), on_nonfinite=policy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fitted(distiller, x, y).history, state_of(distiller)

    history, state = run(spoilt(X), Y, "skip")
    expected_history, expected_state = run(without_bad(X), without_bad(Y), "raise")
    assert history == expected_history
    assert_same(state, expected_state)


def test_scaled_gradients_of_float16_may_overflow():
    """The scale begins at 2^15 and is halved until the gradients fit: steps without an update, but no fault."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student = keras.Sequential(
            [
                layers[0],
                *(type(layer).from_config({**layer.get_config(), "dtype": "mixed_float16"}) for layer in layers[1:]),
            ]
        )
    finally:
        keras.config.set_dtype_policy("float32")
    distiller = compiled_distiller(student, mlp(7, seed=1), objectives=kd.objectives.SoftTargets(weight=100.0))
    fitted(distiller, 30 * X, Y, epochs=3)
    scale = distiller.optimizer.dynamic_scale
    assert 0 < float(scale) < 2**15
    assert int(distiller.optimizer.iterations) < 18


def test_the_policy_is_checked_and_comes_back_with_the_distiller(tmp_path):
    distiller = compiled_distiller(mlp(), mlp(7, seed=1), compile_with={"on_nonfinite": "skip"})
    fitted(distiller, X, Y)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert loaded.get_compile_config()["on_nonfinite"] == "skip"
    text = "`Distiller`: `on_nonfinite` must be one of ['raise', 'skip']. Received: on_nonfinite='ignore'."
    with pytest.raises(ValueError, match=re.escape(text)):
        loaded.compile("sgd", on_nonfinite="ignore")


def test_replicas_cannot_skip_and_say_that_they_have_learnt():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        distiller = compiled_distiller(mlp(), mlp(7, seed=1))
        text = "on_nonfinite='skip' goes without a strategy only, for its replicas would have to skip together."
        with pytest.raises(ValueError, match=text):
            distiller.compile("sgd", cross_entropy(), on_nonfinite="skip")
    with pytest.raises(
        FloatingPointError, match=r"in batch 3 of epoch 1.* The student has learnt from it. Mend the cause, and load"
    ):
        fitted(distiller, spoilt(X), Y)
