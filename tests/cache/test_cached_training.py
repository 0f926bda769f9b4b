"""Training on a cache in float32 logs and leaves what training with the live teacher does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from tests.cache.caching import (
    assert_same_run,
    batched,
    check_replayed_exactly,
    identified,
    printed_by,
    refusal_of,
    trained,
)
from tests.distiller.small_models import assert_same_history, compiled_distiller, examples, mlp, values_of

x, y = examples(14)
weights = np.linspace(0.2, 2.0, 14).astype("float32")
PLAIN = batched((x, y))
DATA = {  # the source, its batch size where it has none, and what the live teacher trains on
    "unbatched": (tf.data.Dataset.from_tensor_slices((x, y)), 4, PLAIN),
    "batched, last uneven": (PLAIN, None, PLAIN),
    "batched, remainder dropped": (batched((x, y), drop_remainder=True), None, PLAIN.take(3)),
    "arrays": ((x, y), 4, PLAIN),
    "sample weights": (batched((x, y, weights)), None, batched((x, y, weights))),
    "dict": (batched(({"image": x}, y)), None, PLAIN),
    "known by ids": (identified(x, y), 4, PLAIN),
}


def subclassed(width, seed):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = keras.layers.Dense(width, "tanh"), keras.layers.Dense(3)

        def call(self, inputs):
            return self.head(self.hidden(inputs))

    keras.utils.set_random_seed(seed)
    net = Net()
    net(np.zeros((2, 4), "float32"))
    return net


@pytest.fixture(scope="module")
def teacher():
    return mlp(9, seed=1)


@pytest.mark.parametrize("data", DATA)
def test_every_form_of_data(data, teacher, tmp_path):
    source, batch, live = DATA[data]
    check_replayed_exactly(tmp_path, teacher, source, batch=batch, live=live)


def test_arrays_given_to_fit_and_no_labels_where_alpha_is_zero(teacher, tmp_path):
    cache_teacher(teacher, x, tmp_path, dtype="float32")
    live, replay = (compiled_distiller(mlp(), who, alpha=0.0) for who in (teacher, None))
    expected = live.fit(x, epochs=2, batch_size=4, shuffle=False, verbose=0).history
    received = replay.fit(open_cache(tmp_path, x).batch(4), epochs=2, verbose=0).history
    assert_same_run((received, values_of(replay.weights)), (expected, values_of(live.weights)))


def test_sample_weights_count(teacher, tmp_path):
    cache_teacher(teacher, batched((x, y, weights)), tmp_path, dtype="float32")
    weighted, _ = trained(mlp(), None, open_cache(tmp_path, batched((x, y, weights))))
    plain, _ = trained(mlp(), None, open_cache(tmp_path, PLAIN))
    assert abs(weighted["loss"][0] - plain["loss"][0]) > 1e-3


def test_validation_on_a_cache_with_agreement(teacher, tmp_path):
    asked = {"metrics": ["agreement", "teacher_kl", "soft_targets", "accuracy"]}
    held_x, held_y = examples(11, seed=3)
    for folder, data in (("train", (x, y)), ("held", (held_x, held_y))):
        cache_teacher(teacher, batched(data), tmp_path / folder, dtype="float32")
    live, replay = (compiled_distiller(mlp(), who, compile_with=asked) for who in (teacher, None))
    opened = open_cache(tmp_path / "held", batched((held_x, held_y)))
    expected = live.fit(PLAIN, validation_data=batched((held_x, held_y)), epochs=2, verbose=0).history
    replayed = replay.fit(open_cache(tmp_path / "train", PLAIN), validation_data=opened, epochs=2, verbose=0).history
    assert "val_agreement" in expected
    assert set(replayed) == set(expected)
    assert_same_history(replayed, expected, rtol=2e-6)
    share = np.mean(np.argmax(teacher.predict(held_x, verbose=0), -1) == replay.predict(held_x, verbose=0).argmax(-1))
    assert replayed["val_agreement"][-1] == pytest.approx(share, abs=1e-6)


TEACHERS = {
    "ensemble": lambda: kd.Ensemble([mlp(9, seed=1), mlp(7, seed=2)], weights=[3, 1]),
    "probabilities": lambda: kd.Teacher(
        keras.Sequential([mlp(9, seed=1), keras.layers.Softmax()]),
        preprocess=lambda x: 2.0 * x,
        outputs="probabilities",
    ),
    "function": lambda: lambda x: x[:, :3] * 2.0,
}


@pytest.mark.parametrize("name", TEACHERS)
def test_every_kind_of_teacher(name, tmp_path):
    check_replayed_exactly(tmp_path, TEACHERS[name](), PLAIN, caching={"temperature": 2.5}, temperature=2.5)


@pytest.mark.parametrize("drop_remainder", [False, True])
def test_a_teacher_of_other_inputs(drop_remainder, tmp_path):
    data = batched(({"image": x, "scaled": 10.0 * x}, y), drop_remainder=drop_remainder)
    teacher = kd.Teacher(mlp(9, seed=1), inputs=["scaled"])
    check_replayed_exactly(tmp_path, teacher, data, student_inputs=["image"])


def test_a_cache_of_an_ensemble_is_of_one_temperature(tmp_path):
    """The mean of probabilities at 2.5 differs from that at 4, and the cache holds that at 2.5."""
    ensemble = TEACHERS["ensemble"]()
    cache_teacher(ensemble, PLAIN, tmp_path, dtype="float32", temperature=2.5)
    distiller = compiled_distiller(mlp(), None)
    assert refusal_of(distiller.fit, open_cache(tmp_path, PLAIN), verbose=0) == (
        "`SoftTargets`: the cache holds what the teacher said at temperature 2.5, and nothing else can be told from "
        "it. Received: temperature=4. Use 2.5, or make a cache with `cache_teacher(..., temperature=4)`."
    )


def heads(width, seed, count, keyed):
    """Outputs of two to four classes in turn, by key or by place."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(width, "tanh")(inputs)
    outputs = [keras.layers.Dense(2 + place % 3, name=f"head_{place}")(hidden) for place in range(count)]
    named = {f"key_{place}": output for place, output in enumerate(outputs)}
    return keras.Model(inputs, named if keyed else outputs)


