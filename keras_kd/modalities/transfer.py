"""Does a modality teach? The gain of distillation over the student alone, with a confidence interval over seeds."""

import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any

Modality = str | Sequence[str]

VERDICTS = ("helps", "no evidence", "negative transfer")


@dataclass(frozen=True)
class Transfer:
    """What one teacher did for the student.

    Attributes:
        teacher: What the teacher sees: `"image+audio"` for several modalities.
        accuracies: The student's accuracy by seed.
        gains: Its accuracy less that of the student alone with the same seed, by seed.
        gain: Their mean.
        low: Lower end of the confidence interval of the gain.
        high: Upper end.
        verdict: `"helps"` where the interval lies above zero, `"negative transfer"` where it lies below, and
            `"no evidence"` where it includes zero: neither that it helps nor that it does not.
    """

    teacher: str
    accuracies: tuple[float, ...]
    gains: tuple[float, ...]
    gain: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class TransferReport:
    """What `transfer_report` found. `str(report)` is a table in plain text.

    Attributes:
        seeds: The seeds.
        confidence: Of the intervals.
        alone: Accuracy of the student alone by seed.
        transfers: One `Transfer` for each teacher.
    """

    seeds: tuple[int, ...]
    confidence: float
    alone: tuple[float, ...]
    transfers: tuple[Transfer, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values."""
        values = asdict(self)
        of_tuples = ("seeds", "alone")
        return {
            **values,
            **{name: list(values[name]) for name in of_tuples},
            "transfers": [
                {name: list(value) if isinstance(value, tuple) else value for name, value in one.items()}
                for one in values["transfers"]
            ],
        }

    def __str__(self) -> str:
        share = f"{100 * self.confidence:g} %"
        lines = [["teacher", "accuracy", "gain", f"{share} interval", "verdict"]]
        lines.append(["none", f"{statistics.fmean(self.alone):.4f}", "", "", ""])
        for one in self.transfers:
            interval = f"[{one.low:+.4f}, {one.high:+.4f}]"
            accuracy = f"{statistics.fmean(one.accuracies):.4f}"
            lines.append([one.teacher, accuracy, f"{one.gain:+.4f}", interval, _shown(one.verdict)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:4], widths[1:4]), line[4]]).rstrip()
            for line in lines
        ]
        return "\n".join([*rows, f"gains are paired by seed; {len(self.seeds)} seeds"])


def transfer_report(
    train: Callable[[Any, int], float],
    modalities: Iterable[Modality],
    seeds: Iterable[int] = range(5),
    *,
    confidence: float = 0.95,
) -> TransferReport:
    r"""Measures what a teacher of each modality does for the student, beside the student alone.

    The gain with seed i is `d_i = accuracy_i - alone_i`, and its interval `mean(d) ± t · s / √n`, with the standard
    deviation `s` of the n gains and the quantile `t` of Student's distribution with `n - 1` degrees of freedom. Pairing
    by seed takes out of `s` what both runs share: initial weights, order of the data, the draw of the training set.

    Each interval stands for itself: at 95 %, one teacher in twenty that makes no difference is told to help or to
    harm. Of many modalities, look at the clear ones, or ask for more confidence. With few seeds intervals are wide
    (`t` is 12.7 for two seeds, 2.8 for five), and assume that the gains are about normal.

    Args:
        train: `train(teacher, seed)` trains a student and returns its accuracy on held-out data, or another score of
            which more is better. `teacher` is `None` for the student alone, else one of `modalities`, as it is.
            Whatever depends on chance must follow the seed, as with `keras.utils.set_random_seed(seed)`.
        modalities: What teachers see: names, or tuples of names for teachers of several modalities. Not empty.
        seeds: Two different integers or more. Defaults to `range(5)`.
        confidence: Of the intervals, in (0, 1). Defaults to 0.95.

    Returns:
        A `TransferReport`. Warns of each modality with negative transfer: one whose interval lies below zero.

    Raises:
        ValueError: If an argument is none of these, or `train` gives something else than a finite number.

    Example:
        >>> scores = {None: 0.80, "image": 0.86, "audio": 0.80}
        >>> report = transfer_report(lambda teacher, seed: scores[teacher] + 0.01 * (seed == 1), ["image", "audio"])
        >>> print(report)
        teacher  accuracy     gain      95 % interval  verdict
        none       0.8020
        image      0.8620  +0.0600  [+0.0600, +0.0600]  helps
        audio      0.8020  +0.0000  [+0.0000, +0.0000]  no evidence
        gains are paired by seed; 5 seeds

    Reference:
        Student. The Probable Error of a Mean. Biometrika 6(1), 1908. That a teacher of another modality may harm, and
        when: Xue, Gao, Ren, Zhao. The Modality Focusing Hypothesis: Towards Understanding Crossmodal Knowledge
        Distillation. 2023. arXiv:2206.06487.
    """
    teachers, seeds = _checked(train, modalities, seeds, confidence)
    alone = _accuracies(train, None, seeds)
    transfers = tuple(_compared(teacher, _accuracies(train, teacher, seeds), alone, confidence) for teacher in teachers)
    for one in transfers:
        if one.verdict == "negative transfer":
            warnings.warn(
                f"`transfer_report`: negative transfer from {one.teacher}: the student is worse with this teacher "
                f"than alone, by {-one.gain:.4f} ({100 * confidence:g} % interval of the gain [{one.low:+.4f}, "
                f"{one.high:+.4f}]). Leave the teacher out, or give it less weight.",
                stacklevel=2,
            )
    return TransferReport(tuple(seeds), float(confidence), alone, transfers)


def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's distribution with a whole number of degrees of freedom.

    By bisection on the closed form of the distribution function (Abramowitz, Stegun. Handbook of Mathematical
    Functions. 1964. 26.7.3 and 26.7.4), so that nothing but the standard library is needed.

    Args:
        probability: In [1/2, 1).
        freedom: Degrees of freedom, `>= 1`.

    Example:
        >>> round(t_quantile(0.975, 4), 4)
        2.7764
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 2 * probability - 1 else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """The probability of `|t| <= √freedom · tan(angle)`."""
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def _accuracies(train: Callable[[Any, int], float], teacher: Any, seeds: Sequence[int]) -> tuple[float, ...]:
    return tuple(_checked_score(train(teacher, seed), teacher, seed) for seed in seeds)


def _checked_score(score: Any, teacher: Any, seed: int) -> float:
    try:
        number = float(score)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"`transfer_report`: `train({teacher!r}, {seed})` must return a finite number. Received: {score!r}."
        )
    return number


def _compared(teacher: Any, accuracies: Sequence[float], alone: Sequence[float], confidence: float) -> Transfer:
    gains = tuple(with_teacher - without for with_teacher, without in zip(accuracies, alone, strict=True))
    gain, count = statistics.fmean(gains), len(gains)
    reach = t_quantile((1 + confidence) / 2, count - 1) * statistics.stdev(gains) / math.sqrt(count)
    low, high = gain - reach, gain + reach
    helps, no_evidence, harms = VERDICTS
    verdict = helps if low > 0 else harms if high < 0 else no_evidence
    return Transfer(_name_of(teacher), tuple(accuracies), gains, gain, low, high, verdict)


def _name_of(teacher: Modality) -> str:
    names = sorted(teacher) if isinstance(teacher, set | frozenset) else teacher
    return names if isinstance(names, str) else "+".join(names)


def _shown(verdict: str) -> str:
    return f"WARNING: {verdict}" if verdict == VERDICTS[-1] else verdict


def _checked(train: Any, modalities: Any, seeds: Any, confidence: Any) -> tuple[list[Modality], list[int]]:
    if not callable(train):
        raise ValueError(
            f"`transfer_report`: `train` must be a function (teacher, seed) -> accuracy. Received: {train!r}."
        )
    teachers = [] if isinstance(modalities, str) or not isinstance(modalities, Iterable) else list(modalities)
    if not (teachers and all(map(_is_modality, teachers))):
        raise ValueError(
            "`transfer_report`: `modalities` must be names, or tuples of names, as in ['image', ('image', 'audio')]. "
            f"Received: {modalities!r}."
        )
    seeds = list(seeds) if isinstance(seeds, Iterable) else []
    whole = all(isinstance(seed, Integral) and not isinstance(seed, bool) for seed in seeds)
    if not whole or not 2 <= len(set(seeds)) == len(seeds):
        raise ValueError(
            f"`transfer_report`: `seeds` must be two different integers or more. Received: {seeds}. From one run alone "
            "nothing can be told from chance."
        )
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise ValueError(f"`transfer_report`: `confidence` must be in (0, 1). Received: confidence={confidence!r}.")
    return teachers, [int(seed) for seed in seeds]


def _is_modality(teacher: Any) -> bool:
    names = [teacher] if isinstance(teacher, str) else teacher
    is_group = isinstance(names, list | tuple | set | frozenset) and bool(names)
    return is_group and all(isinstance(name, str) and name for name in names)
