"""A chain against the same loop written by hand, with `Distiller.fit` and a copy of the weights of each epoch."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.assistants.lessons import Lessons
from keras_kd.objectives import DenseGuidance, Hint, SimKD, SoftTargets
from tests.assistants.chains import (
    VALIDATION,
    X,
    Y,
    accuracy,
    assert_same,
    assert_same_histories,
    chain_of,
    data,
    fit,
    how_to_compile,
    logits,
    mlp,
    models,
    weights,
)

ONE = mlp(5, 3)
W = np.linspace(0.0, 2.0, 30).astype("float32")
MODES = {"plain": False, "dense": True, "ensemble": "ensemble"}


class Copies(keras.callbacks.Callback):
    """The student's weights after each epoch."""

    def __init__(self, student):
        super().__init__()
        self._student, self.weights = student, []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self._student.get_weights())


def learnt(learner, student, epochs):
    """The history of a hop by hand; leaves the weights of the best accuracy."""
    copies = Copies(student)
    learner.compile(**how_to_compile())
    learner.fit(data(), validation_data=VALIDATION, epochs=epochs, callbacks=[copies], verbose=0)
    history = learner.history.history
    student.set_weights(copies.weights[int(np.argmax(history["val_accuracy"]))])
    return history


@pytest.fixture(scope="module")
def by_hand():
    """Trains a chain of three models, the first of which is trained too: models and histories by the mode."""
    first, learning = models(), {"alpha": 0.4, "temperature": 3.0}
    histories = [learnt(first[0], first[0], epochs=1)]
    histories.append(learnt(kd.Distiller(first[1], first[0], **learning), first[1], epochs=1))
    done = {}
    # A first assistant has one teacher, whatever the mode.
    for mode, (taught, objective) in {
        "plain": (first[1], SoftTargets()),
        "dense": (first[:2], DenseGuidance(seed=3, name="soft_targets")),
        "ensemble": (first[:2], SoftTargets()),
    }.items():
        student = models()[2]
        history = learnt(kd.Distiller(student, taught, objective, **learning), student, epochs=2)
        done[mode] = [*first[:2], student], [*histories, history]
    return done


def chain_in(mode, given=None, **kwargs):
    # The seed of the draws is told to the chain by an objective of the same name.
    objectives = DenseGuidance(seed=3, name="soft_targets") if mode == "dense" else None
    return chain_of(given, alpha=0.4, temperature=3.0, objectives=objectives, dense=MODES[mode], **kwargs)


@pytest.fixture(scope="module", params=MODES)
def trained(request, by_hand):
    """The mode, a chain and its histories. One chain trains its teacher too, the others have it from the loop."""
    mode = request.param
    if mode == "plain":
        chain = chain_in(mode, train_teacher=True)
        return mode, chain, fit(chain, epochs=[1, 1, 2])
    chain = chain_in(mode, [by_hand[mode][0][0], *models()[1:]])
    return mode, chain, fit(chain, epochs=[1, 2])


def test_a_chain_is_the_loop_by_hand(trained, by_hand):
    mode, chain, histories = trained
    made, expected = by_hand[mode]
    assert_same_histories(histories, expected[-len(histories) :])
    assert_same(weights(chain), [value for model in made for value in model.get_weights()])


def trained_models(chain):
    return chain.models[-len(chain.records) :]


def agreeing(model, chain):
    return (logits(model).argmax(-1) == logits(chain.models[0]).argmax(-1)).mean()


def test_records_say_what_the_kept_weights_reach(trained):
    _, chain, histories = trained
    assert chain.history == histories == [record.history for record in chain.records]
    assert chain.student is chain.models[-1]
    for model, record in zip(trained_models(chain), chain.records, strict=True):
        count = 8 * model.layers[0].units + 3
        assert (record.name, record.parameters, record.bytes) == (model.name, count, 4 * count)
        assert record.best_epoch == int(np.argmax(record.history["val_accuracy"]))
        reached = {"accuracy": accuracy(model)}
        if model is not chain.models[0]:
            reached["agreement"] = agreeing(model, chain)
        assert record.results == pytest.approx(reached, rel=1e-6)


