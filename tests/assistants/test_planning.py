"""Sizes of assistants against sequences computed by hand, and the search against brute force over all chains."""

import math
from itertools import combinations, pairwise

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_kd.assistants.planning import AssistantPlan, plan_assistants


def build(size):
    """10 · size + 1 parameters."""
    return keras.Sequential([keras.Input((8,)), layers.Dense(round(size)), layers.Dense(1)])


class Counted(keras.Model):
    """A model of as many parameters as one likes, made in no time."""

    def __init__(self, size, parameters):
        super().__init__()
        self.size, self.parameters, self.built = size, parameters, True

    def count_params(self):
        return self.parameters


def counted(count=lambda size: size):
    return lambda size: Counted(size, count(size))


@pytest.mark.parametrize(
    ("ends", "budget", "sizes"),
    [
        ((641, 41), 0, ()),
        ((1000, 10), 1, (100,)),  # √(1000 · 10)
        ((1000, 1), 2, (100, 10)),
        ((81, 1), 3, (27, 9, 3)),
        ((100, 10), 1, (32,)),  # √1000 = 31.6
        ((5, 2), 5, (4, 3)),  # fewer than the budget
        ((5, 4), 3, ()),
        ((7, 2), 3, (5, 4, 3)),  # 5.12, 3.74, 2.74
    ],
)
def test_the_geometric_sequence_by_hand(ends, budget, sizes):
    plan = plan_assistants(counted(), *ends, budget)
    assert (plan.sizes, plan.parameters, plan.chain) == (sizes, sizes, (ends[0], *sizes, ends[1]))
    assert (plan.accuracy, plan.accuracies, plan.models) == (None, {}, ())


def test_parameters_count_not_sizes():
    # Parameters are size²: from 10,000 to 100, whose mean is 1000 = 31.6².
    assert plan_assistants(counted(lambda size: size**2), 100, 10).sizes == (32,)
    assert plan_assistants(counted(lambda size: 1000 - size), 100, 900, 1).sizes == (700,)  # 900 and 100: 300


def test_of_given_candidates_the_nearest_are_taken_each_once():
    candidates = [3, 4, 80, 90]
    assert plan_assistants(counted(), 100, 1, 1, sizes=candidates).sizes == (4,)  # 10: 4 is nearer than 80
    assert plan_assistants(counted(), 100, 1, 2, sizes=candidates).sizes == (80, 4)  # 21.5 and 4.6
    assert plan_assistants(counted(), 100, 1, 3, sizes=candidates).sizes == (80, 4, 3)
    assert plan_assistants(counted(), 100, 1, 9, sizes=candidates).sizes == (90, 80, 4, 3)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(2, 999), max_size=9), st.integers(0, 5))
def test_together_they_are_the_nearest_to_the_sequence(candidates, budget):
    number = min(budget, len(candidates))
    targets = [1000 ** (1 - place / (number + 1)) for place in range(1, number + 1)]

    def cost(chain):
        return sum(math.log(size / target) ** 2 for size, target in zip(chain, targets, strict=True))

    plan = plan_assistants(counted(), 1000, 1, budget, sizes=sorted(candidates))
    least = min(cost(chain) for chain in combinations(sorted(candidates, reverse=True), number))
    assert len(plan.sizes) == number
    assert cost(plan.sizes) == pytest.approx(least, abs=1e-12)


