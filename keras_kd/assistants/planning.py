"""How many assistants, and of which sizes: from parameters alone, or from what was trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from numbers import Integral, Real
from typing import Any

import keras

Size = int | float

NEAR = math.log(1.01)
HALVINGS = 20


@dataclass(frozen=True)
class AssistantPlan:
    """The sizes of a chain, from `plan_assistants`. `str(plan)` is a table in plain text.

    Attributes:
        chain: The teacher's size, the assistants' from large to small, the student's.
        chain_parameters: The number of parameters of each of these.
        accuracy: The student's at the end of the chain; `None` when nothing was trained.
        accuracies: What each model that was trained reached, by its path: the sizes from the teacher's to its own.
        models: The trained assistants and the student of the chain, empty when nothing was trained.

    Example:
        >>> plan = AssistantPlan((10, 4, 2), (1010, 170, 50), 0.75, {(10, 2): 0.5, (10, 4): 0.875, (10, 4, 2): 0.75})
        >>> plan.sizes, plan.parameters
        ((4,), (170,))
        >>> print(plan)
        model      size    parameters  accuracy
        teacher      10         1,010         -
        assistant     4           170    0.8750
        student       2            50    0.7500
    """

    chain: tuple[Size, ...]
    chain_parameters: tuple[int, ...]
    accuracy: float | None = None
    accuracies: Mapping[tuple[Size, ...], float] = field(default_factory=dict, hash=False)
    models: tuple[keras.Model, ...] = field(default=(), compare=False, repr=False)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The assistants' sizes, from large to small."""
        return self.chain[1:-1]

    @property
    def parameters(self) -> tuple[int, ...]:
        """The assistants' numbers of parameters."""
        return self.chain_parameters[1:-1]

    def __str__(self) -> str:
        sizes = [f"{size:.4g}" if isinstance(size, float) else str(size) for size in self.chain]
        wide = max(map(len, ["size", *sizes]))
        roles = ["teacher", *["assistant"] * len(self.sizes), "student"]
        lines = [f"{'model':<9}  {'size':>{wide}}  {'parameters':>12}  {'accuracy':>8}"]
        for place, (role, size, parameters) in enumerate(zip(roles, sizes, self.chain_parameters, strict=True)):
            reached = self.accuracies.get(self.chain[: place + 1])
            accuracy = "-" if reached is None else f"{reached:.4f}"
            lines.append(f"{role:<9}  {size:>{wide}}  {parameters:>12,}  {accuracy:>8}")
        return "\n".join(lines)