def test_the_summary_is_a_table_of_all_models(trained):
    _, chain, _ = trained
    printed = []
    chain.summary(printed.append)
    header, *lines = printed[0].splitlines()
    assert header.split() == ["model", "parameters", "kB", "accuracy", "agreement", "seconds"]
    seconds = [f"{record.seconds:.1f}" for record in chain.records]
    for line, model in zip(lines, chain.models, strict=True):
        count = 8 * model.layers[0].units + 3
        cells = [model.name, str(count), f"{4 * count / 1000:.1f}", f"{accuracy(model):.4f}"]
        cells += [] if model is chain.models[0] else [f"{agreeing(model, chain):.4f}"]
        # A teacher that came trained has no time of a hop.
        cells += (
            seconds[len(seconds) - len(chain.models) + chain.models.index(model) :][:1]
            if model in trained_models(chain)
            else []
        )
        assert line.split() == cells


def test_cached_teachers_teach_what_live_ones_do(trained, tmp_path):
    mode, live, histories = trained
    chain = chain_in(mode, [live.models[0], *models()[1:]])
    again = fit(chain, folder=tmp_path, cache={"dtype": "float32"}, epochs=[1, 2])
    assert_same_histories(again, histories[-2:])
    assert_same(weights(chain), weights(live), rtol=1e-6, atol=1e-6)
    # Each was asked before the hop that it taught first was done, and not again.
    for model in (0, 1):
        rows = tmp_path / "signals" / f"model_{model}" / "signals-00000.tfrecord"
        done = tmp_path / f"hop_{model + 1}" / "hop.json"
        assert rows.stat().st_mtime_ns < done.stat().st_mtime_ns


@pytest.mark.parametrize(
    "weighing",
    [{"sample_weight": np.linspace(0.5, 1.5, 50).astype("float32")}, {"class_weight": {0: 2.0, 1: 1.0, 2: 0.5}}],
    ids=["sample_weight", "class_weight"],
)
def test_arrays_are_cached_in_batches_as_fit_would_have_them(weighing):
    histories, reached = [], []
    for cache in (False, {"dtype": "float32"}):
        chain = chain_of(models()[:2], compile_with={"weighted_metrics": ["accuracy"]})
        more = {"batch_size": 20, "shuffle": False, "validation_data": (*VALIDATION, W), **weighing}
        histories.append(fit(chain, X[:50], Y[:50], epochs=1, cache=cache, **more))
        reached.append((weights(chain), chain.records[0].results))
    assert_same_histories(*histories)
    assert_same(reached[0][0], reached[1][0], rtol=1e-6, atol=1e-6)
    # The validation is weighted too.
    right = logits(chain.student).argmax(-1) == VALIDATION[1]
    for _, results in reached:
        np.testing.assert_allclose(results["weighted_accuracy"], (right * W).sum() / W.sum(), rtol=1e-5)


def test_a_cache_keeps_the_features_that_a_hop_compares():
    seeded = keras.initializers.GlorotUniform(seed=4)
    hint = Hint("hidden", "hidden", projector=keras.layers.Dense(9, kernel_initializer=seeded))
    live, cached = (
        fit(chain_of(models()[:2], objectives=hint), epochs=1, cache=cache)[0]
        for cache in (False, {"dtype": "float32"})
    )
    np.testing.assert_allclose(cached["hint"], live["hint"], rtol=1e-3)  # features are kept in float16


def test_a_probe_is_a_batch_and_no_generator_is_read():
    def probe(x, y=None, **kwargs):
        return Lessons(x, y, None, 1, None, None, None, **kwargs).probe()

    singles = data().unbatch()
    for made in (probe(X, Y), probe(data()), probe(singles, in_stable_order=True)):
        assert made.shape == (2, 4)
    batches = (batch for batch in [(X[:2], Y[:2])])
    assert probe(batches) is None
    np.testing.assert_array_equal(next(batches)[0], X[:2])


