"""Batches that carry what a teacher said of them, and what a distiller hears in such a batch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, NamedTuple

from keras_kd.outcomes import SampledClasses, TopClasses
from keras_kd.signals import EnsembleSignals, Signals


class WithSignals(NamedTuple):
    """The `x` of a cached batch: the inputs, and beside them what the teacher said.

    Attributes:
        x: The inputs, as the source gave them.
        signals: By the text of a `SignalKey`, the tensors of each signal by name.
    """

    x: Any
    signals: Mapping[str, Mapping[str, Any]]

    def heard(self) -> Signals | EnsembleSignals:
        """What the teacher said: `outputs` and `taps` by name, as if it had just spoken; of several, their mean."""
        return heard(self.signals)


@dataclass(frozen=True)
class SignalKey:
    """What the tensors of a signal are, said in the key they stand under, which every step of `tf.data` keeps.

    Attributes:
        index: The place among the teacher's signals.
        kind: `"dense"`, `"top_k"` or `"sampled"` logits, or `"tap"`.
        name: The output or the tap.
        keyed: Whether the output's name is a key of the teacher's own.
        temperature: The only temperature at which the signal speaks; `None` where it speaks at any.
        num_classes: How many classes the logits have.
        member: The place of the cache among those that were opened together; `None` where it is the only one.
    """

    index: int
    kind: str
    name: str
    keyed: bool = False
    temperature: float | None = None
    num_classes: int | None = None
    member: int | None = None

    def __str__(self) -> str:
        said = asdict(self)
        if self.member is None:
            del said["member"]  # a cache on disk knows of no others
        return json.dumps(said)

    @classmethod
    def parse(cls, text: str) -> "SignalKey":
        """Reads the text of a key."""
        return cls(**json.loads(text))


def keys_of(signals: Iterable[str]) -> list[SignalKey]:
    """The keys of a batch, in the order of the teacher's signals, teacher by teacher."""
    return sorted((SignalKey.parse(text) for text in signals), key=lambda key: (key.member or 0, key.index))


def inputs_of(x: Any) -> Any:
    """The inputs of a batch, whether or not it carries signals."""
    return x.x if isinstance(x, WithSignals) else x


def heard(signals: Mapping[str, Mapping[str, Any]]) -> Signals | EnsembleSignals:
    """The signals of a cached batch, as those of a teacher that has just spoken, or of several with equal weights."""
    members = [_heard(list(keys), signals) for _, keys in groupby(keys_of(signals), lambda key: key.member)]
    return EnsembleSignals(members, [1.0 / len(members)] * len(members)) if len(members) > 1 else members[0]


def _heard(keys: Iterable[SignalKey], signals: Mapping[str, Mapping[str, Any]]) -> Signals:
    outputs, taps, keyed = {}, {}, False
    for key in keys:
        tensors = signals[str(key)]
        if key.kind == "tap":
            taps[key.name] = tensors["feature"]
        else:
            outputs[key.name], keyed = _logits(key, tensors), key.keyed
    structure = dict(outputs) if keyed else next(iter(outputs.values())) if len(outputs) == 1 else [*outputs.values()]
    return Signals(structure, outputs, keyed, taps)


def _logits(key: SignalKey, tensors: Mapping[str, Any]) -> Any:
    if key.kind == "top_k":
        return TopClasses(tensors["classes"], tensors["logits"], key.num_classes, key.temperature)
    if key.kind == "sampled":
        return SampledClasses(tensors["classes"], key.num_classes, key.temperature)
    return tensors["logits"]


def refuse_unheard(
    signals: Iterable[str], objectives: Iterable[Any], metrics: Iterable[str], temperature: float
) -> None:
    """Checks that a cache holds what objectives and metrics want to hear.

    Args:
        signals: Keys of the batch's signals.
        objectives: What the distiller compares.
        metrics: Which of its teacher metrics were asked for.
        temperature: The distiller's.

    Raises:
        ValueError: If something is missing, or was stored for another temperature.
    """
    keys = keys_of(signals)
    taps = [key.name for key in keys if key.kind == "tap"]
    logits = [key for key in keys if key.kind != "tap"]
    several = any(key.member is not None for key in keys)
    for objective in objectives:
        owner = f"`{type(objective).__name__}`"
        missing = [tap for tap in objective.teacher_taps if tap not in taps]
        if missing and several:
            raise ValueError(
                f"{owner}: it needs the teacher features {missing}, but features of several teachers have no mean. "
                f"Open one cache alone, made with `cache_teacher(..., taps={list(objective.teacher_taps)})`."
            )
        if missing:
            raise ValueError(
                f"{owner}: the cache holds no teacher features {missing}. It holds {taps or 'none'}. Make it with "
                f"`cache_teacher(..., taps={list(objective.teacher_taps)})`."
            )
        if objective.finishes_student:
            raise ValueError(
                f"{owner}: it takes over layers of the teacher, which a cache has not. Give the distiller the teacher."
            )
        for key in logits if objective.compares_logits else ():
            _refuse_logits(owner, objective, key, float(objective.asks_at(temperature)))
    for key in logits:
        _refuse_metrics(metrics, key)


def _refuse_logits(owner: str, objective: Any, key: SignalKey, temperature: float) -> None:
    if key.kind not in objective.hears:
        raise ValueError(
            f"{owner}: it needs the teacher's logits of all classes. The cache holds '{key.name}' as {key.kind}. Make "
            "it without `top_k` and `samples`, or use `SoftTargets`."
        )
    if key.temperature is not None and abs(key.temperature - temperature) > 1e-6 * temperature:
        raise ValueError(
            f"{owner}: {_holder(key)} holds what the teacher said at temperature {key.temperature:g}, and nothing else "
            f"can be told from it. Received: temperature={temperature:g}. Use {key.temperature:g}, or make a cache "
            f"with `cache_teacher(..., temperature={temperature:g})`."
        )


def _refuse_metrics(metrics: Iterable[str], key: SignalKey) -> None:
    refused = {"sampled": ("agreement", "teacher_kl"), "top_k": ("teacher_kl",)}.get(key.kind, ())
    if key.kind == "dense" and key.temperature not in (None, 1.0):
        # The mean over caches is one of probabilities at temperature 1.
        refused = ("teacher_kl",) if key.member is None else ("agreement", "teacher_kl")
    asked = [metric for metric in metrics if metric in refused]
    if asked:
        raise ValueError(
            f"`Distiller`: the metrics {asked} cannot be told from {_holder(key)}'s '{key.name}', which is {key.kind} "
            f"at temperature {key.temperature:g}. Leave them out, or make a cache of all logits."
        )


def _holder(key: SignalKey) -> str:
    return "the cache" if key.member is None else f"cache {key.member}"
