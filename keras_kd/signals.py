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
        weights: Their weights, which add up to one.
    """

    members: Sequence[Signals]
    weights: Sequence[float]
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
        """`T log Σ_i w_i softmax(z_i / T)`: its softmax at `T` is the weighted mean of the members."""
        paired = [pair_outputs(member, self.members[0]) for member in self.members]
        return {
            name: temperature
            * ops.logsumexp(
                ops.stack(
                    [
                        ops.log(weight) + ops.log_softmax(ops.cast(pairs[name][0], "float32") / temperature)
                        for pairs, weight in zip(paired, self.weights, strict=True)
                    ]
                ),
                axis=0,
            )
            for name in self.members[0].outputs
        }

    def mapped(self, function: Callable[[str, Any], Any]) -> "EnsembleSignals":
        """Applies `function(name, tensor)` to every output of every member."""
        return replace(self, members=[member.mapped(function) for member in self.members])


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
