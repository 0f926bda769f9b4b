"""What makes one robust training differ from another: what is attacked, and what the student learns."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_kd.objectives import Objective, SoftTargets
from keras_kd.robust.attack import label_loss
from keras_kd.signals import Signals
from keras_kd.weighing import with_mask_of

LABELS, TEACHER = "labels", "teacher"


@dataclass(frozen=True)
class Method:
    """A row of the table of methods.

    Attributes:
        climbs: What the attack drives the student away from: the `"labels"` or the `"teacher"`.
        learns: What the student is to say nevertheless.
        adversarial_weight: Share of the adversarial examples in that; the rest is the natural ones'.
        temperature: At which it learns from the teacher.
        start: Where the attack begins, see `pgd`.
    """

    climbs: str
    learns: str
    adversarial_weight: float
    temperature: float
    start: str


METHODS = {
    "rslad": Method(climbs=TEACHER, learns=TEACHER, adversarial_weight=5 / 6, temperature=1.0, start="normal"),
    "ard": Method(climbs=LABELS, learns=TEACHER, adversarial_weight=1.0, temperature=30.0, start="uniform"),
    "at": Method(climbs=LABELS, learns=LABELS, adversarial_weight=1.0, temperature=1.0, start="uniform"),
}


@keras.saving.register_keras_serializable(package="keras_kd")
class LabelTargets(Objective):
    """Cross-entropy with the labels, where there is no teacher to learn from.

    Args:
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"label_targets"`.
    """

    needs_labels = True

    def __init__(self, weight: float = 1.0, name: str | None = None):
        super().__init__(weight=weight, name=name)
        self.built = True

    def values(self, teacher, student, *, temperature, labels=None, training=False):
        return {
            name: with_mask_of(logits, label_loss(labels[name], logits)) for name, logits in student.outputs.items()
        }


def objectives_of(method: Method, adversarial_weight: float) -> list[Objective]:
    """What the student learns of adversarial examples, and of natural ones."""
    kind = SoftTargets if method.learns == TEACHER else LabelTargets
    shares = {"adversarial_loss": adversarial_weight, "natural_loss": 1.0 - adversarial_weight}
    return [kind(weight=share, name=name) for name, share in shares.items()]


class NoTeacher:
    """Stands in the teacher's place where the labels are all there is to learn from."""

    name = "none"
    members = ()

    def build(self, x: Any) -> None:
        """Has nothing to build."""

    def signals(self, x: Any, taps: Any = ()) -> Signals:
        """Says nothing."""
        return Signals.of({})
