"""Several teachers that guide the student, each on its own."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_kd.objectives.base import Objective
from keras_kd.objectives.logits import SoftTargets
from keras_kd.scalars import as_float
from keras_kd.signals import EnsembleSignals, Signals
from keras_kd.weighing import mask_of, with_mask


@keras.saving.register_keras_serializable(package="keras_kd")
class DenseGuidance(Objective):
    """Each teacher guides the student on its own, less some that are dropped at random from each batch of training.

    `Σ_i k_i · objective(teacher_i, student)`. In training `k_i = 0` for `drop` of the `n` teachers, drawn for each
    batch uniformly and without replacement, and 1 for the others, so that the mean over the draws is `(n - drop) / n`
    of the whole sum. In `evaluate` all are 1. Weights of a `keras_kd.Ensemble` come on top, as `n · w_i`, by example
    too: equal ones count 1. A single teacher, as the first step of a chain of assistants has it, is never dropped.

    Without dropping, soft targets have `n` times the gradient that they have of the ensemble's mean, which is what
    `Distiller(student, [a, b])` learns from without this objective.

    Args:
        objective: Compares the logits of each teacher with the student's: `SoftTargets`, `DecoupledKD` or another one
            without taps, of weight 1. Where it has no temperature of its own, the distiller's counts. Defaults to
            `SoftTargets()`.
        drop: How many teachers are dropped from a batch, an integer `>= 0`, less than there are teachers unless there
            is only one. Defaults to 1.
        seed: Of the draws, an integer `>= 0`. Defaults to a random one. Where the draws have come to is saved with the
            distiller.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"dense_guidance"`.

    Raises:
        ValueError: If `objective` does not compare logits alone or has a weight, or `drop`, `seed` or the weight is out
            of range; when training begins, if no teacher would be left, the classes differ, or the ensemble has weights
            by class.

    Example:
        >>> from keras_kd.objectives import LogitsMSE
        >>> a, b = (Signals.of(logit * ops.ones((1, 2))) for logit in (1.0, 3.0))
        >>> taught, student = EnsembleSignals([a, b], [0.5, 0.5]), Signals.of(ops.zeros((1, 2)))
        >>> DenseGuidance(LogitsMSE()).values(taught, student, temperature=4.0)["output_0"].numpy()   # 1² + 3²
        array([10.], dtype=float32)

    Reference:
        Son, Na, Choi, Hwang. Densely Guided Knowledge Distillation using Multiple Teacher Assistants. 2021.
        arXiv:2009.08825. The authors' code has `(1 - λ) · CE + λ · T² · Σ_i k_i · KL_i`, which is the distiller's total
        with `alpha = 1 - λ`, at `λ = 1`, `T = 5` and one teacher dropped unless told otherwise; it divides `KL_i` by
        the number of classes too.
    """

    compares_logits = True

    def __init__(
        self,
        objective: Objective | None = None,
        drop: int = 1,
        seed: int | None = None,
        weight: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(weight=weight, name=name)
        self.objective = _checked_objective(SoftTargets() if objective is None else objective)
        self.drop = _checked_count("drop", drop)
        self.seed = None if seed is None else _checked_count("seed", seed)
        self._draws = keras.random.SeedGenerator(self.seed)
        self.needs_labels, self.hears = self.objective.needs_labels, self.objective.hears
        self.relational = self.objective.relational
        self.paper_weight = self.objective.paper_weight
        self.built = self.objective.built

    @property
    def outputs(self) -> list[str] | None:
        """Student outputs that are distilled: those of the objective that compares."""
        return self.objective.outputs

    def prepare(self, teacher, student):
        members = _members(teacher)
        if isinstance(teacher, EnsembleSignals) and teacher.weighs_classes:
            raise ValueError(
                "`DenseGuidance`: each teacher guides on its own, so that there is no mean for weights by class to "
                "enter. Received: an `Ensemble` whose `weights` have a row of classes for each teacher. Give it one "
                "weight each, or let the student learn from the mean, as `SoftTargets()` does."
            )
        if 1 < len(members) <= self.drop:
            raise ValueError(
                f"`DenseGuidance`: `drop` must be less than the number of teachers, {len(members)}. Received: "
                f"drop={self.drop}. Drop fewer, or give more teachers."
            )
        for member in members:
            self.objective.prepare(member, student)
        self.built = True

    def asks_at(self, temperature):
        return self.objective.asks_at(temperature)

    def values(self, teacher, student, *, temperature, labels=None, training=False):
        members = _members(teacher)
        dropping = training and self.drop and len(members) > 1
        kept = self._draw(len(members)) if dropping else [1.0] * len(members)
        context = {"temperature": temperature, "labels": labels, "training": training}
        said = [self.objective.values(member, student, **context) for member in members]
        return {
            # The mask is the student's, and so the same beside each teacher; a sum of tensors does not hand it on.
            name: with_mask(
                mask_of(first),
                sum(
                    k * factor * of_one[name]
                    for k, factor, of_one in zip(kept, _factors(teacher, len(first.shape)), said, strict=True)
                ),
            )
            for name, first in said[0].items()
        }

    def _draw(self, count: int) -> list[Any]:
        """Zeros for the teachers that this batch drops, ones for those that it keeps."""
        kept = ops.convert_to_tensor([0.0] * self.drop + [1.0] * (count - self.drop), dtype="float32")
        return ops.unstack(keras.random.shuffle(kept, seed=self._draws), count)

    def get_config(self):
        objective = keras.saving.serialize_keras_object(self.objective)
        return {**super().get_config(), "objective": objective, "drop": self.drop, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "objective": keras.saving.deserialize_keras_object(config["objective"])})


def _members(teacher: Signals | EnsembleSignals) -> Sequence[Signals]:
    """The signals of each teacher."""
    return teacher.members if isinstance(teacher, EnsembleSignals) else [teacher]


def _factors(teacher: Signals | EnsembleSignals, rank: int) -> list[Any]:
    """Of each teacher, `n` times its weight, to be multiplied with values of this rank."""
    if not isinstance(teacher, EnsembleSignals):
        return [1.0]
    weights = teacher.weights_of_examples(rank) if teacher.weighs_examples else teacher.weights
    return [len(teacher.members) * weight for weight in weights]


def _checked_objective(objective: Any) -> Objective:
    if isinstance(objective, DenseGuidance) or not _compares_logits_alone(objective):
        raise ValueError(
            "`DenseGuidance`: `objective` must compare logits alone: without taps, without an end of its own for the "
            f"student, and no `DenseGuidance`. Received: objective={objective!r}. Give one such as `SoftTargets()`."
        )
    if as_float(objective.weight) != 1.0:
        raise ValueError(
            "`DenseGuidance`: `objective` must have weight 1. Received: "
            f"objective.weight={as_float(objective.weight):g}. Give the weight to `DenseGuidance(weight=...)`."
        )
    return objective


def _compares_logits_alone(objective: Any) -> bool:
    return (
        isinstance(objective, Objective)
        and objective.compares_logits
        and not (objective.teacher_taps or objective.student_taps or objective.finishes_student)
    )


def _checked_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"`DenseGuidance`: `{name}` must be an integer >= 0. Received: {name}={value!r}.")
    return value
