"""What one forward pass of a teacher or a student says: its outputs by name, and its taps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
from keras import ops

from keras_kd.outcomes import SampledClasses, TopClasses


@dataclass(frozen=True)
class Signals:
    """Outputs and taps of one model for one batch.

    Attributes:
        structure: The outputs as the model gave them.
        outputs: Output tensors by name: the keys of a dict, the output names of a Functional
            model, or `output_0`, `output_1`, ...
        keyed: Whether the names are the user's own, the keys of a dict. Others only count.
        taps: Intermediate tensors by tap.
    """

    structure: Any
    outputs: Mapping[str, Any]
    keyed: bool
    taps: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, outputs: Any, names: Sequence[str] | None = None, taps: Mapping[str, Any] | None = None) -> "Signals":
        """Names the outputs of a model, whatever structure they come in."""
        if isinstance(outputs, Mapping):
            return cls(outputs, dict(outputs), True, taps or {})
        flat = keras.tree.flatten(outputs)
        if names is None or len(names) != len(flat):
            names = [f"output_{index}" for index in range(len(flat))]
        return cls(outputs, dict(zip(names, flat, strict=True)), False, taps or {})

    def logits(self, temperature: Any) -> Mapping[str, Any]:
        """Logits whose softmax at `temperature` is what the model says there."""
        del temperature
        return self.outputs

    def mapped(self, function: Callable[[str, Any], Any]) -> "Signals":
        """Applies `function(name, tensor)` to every output and tap."""
        outputs = {name: function(name, tensor) for name, tensor in self.outputs.items()}
        taps = {name: function(name, tensor) for name, tensor in self.taps.items()}
        return replace(self, outputs=outputs, taps=taps)


@dataclass(frozen=True)
class EnsembleSignals:
    """What several teachers say of one batch, averaged as probabilities.

    Attributes:
        members: The signals of each teacher.
        weights: Of each teacher a number, or one for each class; or a tensor `(batch, teachers)`. They add up to one
            over the teachers.
    """

    members: Sequence[Signals]
    weights: Any
    taps: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keyed(self) -> bool:
        """Whether the names of the outputs are keys."""
        return self.members[0].keyed

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The mean's log-probabilities by name."""
        return self.logits(1.0)

    def logits(self, temperature: Any) -> Mapping[str, Any]:
        """`T log Σ_i w_i softmax(z_i / T)`, less a constant: its softmax at `T` is the weighted mean of the members.

        Raises:
            ValueError: If there are weights for other classes than the members have.
        """
        paired = [pair_outputs(member, self.members[0]) for member in self.members]
        return {
            name: temperature * self._log_mean(name, [pairs[name][0] for pairs in paired], temperature)
            for name in self.members[0].outputs
        }

    def _log_mean(self, name: str, logits: Sequence[Any], temperature: Any) -> Any:
        said = [ops.log_softmax(ops.cast(one, "float32") / temperature) for one in logits]
        weights = [ops.log(weight) for weight in self._weights_beside(name, said[0].shape)]
        mean = ops.logsumexp(ops.stack([weight + one for weight, one in zip(weights, said, strict=True)]), axis=0)
        return ops.log_softmax(mean) if self.weighs_classes else mean  # by class they do not add up to one

    def _weights_beside(self, name: str, shape: Sequence[int | None]) -> Sequence[Any]:
        """The members' weights, to be multiplied with values of this shape, `(batch, ..., classes)`."""
        if self.weighs_examples:
            return self.weights_of_examples(len(shape))
        if self.weighs_classes and len(self.weights[0]) != shape[-1]:
            raise ValueError(
                f"`Ensemble`: `weights` by class must have as many columns as there are classes. Received: "
                f"{len(self.weights[0])} columns; the output '{name}' has {shape[-1]} classes."
            )
        return [ops.convert_to_tensor(weight, dtype="float32") for weight in self.weights]

    @property
    def weighs_examples(self) -> bool:
        """Whether each example has weights of its own."""
        return hasattr(self.weights, "shape")

    @property
    def weighs_classes(self) -> bool:
        """Whether each class has weights of its own."""
        return not self.weighs_examples and isinstance(self.weights[0], Sequence)

    def weights_of_examples(self, rank: int) -> list[Any]:
        """The members' weights by example, to be multiplied with values of this rank."""
        shape = (-1, *[1] * (rank - 1))
        return [ops.reshape(self.weights[:, index], shape) for index in range(len(self.members))]

    def mapped(self, function: Callable[[str, Any], Any]) -> "EnsembleSignals":
        """Applies `function(name, tensor)` to every output of every member, and to weights that come with a batch."""
        weights = function("Ensemble.weights", self.weights) if self.weighs_examples else self.weights
        return replace(self, members=[member.mapped(function) for member in self.members], weights=weights)


def pair_outputs(
    teacher: Signals | EnsembleSignals,
    student: Signals,
    names: Sequence[str] | None = None,
    temperature: Any = 1.0,
) -> dict[str, tuple[Any, Any]]:
    """Pairs the teacher's logits with the student's outputs, under the student's names.

    By key when both are dicts, else by position.

    Args:
        teacher: Signals of the teacher.
        student: Signals of the student.
        names: Student outputs to pair. Defaults to all of them.
        temperature: What an ensemble averages its probabilities at.

    Returns:
        `{name: (teacher_logits, student_logits)}`.

    Raises:
        ValueError: If the outputs cannot be paired, or an output that was asked for does not exist.
    """
    matched = match_outputs(teacher.logits(temperature), teacher.keyed, student, names)
    return {
        name: said.paired_with(learnt) if isinstance(said, TopClasses | SampledClasses) else (said, learnt)
        for name, (said, learnt) in matched.items()
    }


def match_outputs(
    logits: Mapping[str, Any], keyed: bool, student: Signals, names: Sequence[str] | None = None
) -> dict[str, tuple[Any, Any]]:
    """Finds for each of the student's outputs what the teacher said of it, as it said it.

    Args:
        logits: What the teacher said, by output.
        keyed: Whether its names are keys.
        student: Signals of the student.
        names: Student outputs to match. Defaults to all of them.

    Raises:
        ValueError: As `pair_outputs`.
    """
    unknown = [name for name in names or () if name not in student.outputs]
    if unknown:
        raise ValueError(f"`outputs` must name outputs of the student: {list(student.outputs)}. Received: {unknown}.")
    wanted = names or list(student.outputs)
    if keyed and (student.keyed or set(logits) == set(student.outputs)):
        missing = [name for name in wanted if name not in logits]
        if missing:
            raise ValueError(
                f"The student's outputs {missing} have no teacher output of that name. The teacher has "
                f"{list(logits)}. Name the outputs to distil, as in `SoftTargets(outputs=[...])`."
            )
        return {name: (logits[name], student.outputs[name]) for name in wanted}
    if len(logits) != len(student.outputs):
        if len(logits) != len(wanted):
            raise ValueError(
                f"The teacher has {len(logits)} outputs, the student {len(student.outputs)}: {list(student.outputs)}. "
                "Name as many student outputs as the teacher has, as in `SoftTargets(outputs=[...])`."
            )
        return {name: (value, student.outputs[name]) for name, value in zip(wanted, logits.values(), strict=True)}
    by_position = dict(zip(student.outputs, logits.values(), strict=True))
    return {name: (by_position[name], student.outputs[name]) for name in wanted}
