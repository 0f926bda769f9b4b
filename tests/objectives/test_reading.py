import re

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_kd.objectives import FromKeras, Hint, SimKD, SoftTargets, as_objectives, metric_keys


def test_none_is_soft_targets_at_the_temperature_of_the_distiller():
    (objective,) = as_objectives(None)
    assert type(objective) is SoftTargets
    assert objective.get_config() == SoftTargets().get_config()


def test_one_or_several_come_as_a_list_in_order():
    soft, hint = SoftTargets(), Hint("t", "s")
    assert as_objectives(hint) == [hint]
    assert as_objectives((soft, hint)) == [soft, hint]


def test_losses_of_keras_are_wrapped():
    loss = keras.distillation.LogitsDistillation(2.0)
    for objective in (as_objectives(loss)[0], as_objectives([SoftTargets(), loss])[1]):
        assert type(objective) is FromKeras
        assert objective.loss is loss


@pytest.mark.parametrize("objectives", [[], "soft_targets", [SoftTargets(), "hint"], SoftTargets, 3])
def test_anything_else_is_refused(objectives):
    text = "`Distiller`: `objectives` must be one or more `keras_kd.objectives`, or `keras.distillation` losses."
    with pytest.raises(ValueError, match=re.escape(f"{text} Received: ")):
        as_objectives(objectives)


@pytest.mark.parametrize("name", ["loss", "student_loss", "agreement", "teacher_kl"])
def test_the_names_of_the_distiller_are_taken(name):
    text = f"`Distiller`: ['{name}'] are metrics of the distiller itself. Give the objective another `name`."
    with pytest.raises(ValueError, match=re.escape(text)):
        as_objectives([SoftTargets(), Hint("t", "s", name=name)])


def test_only_one_may_finish_the_student():
    text = "`Distiller`: one objective at most may put an end of its own to the student. Received: ['sim_kd', 'other']."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        as_objectives([SimKD("t", "s"), SoftTargets(), SimKD("t", "s", name="other")])


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["soft", "hint"], ["soft", "hint"]),
        (["hint", "soft", "hint", "hint"], ["hint", "soft", "hint_1", "hint_2"]),
    ],
)
def test_names_that_come_twice_are_numbered(names, keys):
    assert metric_keys([SoftTargets(name=name) for name in names]) == keys


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.lists(st.sampled_from(["hint", "hint_1", "hint_2"]), min_size=1, max_size=5))
def test_no_two_objectives_share_a_key(names):
    keys = metric_keys([SoftTargets(name=name) for name in names])
    assert len(set(keys)) == len(names)
    assert keys[0] == names[0]
