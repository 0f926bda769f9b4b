"""What is given for each hop reaches that hop, and what is given once reaches all of them."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.assistants.hop import Hop, measured
from keras_kd.assistants.per_hop import per_hop
from keras_kd.objectives import Hint, LogitsMSE, SoftTargets
from tests.assistants.chains import (
    VALIDATION,
    X,
    Y,
    assert_same,
    assert_same_histories,
    cross_entropy,
    data,
    models,
    weights,
)


def hint():
    seeded = keras.initializers.GlorotUniform(seed=4)
    return Hint("hidden", "hidden", projector=keras.layers.Dense(7, kernel_initializer=seeded))


def objectives():
    return [[SoftTargets()], [LogitsMSE(), hint()]]


def how_to_compile():
    top_two = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2_accuracy")
    return {
        "optimizer": [keras.optimizers.SGD(0.2), keras.optimizers.Adam(0.05)],
        "loss": [cross_entropy(), keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")],
        "metrics": [["accuracy"], [top_two, "agreement"]],
    }


def how_to_fit():
    """The second hop moves alpha, and stops after two epochs of three."""
    of_alpha = keras.callbacks.EarlyStopping("alpha", mode="max", patience=1)
    return {
        "x": [data(), data(X[:40], Y[:40], 10)],
        "validation_data": [VALIDATION, data(X[40:], Y[40:])],
        "epochs": [1, 3],
        "callbacks": [None, [kd.schedules.Linear("alpha", 0.9, 0.1, epochs=3), of_alpha]],
    }


def by_hand():
    """Histories and weights; the last weights are the best here, or the first, as the losses say."""
    made, histories = models(), []
    compiling, fitting, alphas, temperatures = how_to_compile(), how_to_fit(), [0.2, 0.6], [2.0, 5.0]
    for hop, of_hop in enumerate(objectives()):
        learner = kd.Distiller(made[hop + 1], made[hop], of_hop, alpha=alphas[hop], temperature=temperatures[hop])
        learner.compile(**{name: values[hop] for name, values in compiling.items()}, run_eagerly=True)
        copies = []
        copy = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, student=made[hop + 1], copies=copies: copies.append(student.get_weights())
        )
        options = {name: values[hop] for name, values in fitting.items()}
        options["callbacks"] = [*(options["callbacks"] or []), copy]
        histories.append(learner.fit(**options, verbose=0).history)
        made[hop + 1].set_weights(copies[int(np.argmin(histories[-1]["val_loss"]))])
    return histories, [value for model in made for value in model.get_weights()]


def test_lists_are_the_loop_by_hand():
    chain = kd.TeacherAssistantChain(models(), alpha=[0.2, 0.6], temperature=[2.0, 5.0], objectives=objectives())
    chain.compile(**how_to_compile(), run_eagerly=True)
    histories = chain.fit(**how_to_fit(), monitor=[None, "val_loss"], verbose=0)
    expected, expected_weights = by_hand()
    assert_same_histories(histories, expected)
    assert_same(weights(chain), expected_weights)
    assert histories[1]["alpha"] == pytest.approx([0.9, 0.5])
    metrics = [set(record.results) for record in chain.records]
    assert metrics == [{"accuracy", "agreement"}, {"top_2_accuracy", "agreement"}]


@pytest.fixture
def handed(monkeypatch):
    """Hops and their lessons, as they come to be trained; none is."""
    seen = []

    def train(hop, lessons, folder):
        seen.append((hop, lessons))
        return measured(hop.student)

    monkeypatch.setattr(Hop, "train", train)
    return seen


def chain_of_three(**kwargs):
    chain = kd.TeacherAssistantChain(models(), **kwargs)
    chain.compile("sgd", cross_entropy(), ["accuracy"])
    return chain


GIVEN = {
    "y": (np.zeros(3), None),
    "epochs": (4, [4, 6]),
    "batch_size": (8, [8, None]),
    "callbacks": ([keras.callbacks.TerminateOnNaN()], [[keras.callbacks.TerminateOnNaN()], None]),
    "monitor": ("val_loss", ["val_loss", "val_accuracy"]),
}


@pytest.mark.parametrize("name", GIVEN)
def test_fit_hands_each_hop_its_own(name, handed):
    once, each = GIVEN[name]
    chain_of_three().fit(np.zeros((3, 4)), **{name: once}, verbose=0)
    assert all(getattr(lessons, name) is once for _, lessons in handed)
    handed.clear()
    if each is not None:
        chain_of_three().fit(np.zeros((3, 4)), **{name: each}, verbose=0)
        assert [getattr(lessons, name) for _, lessons in handed] == each
    assert all(lessons.x.shape == (3, 4) for _, lessons in handed)


def test_a_list_of_arrays_is_the_inputs_of_one_model(handed):
    x = [np.zeros((3, 4)), np.ones((3, 4)), np.ones((3, 4))]
    chain_of_three().fit(x, verbose=0)
    assert all(lessons.x is not None and len(lessons.x) == 3 for _, lessons in handed)


def test_a_trained_teacher_begins_the_lists_of_fit_and_not_those_of_distilling(handed):
    chain = kd.TeacherAssistantChain(models(), alpha=[0.1, 0.2], temperature=[2, 3], train_teacher=True)
    chain.compile(["sgd", "adam", "adamw"], cross_entropy(), ["accuracy"])
    chain.fit(np.zeros((3, 4)), epochs=[1, 2, 3], verbose=0)
    assert [(hop.index, lessons.epochs) for hop, lessons in handed] == [(0, 1), (1, 2), (2, 3)]
    assert [hop.compiling["optimizer"] for hop, _ in handed] == ["sgd", "adam", "adamw"]
    assert [(hop.alpha, hop.temperature) for hop, _ in handed[1:]] == [(0.1, 2.0), (0.2, 3.0)]
    assert [[teacher.name for teacher in hop.teachers] for hop, _ in handed] == [[], ["mlp_9"], ["mlp_7"]]


@pytest.mark.parametrize("dense", [True, "ensemble"])
def test_all_larger_models_teach_where_it_is_dense(dense, handed):
    chain_of_three(dense=dense).fit(np.zeros((3, 4)), verbose=0)
    assert [[teacher.name for teacher in hop.teachers] for hop, _ in handed] == [["mlp_9"], ["mlp_9", "mlp_7"]]
    kinds = [[type(objective).__name__ for objective in hop.objectives] for hop, _ in handed]
    assert kinds == [["DenseGuidance" if dense is True else "SoftTargets"]] * 2


def test_a_dense_objective_keeps_its_weight_and_name(handed):
    mine = SoftTargets(weight=0.25, name="mine")
    chain_of_three(dense=True, objectives=mine).fit(np.zeros((3, 4)), verbose=0)
    for hop, _ in handed:
        (objective,) = hop.objectives
        assert (objective.name, float(objective.weight), float(objective.objective.weight)) == ("mine", 0.25, 1.0)
    assert float(mine.weight) == 0.25


def test_what_is_given_once_is_each_hops_own(monkeypatch):
    seen = []
    compiled = kd.Distiller.compile

    def compile(distiller, **kwargs):
        if distiller.objectives[0].name == "mine":
            seen.append((distiller.objectives[0], kwargs["optimizer"], kwargs["metrics"][0]))
        compiled(distiller, **kwargs)

    monkeypatch.setattr(kd.Distiller, "compile", compile)
    mine = SoftTargets(2.0, name="mine")
    given = mine, keras.optimizers.SGD(0.125), keras.metrics.SparseCategoricalAccuracy("right")
    chain = kd.TeacherAssistantChain(models(), objectives=mine)
    chain.compile(given[1], cross_entropy(), [given[2]], run_eagerly=True)
    chain.fit(data(X[:30], Y[:30]), verbose=0)
    for first, second, one in zip(*seen, given, strict=True):
        assert len({id(first), id(second), id(one)}) == 3
        assert first.get_config() == second.get_config() == one.get_config()


NAMES = [
    ["alpha", "temperature", "objectives"],
    ["optimizer", "loss", "metrics"],
    ["x", "y", "validation_data", "epochs", "batch_size", "callbacks", "monitor"],
]


@pytest.mark.parametrize("name", [name for names in NAMES for name in names])
def test_a_list_of_another_length_is_refused(name):
    several = {"objectives": [[SoftTargets()]] * 3, "metrics": [["accuracy"]] * 3, "callbacks": [[]] * 3}
    several = {"x": [data()] * 3, "y": [None] * 3, **several}.get(name, [0.5] * 3)
    to_make, to_compile, to_fit = ({name: several} if name in names else {} for names in NAMES)

    def run():
        chain = kd.TeacherAssistantChain(models(), **to_make)
        chain.compile(**{"loss": cross_entropy(), **to_compile})
        chain.fit(**{"x": data(), **to_fit}, verbose=0)

    with pytest.raises(ValueError, match="must be given once") as refused:
        run()
    assert str(refused.value) == (
        f"`TeacherAssistantChain`: `{name}` must be given once, or as a list with one for each of the 2 hops. "
        f"Received 3: {several!r}."
    )


def test_one_value_for_each_hop():
    assert per_hop("epochs", (5, 6), 2) == [(5, 6), (5, 6)]
    assert per_hop("metrics", ["a"], 1, is_one=lambda value: True) == [["a"]]
