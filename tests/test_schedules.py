import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_kd.schedules import Constant, Cosine, Linear, Schedule, WarmUp

EPOCHS = np.arange(9)


def distiller(**numbers):
    """What a schedule sees of a `Distiller`."""
    objectives = [SimpleNamespace(weight=1.0), SimpleNamespace(weight=1.0)]
    return SimpleNamespace(objective_names=["soft_targets", "hint"], objectives=objectives, **numbers)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant("alpha", 0.4), np.full(9, 0.4)),
        (Linear("temperature", 8.0, 2.0, epochs=5), np.interp(EPOCHS, [0, 4], [8.0, 2.0])),
        (Linear("alpha", 0.0, 1.0, epochs=2), np.minimum(EPOCHS, 1)),
        (Cosine("alpha", 1.0, 0.2, epochs=5), 0.6 + 0.4 * np.cos(np.pi * np.minimum(EPOCHS, 4) / 4)),
        (Cosine("alpha", 0.0, 1.0, epochs=7), np.sin(np.pi * np.minimum(EPOCHS, 6) / 12) ** 2),
        (WarmUp("hint", 3.0, epochs=4), 3.0 * np.minimum(EPOCHS + 1, 4) / 4),
        (WarmUp("hint", 3.0, epochs=1), np.full(9, 3.0)),
    ],
)
def test_value_of_every_epoch(schedule, expected):
    np.testing.assert_allclose([schedule.value(epoch) for epoch in EPOCHS], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("target", ["alpha", "temperature"])
def test_sets_the_number_of_the_distiller_at_the_start_of_the_epoch(target):
    schedule = Linear(target, 1.0, 0.0, epochs=3)
    schedule.set_model(distiller(alpha=9.0, temperature=9.0))
    schedule.on_train_begin()
    seen = []
    for epoch in range(4):
        logs = {}
        schedule.on_epoch_begin(epoch)
        seen.append(getattr(schedule.model, target))
        schedule.on_epoch_end(epoch, logs)
        assert logs == {target: seen[-1]}
    assert seen == [1.0, 0.5, 0.0, 0.0]


def test_sets_the_weight_of_the_objective_it_names():
    schedule = WarmUp("hint", 2.0, epochs=4)
    schedule.set_model(distiller())
    schedule.on_train_begin()
    schedule.on_epoch_begin(0)
    assert [objective.weight for objective in schedule.model.objectives] == [1.0, 0.5]
    logs = {"loss": 3.0}
    schedule.on_epoch_end(0, logs)
    assert logs == {"loss": 3.0, "hint_weight": 0.5}


def test_sets_any_number_of_the_objective_that_it_names():
    schedule = Linear("hint.reversal", 0.0, 1.0, epochs=3)
    schedule.set_model(distiller())
    schedule.model.objectives[1].reversal = 9.0
    schedule.on_train_begin()
    schedule.on_epoch_begin(1)
    assert [vars(objective) for objective in schedule.model.objectives] == [
        {"weight": 1.0},
        {"weight": 1.0, "reversal": 0.5},
    ]
    logs = {}
    schedule.on_epoch_end(1, logs)
    assert logs == {"hint_reversal": 0.5}


def test_a_schedule_of_ones_own_is_its_value():
    class Halving(Schedule):
        def value(self, epoch):
            return 2.0**-epoch

    schedule = Halving("alpha")
    schedule.set_model(distiller(alpha=None))
    schedule.on_epoch_begin(3)
    assert schedule.model.alpha == 0.125


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Linear("alpha", 0, 1, epochs=1),
            r"`Linear`: `epochs` must be >= 2, to have a way. Received: epochs=1\.",
        ),
        (lambda: Cosine("alpha", 0, 1, epochs=0), r"`Cosine`: `epochs` must be >= 2.* Received: epochs=0\."),
        (lambda: WarmUp("alpha", 1, epochs=0), r"`WarmUp`: `epochs` must be >= 1\. Received: epochs=0\."),
    ],
)
def test_too_few_epochs_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("target", ["alhpa", "hint.reversal", "soft.weight"])
def test_an_unknown_target_is_refused_when_training_begins(target):
    schedule = Constant(target, 0.5)
    schedule.set_model(distiller())
    text = (
        "`Constant`: `target` must be 'alpha', 'temperature', one of the objectives ['soft_targets', 'hint'], or a "
        f"variable of one, as in 'soft_targets.weight'. Received: target='{target}'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        schedule.on_train_begin()


def test_a_plain_model_is_refused():
    schedule = Constant("alpha", 0.5)
    schedule.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match=r"`Constant`: it moves a `Distiller`\. Received a `Sequential`\."):
        schedule.on_train_begin()
