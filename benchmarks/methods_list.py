"""The methods that `methods.py` compares: what each looks at in the two models, and its paper's weight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

from keras_kd import objectives as o
from keras_kd import schedules

STAGES = ("stage1", "stage2", "stage3")
LAST, EMBEDDING, BEFORE_RELU = ("stage3", "stage3"), ("head:input", "head:input"), ("stage3:input", "stage3:input")
WARM_UP = 3


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: Its name.
        source: Authors and year.
        needs: What it looks at.
        make: Its objective for a weight.
        weight: The paper's weight.
        alpha: Weight of the student's own loss.
        tuned: Whether weights are tried.
        callbacks: Schedules of the paper, for a weight and a number of epochs.
    """

    title: str
    source: str
    needs: str
    make: Callable[[float], o.Objective]
    weight: float = 1.0
    alpha: float = 0.5
    tuned: bool = True
    callbacks: Callable[[float, int], Sequence[keras.callbacks.Callback]] = lambda weight, epochs: ()


def warm_up(name: str):
    """The method's weight grows linearly over the first epochs."""
    return lambda weight, epochs: [schedules.WarmUp(name, weight, epochs=WARM_UP)]


def of_logits(cls: type, source: str, **options) -> Method:
    """A method that compares logits."""
    needs = "logits and labels" if cls.needs_labels else "logits"
    return Method(cls.__name__, source, needs, lambda weight: cls(weight=weight), cls.paper_weight, **options)


def of_features(cls: type, source: str, taps, needs: str, weight: float | None = None, **options) -> Method:
    """A method that compares features at the taps."""
    make = options.pop("make", lambda weight: cls(*taps, weight=weight))
    return Method(cls.__name__, source, needs, make, weight or cls.paper_weight, **options)


METHODS = {
    "alone": Method("student alone", "", "labels", lambda weight: o.SoftTargets(), alpha=1.0, tuned=False),
    "soft_targets": of_logits(o.SoftTargets, "Hinton 2015"),
}
