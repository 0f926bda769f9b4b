"""What the objectives between class logits may be given, what they make of it, and what they refuse."""

import re

import keras
import numpy as np
import pytest

from keras_kd.objectives.labelled import DecoupledKD, NormalizedKD, WeightedSoftLabels
from keras_kd.objectives.logits import (
    HardLabels,
    JensenShannon,
    LogitsMSE,
    ReverseKL,
    SoftCrossEntropy,
    SoftTargets,
    StandardizedSoftTargets,
)
from keras_kd.objectives.predictions import DIST, MultiLevel
from keras_kd.objectives.temperatures import CurriculumTemperature
from keras_kd.signals import Signals

ALL = [
    SoftTargets,
    SoftCrossEntropy,
    ReverseKL,
    JensenShannon,
    LogitsMSE,
    StandardizedSoftTargets,
    HardLabels,
    DecoupledKD,
    NormalizedKD,
    WeightedSoftLabels,
    DIST,
    MultiLevel,
    CurriculumTemperature,
]


@pytest.mark.parametrize("labels", [None, {}, {"output_0": None}])
@pytest.mark.parametrize("objective", [DecoupledKD, NormalizedKD, WeightedSoftLabels])
def test_missing_labels_are_named(objective, labels):
    text = (
        f"`{objective.__name__}`: it compares with the labels of the student's output 'output_0'. Received none. Give "
        "`y` for it, or name the outputs that have labels, as in `outputs=['digit']`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        objective().values(Signals.of(np.zeros((6, 4))), Signals.of(np.ones((6, 4))), temperature=4.0, labels=labels)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ReverseKL(0), "`ReverseKL`: `temperature` must be > 0. Received: temperature=0."),
        (lambda: JensenShannon(beta=0), "`JensenShannon`: `beta` must be > 0 and <= 1. Received: beta=0."),
        (lambda: JensenShannon(beta=1), "`JensenShannon`: `beta` must be < 1. Received: beta=1."),
        (
            lambda: StandardizedSoftTargets(-1.0),
            "`StandardizedSoftTargets`: `temperature` must be > 0. Received: temperature=-1.0.",
        ),
        (
            lambda: DecoupledKD(target_weight=-1),
            "`DecoupledKD`: `target_weight` must be >= 0. Received: target_weight=-1.",
        ),
        (
            lambda: DecoupledKD(non_target_weight="much"),
            "`DecoupledKD`: `non_target_weight` must be >= 0. Received: non_target_weight='much'.",
        ),
        (lambda: NormalizedKD(gamma=-0.5), "`NormalizedKD`: `gamma` must be >= 0. Received: gamma=-0.5."),
        (lambda: DIST(inter_weight=-1), "`DIST`: `inter_weight` must be >= 0. Received: inter_weight=-1."),
        (lambda: DIST(intra_weight=-1), "`DIST`: `intra_weight` must be >= 0. Received: intra_weight=-1."),
        (lambda: MultiLevel([2, 0]), "`MultiLevel`: `temperatures` must be > 0. Received: temperatures=0."),
        (
            lambda: MultiLevel([]),
            "`MultiLevel`: `temperatures` must be a list of at least one number. Received: temperatures=[].",
        ),
        (
            lambda: MultiLevel(4.0),
            "`MultiLevel`: `temperatures` must be a list of at least one number. Received: temperatures=4.0.",
        ),
        (lambda: CurriculumTemperature(low=0), "`CurriculumTemperature`: `low` must be > 0. Received: low=0."),
        (lambda: CurriculumTemperature(4, 4), "`CurriculumTemperature`: `high` must be > 4. Received: high=4."),
        (
            lambda: CurriculumTemperature(reversal=-1),
            "`CurriculumTemperature`: `reversal` must be >= 0. Received: reversal=-1.",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(make, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()


@pytest.mark.parametrize("cls", ALL)
def test_classes_that_differ_are_refused(cls):
    text = (
        f"`{cls.__name__}`: teacher and student must name the same classes. Received for the student's "
        "output 'output_0': teacher logits of shape (6, 4), student logits of shape (6, 3)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        cls().prepare(Signals.of(np.zeros((6, 4))), Signals.of(np.zeros((6, 3))))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (DecoupledKD(), {"temperature": None, "target_weight": 1.0, "non_target_weight": 8.0}),
        (NormalizedKD(), {"temperature": 1.0, "gamma": 1.5}),
        (WeightedSoftLabels(), {"temperature": 2.0}),
        (StandardizedSoftTargets(), {"temperature": 2.0}),
        (ReverseKL(), {"temperature": 1.0}),
        (JensenShannon(), {"temperature": 1.0, "beta": 0.5}),
        (DIST(), {"temperature": None, "inter_weight": 1.0, "intra_weight": 1.0}),
        (MultiLevel(), {"temperatures": [2.0, 3.0, 4.0, 5.0, 6.0]}),
        (CurriculumTemperature(), {"low": 1.0, "high": 21.0, "reversal": 1.0}),
        (HardLabels(), {}),
        (LogitsMSE(), {}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_configuration_is_complete_and_its_defaults_are_the_papers(made, expected):
    assert made.get_config() == {"name": made.name, "weight": 1.0, "outputs": None, **expected}
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(loaded) is type(made)
    assert loaded.get_config() == made.get_config()


def test_the_weights_of_the_papers_beside_a_student_loss_of_1():
    weights = {cls.__name__: cls.paper_weight for cls in ALL}
    others = {name: weight for name, weight in weights.items() if weight != 1.0}
    assert others == {"StandardizedSoftTargets": 9 / 0.1, "WeightedSoftLabels": 2.5}