def plan_assistants(
    build: Callable[[Size], keras.Model],
    teacher_size: Size,
    student_size: Size,
    budget: int = 1,
    *,
    sizes: Sequence[Size] | None = None,
    distil: Callable[[keras.Model, keras.Model], float] | None = None,
    teacher: keras.Model | None = None,
) -> AssistantPlan:
    r"""Which assistants to put between a teacher and a student.

    Nothing trained: the `k = budget` sizes whose parameters are nearest, in their logarithm, to the geometric sequence
    `P_i = P_teacher^(1 - i/(k + 1)) · P_student^(i/(k + 1))`. Mirzadeh et al. find that an assistant whose accuracy is
    about the mean of teacher's and student's does best; where no accuracy is known, the geometric mean of the
    parameters stands in for it.

    With `distil` and `teacher`: the search of the paper, by dynamic programming. The best model of a size with at most
    `m` assistants is the best of those distilled from the teacher itself and from each larger size's best model with
    at most `m - 1`. No model is trained twice from the same teacher, so that `n` candidates and no limit (`budget >=
    n`) take `(n + 1)(n + 2) / 2` trainings, where `2^n` chains exist. It finds the best chain if a better teacher of
    the same size makes no worse a student. Ties go to the shorter chain. Meanwhile all that was trained is in memory.

    Args:
        build: `build(size)` gives a new, built model that is not trained. More size, more parameters.
        teacher_size: The teacher's size: a whole number (a depth, say), or a width multiplier.
        student_size: The student's.
        budget: How many assistants at most, `>= 0`. Defaults to 1.
        sizes: The candidates. Defaults to all whole numbers between the two (each is built once, to count); when one
            of the two is a float, to the sizes of the geometric sequence, found by bisection to 1 % of its parameters
            or as near as rounding allows.
        distil: `distil(student, teacher)` trains the student in place and returns its accuracy on validation data, or
            another number that is better when higher. Defaults to `None`: nothing is trained.
        teacher: The trained teacher, for `distil`.

    Returns:
        The `AssistantPlan`: fewer assistants than `budget` when there are fewer candidates, or when fewer do better.

    Raises:
        ValueError: If an argument is not as above, a size does not lie between teacher and student in parameters, or
            `distil` returns no finite number.

    Example:
        >>> def build(units):
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(units), keras.layers.Dense(1)])
        >>> print(plan_assistants(build, 64, 4))   # 10 × units + 1 parameters; √(641 · 41) = 162
        model      size    parameters  accuracy
        teacher      64           641         -
        assistant    16           161         -
        student       4            41         -

    Reference:
        Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh. Improved Knowledge Distillation via Teacher Assistant.
        2020. arXiv:1902.03393. The paper searches among all chains; here `budget` limits their length, too.
    """
    if not callable(build):
        raise ValueError(f"`plan_assistants`: `build` must be a function of a size. Received: build={build!r}.")
    if isinstance(budget, bool) or not isinstance(budget, Integral) or budget < 0:
        raise ValueError(f"`plan_assistants`: `budget` must be a whole number >= 0. Received: budget={budget!r}.")
    if (distil is None) != (teacher is None) or not (distil is None or callable(distil)):
        raise ValueError(
            "`plan_assistants`: `distil` must be a function, and come together with the trained `teacher`. Received: "
            f"distil={distil!r}, teacher={getattr(teacher, 'name', teacher)!r}. Give both, or neither to plan by "
            "parameters."
        )
    counts = _Counts(build, teacher_size, student_size)
    candidates = counts.candidates(sizes, budget)
    if distil is None:
        return counts.plan((teacher_size, *counts.geometric(candidates, budget), student_size))
    search = _Search(build, distil, teacher, (teacher_size, *candidates, student_size))
    best = search.best(len(candidates) + 1, budget)
    return counts.plan(best.path, best.accuracy, search.accuracies, best.models)


class _Counts:
    """The parameters of every size, each built once."""

    def __init__(self, build: Callable, teacher_size: Size, student_size: Size):
        self.ends = (teacher_size, student_size)
        for name, size in zip(("teacher_size", "student_size"), self.ends, strict=True):
            _check_size(name, size)
        self.of = cache(lambda size: _built(build, size).count_params())
        if self.of(teacher_size) <= self.of(student_size):
            raise ValueError(
                "`plan_assistants`: the teacher must have more parameters than the student. Received: "
                f"{self.described(teacher_size)}, and {self.described(student_size)}. Swap them, or correct `build`."
            )

    def described(self, size: Size) -> str:
        return f"size {size} with {self.of(size):,} parameters"

    def is_between(self, size: Size) -> bool:
        teacher, student = map(self.of, self.ends)
        return student < self.of(size) < teacher

    def candidates(self, sizes: Sequence[Size] | None, budget: int) -> list[Size]:
        """The sizes that assistants may have, from large to small, no two with the same number of parameters."""
        given = sizes
        if not budget and sizes is None:
            sizes = ()
        elif sizes is None and not all(isinstance(size, Integral) for size in self.ends):
            sizes = [self._of_parameters(target) for target in self._sequence(budget)]
        elif sizes is None:
            low, high = sorted(self.ends)
            sizes = range(high - 1, low, -1)
        for size in sizes:
            _check_size("sizes", size)
            if given is not None and not self.is_between(size):
                teacher, student = self.ends
                raise ValueError(
                    "`plan_assistants`: `sizes` must lie between teacher and student in parameters. Received: "
                    f"{self.described(size)}, between {self.of(teacher):,} and {self.of(student):,}. Leave it out."
                )
        by_parameters = {self.of(size): size for size in sizes if self.is_between(size)}
        return [by_parameters[count] for count in sorted(by_parameters, reverse=True)]

    def geometric(self, candidates: Sequence[Size], budget: int) -> tuple[Size, ...]:
        """The candidates that are nearest to the geometric sequence of parameters, together."""
        number = min(budget, len(candidates))
        targets = list(map(math.log, self._sequence(number)))

        @cache
        def nearest(target: int, first: int) -> tuple[float, tuple[Size, ...]]:
            """The least sum of squares for the targets from this one on, among the candidates from this one on."""
            if target == number:
                return 0.0, ()
            found = []
            for place in range(first, len(candidates) - (number - target - 1)):
                off = (math.log(self.of(candidates[place])) - targets[target]) ** 2
                cost, rest = nearest(target + 1, place + 1)
                found.append((cost + off, (candidates[place], *rest)))
            return min(found, key=lambda one: one[0])

        return nearest(0, 0)[1]

    def plan(self, chain: tuple[Size, ...], *trained: Any) -> AssistantPlan:
        return AssistantPlan(chain, tuple(map(self.of, chain)), *trained)

    def _sequence(self, number: int) -> list[float]:
        teacher, student = map(self.of, self.ends)
        return [teacher * (student / teacher) ** (place / (number + 1)) for place in range(1, number + 1)]

    def _of_parameters(self, target: float) -> float:
        """The size with this many parameters, by bisection."""

        def off(size: Size) -> float:
            return abs(math.log(self.of(size) / target))

        high, low = self.ends
        best = min(self.ends, key=off)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            best = min(best, middle, key=off)
            if off(best) <= NEAR:
                break
            low, high = (low, middle) if self.of(middle) > target else (middle, high)
        return best