@pytest.mark.parametrize("keyed", [True, False])
def test_more_than_ten_outputs_stay_in_order(keyed, tmp_path):
    """In the order of text `output_10` would come before `output_2`."""
    check_replayed_exactly(
        tmp_path,
        heads(9, 1, 11, keyed),
        batched(x),
        lambda: heads(5, 0, 11, keyed),
        alpha=0.0,
        compile_with={"loss": None, "run_eagerly": True},
        epochs=1,
    )


def test_features_of_taps(teacher, tmp_path):
    def objectives():
        keras.utils.set_random_seed(3)  # of the projector
        return [
            kd.objectives.SoftTargets(),
            kd.objectives.Hint("hidden", "hidden", weight=2.0),
            kd.objectives.SimilarityPreserving("head:input", "head:input", weight=9.0),
        ]

    check_replayed_exactly(
        tmp_path,
        teacher,
        PLAIN,
        objectives=objectives,
        caching={"taps": ["head:input", "hidden"]},
        tolerance={"rtol": 2e-3, "atol": 1e-4},  # features are stored in float16, off by 2**-11 at most
    )


def test_features_that_float16_holds_are_replayed_exactly(tmp_path):
    def rounded():
        teacher = mlp(9, seed=1)
        teacher.get_layer("hidden").activation = keras.activations.hard_sigmoid
        teacher.get_layer("hidden").set_weights([np.sign(teacher.get_layer("hidden").kernel) * 6, np.zeros(9)])
        return teacher

    def objectives():
        keras.utils.set_random_seed(3)
        return [kd.objectives.Hint("hidden", "hidden"), kd.objectives.SoftTargets()]

    whole = np.round(x).astype("float32")  # hard_sigmoid of whole multiples of 6 is 0, 0.5 or 1
    check_replayed_exactly(
        tmp_path, rounded(), batched((whole, y)), objectives=objectives, caching={"taps": ["hidden"]}
    )


def sequences(width, seed):
    keras.utils.set_random_seed(seed)
    tokens = keras.Input((6,), dtype="int32")
    hidden = keras.layers.Embedding(9, width, mask_zero=True)(tokens)
    return keras.Model(tokens, keras.layers.Dense(5)(keras.layers.Dense(width, "tanh")(hidden)))


def test_masked_sequences(tmp_path):
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, (10, 6)).astype("int32")
    tokens[np.arange(6) >= rng.integers(2, 7, (10, 1))] = 0
    data = batched((tokens, rng.integers(0, 5, (10, 6))))
    asked = {"metrics": ["agreement"]}
    check_replayed_exactly(tmp_path, sequences(7, 1), data, lambda: sequences(5, 0), compile_with=asked, epochs=2)


def test_a_subclassed_teacher_and_student(tmp_path):
    check_replayed_exactly(tmp_path, subclassed(9, 1), PLAIN, lambda: subclassed(5, 0))


def test_a_student_of_mixed_float16(teacher, tmp_path):
    def student():
        keras.config.set_dtype_policy("mixed_float16")
        made = mlp()
        keras.config.set_dtype_policy("float32")
        return made

    # The logits' last bits may tip how the student's float16 rounds.
    check_replayed_exactly(tmp_path, teacher, PLAIN, student, tolerance={"rtol": 1e-3, "atol": 1e-3})


MODES = {
    "eager": {"run_eagerly": True},
    "several steps at once": {"steps_per_execution": 2},
    "XLA": {"jit_compile": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_running(mode, teacher, tmp_path):
    data = batched((x, y), drop_remainder=mode == "XLA")
    check_replayed_exactly(tmp_path, teacher, data, compile_with=MODES[mode])


def test_training_on_single_batches(teacher, tmp_path):
    cache_teacher(teacher, PLAIN, tmp_path, dtype="float32")
    live, replay = (compiled_distiller(mlp(), who) for who in (teacher, None))
    for opened, (inputs, labels) in zip(open_cache(tmp_path, PLAIN), PLAIN, strict=True):
        expected = live.train_on_batch(inputs, labels, return_dict=True)
        received = replay.train_on_batch(*opened, return_dict=True)
        assert {name: float(value) for name, value in received.items()} == pytest.approx(
            {name: float(value) for name, value in expected.items()}, rel=2e-6
        )
    for one, other in zip(values_of(replay.weights), values_of(live.weights), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_predictions_from_cached_data_are_the_students(teacher, tmp_path):
    cache_teacher(teacher, PLAIN, tmp_path, dtype="float32")
    distiller = compiled_distiller(mlp(), None)
    received = distiller.predict(open_cache(tmp_path, PLAIN), verbose=0)
    np.testing.assert_allclose(received, mlp().predict(x, verbose=0), atol=1e-6)


def test_two_replicas_replay_what_one_device_does(tmp_path):
    results = printed_by("cached_replicas_program", tmp_path)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    assert_same_run(results["plain, one device"], results["plain, live"], **tolerance)
    assert_same_run(results["plain, two"], results["plain, one device"], **tolerance)
    assert_same_run(results["views, two"], results["views, one device"], **tolerance)
    assert results["views, two"][0]["loss"] != results["plain, two"][0]["loss"]