def test_sizes_of_equal_parameters_count_once():
    plan = plan_assistants(counted(lambda size: size // 10), 100, 10, 99)
    assert plan.parameters == (9, 8, 7, 6, 5, 4, 3, 2)


def test_widths_are_found_by_bisection():
    plan = plan_assistants(counted(lambda width: round(1e6 * width**2)), 1.0, 0.1, 2)
    targets = [1e6 ** (2 / 3) * 1e4 ** (1 / 3), 1e6 ** (1 / 3) * 1e4 ** (2 / 3)]
    assert plan.parameters == pytest.approx(targets, rel=0.01)
    assert plan.sizes == pytest.approx([10 ** (-1 / 3), 10 ** (-2 / 3)], rel=0.005)


def test_widths_as_near_as_rounding_allows():
    # 21 parameters per unit of 8: √(8 · 1) = 2.83 units, and 3 is the nearest.
    plan = plan_assistants(counted(lambda width: 21 * max(1, round(8 * width))), 1, 0.125)
    assert plan.parameters == (63,)
    # Between 2 and 1 units there is nothing.
    assert plan_assistants(counted(lambda width: max(1, round(8 * width))), 0.25, 0.125, 3).sizes == ()


def test_real_models():
    plan = plan_assistants(build, 64, 4)  # √(641 · 41) = 162.1
    assert (plan.chain, plan.parameters, plan.chain_parameters) == ((64, 16, 4), (161,), (641, 161, 41))
    assert str(plan).splitlines()[2] == "assistant    16           161         -"


class Distil:
    """Reaches what a function of the own size, the teacher's size and the teacher's accuracy says."""

    def __init__(self, rule):
        self.rule, self.reached, self.calls = rule, {}, []

    def __call__(self, student, teacher):
        assert student.size < teacher.size
        self.calls.append((student.size, teacher.size))
        self.reached[id(student)] = self.rule(student.size, teacher.size, self.reached.get(id(teacher), 1.0))
        return self.reached[id(student)]


def rule_of(seed, levels):
    """A made-up table: what is lost from one size to the next, and a share of what the teacher lost."""
    rng = np.random.default_rng(seed)
    loss = rng.integers(1, levels, (12, 12)) / 64
    return lambda student, teacher, accuracy: accuracy * 0.5 - loss[student, teacher]


def chain_accuracy(rule, chain):
    accuracy = 1.0
    for teacher, student in pairwise(chain):
        accuracy = rule(student, teacher, accuracy)
    return accuracy


def brute_force(rule, candidates, ends, budget):
    chains = [
        (ends[0], *chosen, ends[1])
        for number in range(min(budget, len(candidates)) + 1)
        for chosen in combinations(sorted(candidates, reverse=True), number)
    ]
    return max(chain_accuracy(rule, chain) for chain in chains)


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("seed", range(6))
def test_the_search_finds_the_best_of_all_chains(seed, budget):
    # A gain here, a loss there: rules that favour long chains as well as short ones.
    made_up = rule_of(seed, 40)
    rules = [made_up, lambda student, teacher, accuracy: accuracy - (teacher - student) ** 2 / 100 - student / 1000]
    for rule in [*rules, lambda *case: rules[0](*case) / 4 + rules[1](*case)]:
        distil = Distil(rule)
        plan = plan_assistants(counted(), 9, 2, budget, distil=distil, teacher=Counted(9, 9))
        assert plan.accuracy == brute_force(rule, range(3, 9), (9, 2), budget)
        assert plan.accuracy == chain_accuracy(rule, plan.chain) == plan.accuracies[plan.chain]
        assert len(plan.sizes) <= budget
        assert all(reached == chain_accuracy(rule, path) for path, reached in plan.accuracies.items())
        assert len(distil.calls) == len(plan.accuracies)


@pytest.mark.parametrize(
    ("number", "budget", "trainings"),
    [
        (5, 0, 1),  # the student from the teacher
        (5, 1, 11),  # each candidate from the teacher, and the student from it and from each of them
        (5, 5, 21),  # 6 · 7 / 2: each of the five and the student from all that are larger
        (5, 99, 21),
        (0, 3, 1),
        (1, 1, 3),
    ],
)
def test_no_training_is_done_twice(number, budget, trainings):
    distil = Distil(rule_of(3, 40))
    plan_assistants(counted(), number + 3, 2, budget, distil=distil, teacher=Counted(number + 3, 0))
    assert len(distil.calls) == trainings


def test_a_limit_never_takes_more_trainings_than_paths_and_keeps_each_once():
    for budget in range(7):
        distil = Distil(rule_of(1, 40))
        plan = plan_assistants(counted(), 8, 2, budget, distil=distil, teacher=Counted(8, 0))
        assert len(set(plan.accuracies)) == len(distil.calls)
        assert max(len(path) for path in plan.accuracies) <= budget + 2


def test_ties_go_to_the_shorter_chain():
    plan = plan_assistants(counted(), 8, 2, 4, distil=lambda student, teacher: 0.5, teacher=Counted(8, 8))
    assert (plan.chain, plan.accuracy, len(plan.models)) == ((8, 2), 0.5, 1)


def test_each_student_hears_the_best_model_of_its_teachers_size():
    # From 4 to 3 is a large gain when 4 itself was taught by 5, which from the teacher alone is never best.
    gains = {(5, 6): 0.1, (4, 6): 0.3, (4, 5): 0.4, (3, 6): 0.2, (3, 5): 0.15, (3, 4): 0.5}
    heard = {}

    def distil(student, teacher):
        heard[id(student)] = heard.get(id(teacher), 0) + gains[student.size, teacher.size]
        return heard[id(student)]

    plan = plan_assistants(counted(), 6, 3, 2, distil=distil, teacher=Counted(6, 6))
    assert plan.chain == (6, 5, 4, 3)
    assert plan.accuracy == pytest.approx(0.1 + 0.4 + 0.5)
    assert [heard[id(model)] for model in plan.models] == pytest.approx([0.1, 0.5, 1.0])
    assert [model.size for model in plan.models] == [5, 4, 3]
    assert str(plan).splitlines()[1:] == [
        "teacher       6             6         -",
        "assistant     5             5    0.1000",
        "assistant     4             4    0.5000",
        "student       3             3    1.0000",
    ]


def test_widths_are_searched_among_the_geometric_ones():
    plan = plan_assistants(
        counted(lambda width: round(1e6 * width**2)),
        *(1.0, 0.1, 2),
        distil=lambda student, teacher: -student.size,
        teacher=Counted(1.0, 0),
    )
    candidates = {path[-1] for path in plan.accuracies} - {0.1}
    assert sorted(candidates) == pytest.approx([10 ** (-2 / 3), 10 ** (-1 / 3)], rel=0.005)
    assert plan.accuracy == -0.1
    assert plan.chain == (1.0, 0.1)


def test_a_chain_of_tiny_models_that_really_learn():
    """The student learns the teacher's numbers through assistants; the plan's models are those that were trained."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    teacher, taught = build(12), {}
    teacher.compile("adam", "mse")

    def distil(student, its_teacher):
        y = np.asarray(its_teacher(x))
        student.compile(keras.optimizers.Adam(0.02), "mse")
        student.fit(x, y, epochs=20, verbose=0)
        taught[id(student)] = its_teacher
        return -float(student.evaluate(x, np.asarray(teacher(x)), verbose=0))

    plan = plan_assistants(build, 12, 2, 2, sizes=[8, 4], distil=distil, teacher=teacher)
    assert set(plan.accuracies) >= {(12, 8), (12, 4), (12, 2), (12, 8, 4)}
    assert len(plan.accuracies) == 6
    student = plan.models[-1]
    error = float(np.mean((np.asarray(student(x)) - np.asarray(teacher(x))) ** 2))
    assert -error == pytest.approx(plan.accuracy, rel=1e-4)
    assert plan.accuracy == max(reached for path, reached in plan.accuracies.items() if path[-1] == 2)
    for its_teacher, model in zip([teacher, *plan.models], plan.models, strict=False):
        assert taught[id(model)] is its_teacher


def test_plans_are_equal_by_what_they_say():
    first, second = (AssistantPlan((3, 1), (30, 10), 0.5, {(3, 1): 0.5}, (model,)) for model in (build(1), build(2)))
    assert first == second
    assert hash(first) == hash(second)
    assert repr(first) == (
        "AssistantPlan(chain=(3, 1), chain_parameters=(30, 10), accuracy=0.5, accuracies={(3, 1): 0.5})"
    )


def trains_nothing(student, teacher):
    raise AssertionError("trained before the arguments were checked")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"build": 3}, "`build` must be a function of a size. Received: build=3."),
        *[
            ({"budget": budget}, f"`budget` must be a whole number >= 0. Received: budget={budget!r}.")
            for budget in (-1, 1.0, True, "2", None)
        ],
        *[
            ({"teacher_size": size}, "`teacher_size` must be a whole number or a finite float. Received: "
             f"teacher_size={size!r}.")
            for size in ("9", True, None, math.nan)
        ],
        ({"student_size": math.inf}, "`student_size` must be a whole number or a finite float. Received: "
         "student_size=inf."),
        ({"sizes": [5, "4"]}, "`sizes` must be a whole number or a finite float. Received: sizes='4'."),
        ({"sizes": [5, 9]}, "`sizes` must lie between teacher and student in parameters. Received: size 9 with 9 "
         "parameters, between 9 and 2. Leave it out."),
        ({"sizes": [1]}, "`sizes` must lie between teacher and student in parameters. Received: size 1 with 1 "
         "parameters, between 9 and 2. Leave it out."),
        ({"teacher_size": 2}, "the teacher must have more parameters than the student. Received: size 2 with 2 "
         "parameters, and size 2 with 2 parameters. Swap them, or correct `build`."),
        ({"student_size": 1234567}, "the teacher must have more parameters than the student. Received: size 9 with 9 "
         "parameters, and size 1234567 with 1,234,567 parameters. Swap them, or correct `build`."),
        ({"build": lambda size: size}, "`build(9)` must return a built `keras.Model`. Received: 9. Begin it with "
         "`keras.Input`."),
        ({"build": lambda size: keras.Sequential([layers.Dense(2)])}, "`build(9)` must return a built `keras.Model`. "
         "Received: a model that is not built. Begin it with `keras.Input`."),
        ({"distil": trains_nothing}, "`distil` must be a function, and come together with the trained `teacher`. "
         f"Received: distil={trains_nothing!r}, teacher=None. Give both, or neither to plan by parameters."),
        ({"teacher": "teacher"}, "`distil` must be a function, and come together with the trained `teacher`. Received: "
         "distil=None, teacher='teacher'. Give both, or neither to plan by parameters."),
        ({"distil": 3, "teacher": "t"}, "`distil` must be a function, and come together with the trained `teacher`. "
         "Received: distil=3, teacher='t'. Give both, or neither to plan by parameters."),
        *[
            ({"distil": lambda student, teacher, value=value: value, "teacher": 0}, "`distil` must return the "
             f"student's accuracy, a finite number. Received: {value!r}, on the path 9 -> 8.")
            for value in (math.nan, None, math.inf, "History")
        ],
    ],
)  # fmt: skip
def test_errors(arguments, text):
    arguments = {"build": counted(), "teacher_size": 9, "student_size": 2, **arguments}
    with pytest.raises(ValueError, match="plan_assistants") as caught:
        plan_assistants(**arguments)
    assert str(caught.value) == f"`plan_assistants`: {text}"