def test_half_precision_and_xla_are_handed_on():
    """XLA computes what the plain graph computes, and a half-precision student is trained with a scaled loss."""
    trained = []
    for jit_compile in (True, False):
        chain = chain_of(
            [mlp(9, 1), mlp(5, 3, dtype="mixed_float16")],
            compile_with={"jit_compile": jit_compile, "run_eagerly": False},
        )
        history = fit(chain, validation_data=None, epochs=1)
        trained.append((history, weights(chain)))
    assert_same_histories(trained[0][0], trained[1][0], rtol=1e-2)
    assert_same(trained[0][1], trained[1][1], rtol=2e-2, atol=2e-3)


def ending_in_softmax(seed):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")], name=f"softmax_{seed}")


REFUSED = {
    "one model": ([ONE], {}, f"`models` must be a teacher, assistants and a student. Received: {[ONE]!r}."),
    "no model": ([ONE, "student"], {}, "what is trained must be a `keras.Model`. Received: 'student'."),
    "untrained no model": (
        ["teacher", ONE],
        {"train_teacher": True},
        "what is trained must be a `keras.Model`. Received: 'teacher'.",
    ),
    "no teacher": ([None, ONE], {}, "the first of `models` must be a teacher. Received: None."),
    "a model twice": ([kd.Teacher(ONE), ONE], {}, "each of `models` must be another."),
    "dense": ([mlp(7, 2), ONE], {"dense": "x"}, "`dense` must be False, True or 'ensemble'. Received: dense='x'."),
    "dense as a number": (
        [mlp(7, 2), ONE],
        {"dense": 1},
        "`dense` must be False, True or 'ensemble'. Received: dense=1.",
    ),
    "dense after an ensemble": (
        [[mlp(9, 1), mlp(8, 1)], mlp(7, 2), ONE],
        {"dense": True},
        "several models teach each other one where `dense` is set, so the first must be one model. Received: the "
        "ensemble of mlp_9+mlp_8. Give one of them, or leave dense=False.",
    ),
    "features of several": (
        [mlp(9, 1), mlp(7, 2), ONE],
        {"dense": "ensemble", "objectives": Hint("hidden", "hidden")},
        "`Hint` compares features, and features of several teachers have no mean. Received: teacher taps ['hidden']. "
        "Leave dense=False, or compare logits alone.",
    ),
    "SimKD": (
        [mlp(7, 2), ONE],
        {"objectives": SimKD("head:input", "head:input")},
        "`SimKD` ends the student in layers of its teacher, but each model of a chain teaches as it is. Use "
        "`Distiller` for that hop, or another objective, such as `Hint`.",
    ),
    "alpha": ([mlp(7, 2), ONE], {"alpha": 1.5}, "`alpha` must be >= 0 and <= 1. Received: alpha=1.5."),
    "temperature": ([mlp(7, 2), ONE], {"temperature": [0]}, "`temperature` must be > 0. Received: temperature=0."),
}


@pytest.mark.parametrize(("given", "options", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_chain_is_refused(given, options, text):
    with pytest.raises(ValueError, match="TeacherAssistantChain") as refused:
        kd.TeacherAssistantChain(given, **options)
    text = text if "twice" not in text and "another." not in text else f"{text} Received: {given!r}."
    assert str(refused.value) == f"`TeacherAssistantChain`: {text}"


@pytest.mark.parametrize("place", [1, 2])
def test_a_model_that_ends_in_softmax_is_refused(place):
    given = models()
    given[place] = ending_in_softmax(place)
    with pytest.raises(ValueError, match=f"softmax_{place}"):
        kd.TeacherAssistantChain(given)


def test_it_must_be_compiled_first():
    with pytest.raises(ValueError, match="compile") as refused:
        kd.TeacherAssistantChain(models()).fit(X, Y)
    assert str(refused.value) == "`TeacherAssistantChain`: call `compile()` before `fit()`."