@dataclass(frozen=True)
class _Trained:
    """A model at the end of its path, with all that was trained on the way."""

    path: tuple[Size, ...]
    accuracy: float | None
    models: tuple[keras.Model, ...]


class _Search:
    """The best path to each size: what is asked for twice is trained once."""

    def __init__(self, build: Callable, distil: Callable, teacher: keras.Model, sizes: tuple[Size, ...]):
        self.build, self.distil, self.teacher, self.sizes = build, distil, teacher, sizes
        self.accuracies: dict[tuple[Size, ...], float] = {}
        self.trained: dict[tuple[Size, ...], _Trained] = {}
        self.best = cache(self._best)

    def _best(self, place: int, assistants: int) -> _Trained:
        """The best model of a size with at most so many assistants before it."""
        assistants = min(assistants, place - 1)
        start = _Trained(self.sizes[:1], None, ())
        larger = [self.best(before, assistants - 1) for before in range(1, place)] if assistants else []
        students = [self._student(place, teacher) for teacher in [start, *larger]]
        return max(students, key=lambda student: (student.accuracy, -len(student.path)))

    def _student(self, place: int, teacher: _Trained) -> _Trained:
        path = (*teacher.path, self.sizes[place])
        if path not in self.trained:
            student = _built(self.build, self.sizes[place])
            accuracy = self.distil(student, teacher.models[-1] if teacher.models else self.teacher)
            self.accuracies[path] = _checked_accuracy(accuracy, path)
            self.trained[path] = _Trained(path, self.accuracies[path], (*teacher.models, student))
        return self.trained[path]


def _check_size(name: str, size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, Real) or not math.isfinite(size):
        raise ValueError(
            f"`plan_assistants`: `{name}` must be a whole number or a finite float. Received: {name}={size!r}."
        )


def _built(build: Callable[[Size], keras.Model], size: Size) -> keras.Model:
    model = build(size)
    if not isinstance(model, keras.Model) or not model.built:
        received = "a model that is not built" if isinstance(model, keras.Model) else repr(model)
        raise ValueError(
            f"`plan_assistants`: `build({size})` must return a built `keras.Model`. Received: {received}. Begin it "
            "with `keras.Input`."
        )
    return model


def _checked_accuracy(accuracy: Any, path: tuple[Size, ...]) -> float:
    try:
        number = float(accuracy)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            "`plan_assistants`: `distil` must return the student's accuracy, a finite number. Received: "
            f"{accuracy!r}, on the path {' -> '.join(map(str, path))}."
        )
    return number
