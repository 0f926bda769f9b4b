"""When does a teacher of another modality help? The Gaussian study of Xue et al. 2023 (Modality Focusing Hypothesis).

    python benchmarks/run.py modality_focusing --seeds 20

Two modalities of Gaussian features, of which some decide the class, `y = [⟨a, decisive⟩ > 0]`, and the rest is noise;
of the decisive ones some are general, there in both modalities, and some specific to one. γ is the share of the general
among the decisive. Teacher (modality a) and student (modality b) are linear, trained by 1,000 steps of gradient descent
at 0.1 on all 200 examples, and tested on 1,000: as in the authors' code, on `CE + KL / 2` at temperature 1, whose
`KLDivLoss()` divides by the two classes too. 20 seeds here, 10 there.

1. γ from 0 to 1: of 20 decisive features each modality has 10, of which 0 to 10 are general (widths 25 and 50,
   `a ~ N(0, 1)`).
2. γ = 0.25 and 0.75: of 40 decisive features the student has the 10 or 30 general ones, the teacher all (widths 50,
   `a = 1`). The modality-general teacher is trained on the general features alone: less accurate, and a better teacher.

(What is not theirs: in their second study, the plain student is trained on modality a and tested on modality b, the two
being swapped in that call of `train_kd`; here it sees b throughout. Of the table they print the γ, not the numbers of
features; 40 is ours. Runs of one seed begin with the same weights.) Nothing is tuned.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from records import Record, Run
from rendering import Page, Table, percent, values
from small_runs import accuracy, begin_anew, distiller_of, gain, shown

import keras_kd as kd
from keras_kd.modalities.transfer import Transfer

SEEDS, RATE, DECISIVE = 20, 0.1, 40
FULL = {"examples": 200, "tested": 1000, "steps": 1000, "rate": RATE}
QUICK = {"examples": 20, "tested": 50, "steps": 100, "rate": RATE}
SHARED = (0, 2, 4, 6, 8, 10)
PUBLISHED = {  # by the number of general features
    10: {"alone": 59.29, "kd": 59.46, "general": 61.01},
    30: {"alone": 76.46, "kd": 76.53, "general": 77.70},
}
TITLES = {"alone": "no distillation", "kd": "distilled", "general": "distilled from the modality-general teacher"}
TEACHERS = {"kd": "teacher", "general": "general teacher"}


def uniform(shape, fan_in):
    """Initial weights and biases of a linear layer of theirs."""
    return np.random.uniform(-1, 1, shape) / math.sqrt(fan_in)


def passes(x, y, steps: int) -> tf.data.Dataset:
    """All examples in each step."""
    return tf.data.Dataset.from_tensors((x, y)).repeat(steps)


class Pair:
    """A linear teacher and a linear student of so many features, compiled once."""

    def __init__(self, of_teacher: int, of_student: int):
        self.teacher, self.student = (
            keras.Sequential([keras.Input((width,)), keras.layers.Dense(2)]) for width in (of_teacher, of_student)
        )
        loss, steps = keras.losses.SparseCategoricalCrossentropy(from_logits=True), {"steps_per_execution": 100}
        self.teacher.compile(keras.optimizers.SGD(RATE), loss, **steps)
        objective = kd.objectives.SoftTargets(1.0, weight=0.5)
        taught_by = kd.Teacher(self.teacher, inputs=["a"])
        self.distiller = distiller_of(self.student, taught_by, objective, keras.optimizers.SGD(RATE), "b", **steps)

    def teach(self, x, y, steps: int, seed: int) -> None:
        """Trains the teacher."""
        begin_anew(self.teacher, [self.teacher], seed, uniform)
        self.teacher.fit(passes(x, y, steps), shuffle=False, verbose=0)

    def learn(self, x, y, steps: int, seed: int, distilled: bool) -> None:
        """Trains the student; `alpha` shares out a rate that is twice theirs."""
        begin_anew(self.distiller, [self.student], seed, uniform)
        self.distiller.alpha = 0.5 if distilled else 1.0
        self.distiller.optimizer.learning_rate = 2 * RATE if distilled else RATE
        self.distiller.fit(passes(x, y, steps), shuffle=False, verbose=0)


pair_of = functools.cache(Pair)


def noise_around(rng: np.random.Generator, decisive: np.ndarray, places: slice, width: int) -> np.ndarray:
    """Gaussian features of which those at some places decide."""
    features = rng.normal(size=(len(decisive), width))
    features[:, places] = decisive[:, places]
    return features.astype("float32")


def sweep_data(rng: np.random.Generator, normal: np.ndarray, count: int, shared: int) -> tuple[dict, np.ndarray]:
    """Ten decisive features of either modality, so many of them the same."""
    decisive = rng.normal(size=(count, 20))
    x = {
        "a": noise_around(rng, decisive, slice(10 - shared, 20 - shared), 25),
        "b": noise_around(rng, decisive, slice(0, 10), 50),
    }
    return x, np.int32(decisive @ normal > 0)


def sweep(settings: dict[str, Any], seed: int) -> dict[str, float]:
    """Test accuracies of the first study."""
    shared, steps = settings["shared"], settings["steps"]
    rng = np.random.default_rng([1, shared, seed])
    normal = rng.normal(size=20)
    (x, y), (x_test, y_test) = (sweep_data(rng, normal, settings[count], shared) for count in ("examples", "tested"))
    pair, figures = pair_of(25, 50), {}
    pair.teach(x["a"], y, steps, seed)
    figures["teacher"] = accuracy(pair.teacher, x_test["a"], y_test)
    for name in ("alone", "kd"):
        pair.learn(x, y, steps, seed, distilled=name == "kd")
        figures[name] = accuracy(pair.student, x_test["b"], y_test)
    return figures


def focus_data(rng: np.random.Generator, count: int, general: int) -> tuple[dict, np.ndarray]:
    """The teacher's modality has all that decides, the student's what is general."""
    decisive = rng.normal(size=(count, DECISIVE))
    x = {name: noise_around(rng, decisive, slice(0, end), 50) for name, end in (("a", DECISIVE), ("b", general))}
    return x, np.int32(decisive.sum(axis=1) > 0)


def focus(settings: dict[str, Any], seed: int) -> dict[str, float]:
    """Test accuracies of the second study; teacher and students see other examples, as there."""
    general, steps = settings["general"], settings["steps"]
    rng = np.random.default_rng([2, general, seed])
    (x_first, y_first), (x, y), (x_test, y_test) = (
        focus_data(rng, settings[count], general) for count in ("examples", "examples", "tested")
    )
    pair, figures = pair_of(50, 50), {}
    pair.teach(x_first["a"], y_first, steps, seed)
    figures["teacher"] = accuracy(pair.teacher, x_test["a"], y_test)
    for name in ("alone", "kd"):
        pair.learn(x, y, steps, seed, distilled=name == "kd")
        figures[name] = accuracy(pair.student, x_test["b"], y_test)
    focused = pair_of(general, 50)
    focused.teach(x["a"][:, :general], y, steps, seed)
    figures["general teacher"] = accuracy(focused.teacher, x_test["a"][:, :general], y_test)
    focused.learn({**x, "a": x["a"][:, :general]}, y, steps, seed, distilled=True)
    figures["general"] = accuracy(focused.student, x_test["b"], y_test)
    return figures


def focused(general: int) -> str:
    """The setting of the second study with so many general features."""
    return f"second study, γ = {general / DECISIVE:g}"


def swept(shared: int) -> str:
    """The setting of the first study with so many general features."""
    return f"first study, γ = {gamma_of(shared):.2f}"


def gamma_of(shared: int) -> float:
    """The share of the general among the decisive features of the first study."""
    return shared / (20 - shared)


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """Both studies; in small with the ends of either."""
    budget = QUICK if quick else FULL
    for general in (10,) if quick else PUBLISHED:
        settings = {"general": general, "decisive": DECISIVE, **budget}
        yield Run(focused(general), seed, settings, functools.partial(focus, settings, seed))
    for shared in (SHARED[0], SHARED[-1]) if quick else SHARED:
        settings = {"shared": shared, **budget}
        yield Run(swept(shared), seed, settings, functools.partial(sweep, settings, seed))


def numbers_of(records: Sequence[Record], study: str) -> list[int]:
    """The numbers of general features that a study has records of, each once."""
    return list(dict.fromkeys(record.settings[study] for record in records if study in record.settings))


def gain_of(records: Sequence[Record], setting: str, name: str) -> Transfer:
    """The gain of a student over the one without distillation."""
    return gain(values(records, setting, name), values(records, setting, "alone"), name)


def page(records: Sequence[Record]) -> Page:
    """Both studies, the second first, since its figures are published."""
    rows = []
    for general in numbers_of(records, "general"):
        for name, title in TITLES.items():
            setting, teacher = focused(general), TEACHERS.get(name)
            taught_by = percent(values(records, setting, teacher)) if teacher else ""
            gained = shown(gain_of(records, setting, name)) if teacher else ""
            here = percent(values(records, setting, name))
            rows.append([f"{general / DECISIVE:g}", title, taught_by, str(PUBLISHED[general][name]), here, gained])
    lines = []
    for shared in numbers_of(records, "shared"):
        setting = swept(shared)
        accuracies = [percent(values(records, setting, name)) for name in ("teacher", "alone", "kd")]
        found = gain_of(records, setting, "kd")
        lines.append([f"{gamma_of(shared):.2f}", *accuracies, shown(found), found.verdict])
    examples, seeds = records[0].settings["examples"], len({record.seed for record in records})
    said = (
        f"The Gaussian study of Xue et al. 2023 (arXiv:2206.06487), linear models, {examples} examples, {seeds} seeds. "
        "Test accuracy in percent, mean and standard deviation, and the gain over the student without distillation "
        "with its 95 % interval, paired by seed."
    )
    parts = [
        said,
        Table(["γ", "", "teacher", "published", "here", "gain"], rows),
        "## As γ grows",
        Table(["γ", "teacher", "no distillation", "distilled", "gain", ""], lines),
    ]
    return Page("When does a teacher of another modality help?", parts, lambda: plot(records))


def plot(records: Sequence[Record]) -> plt.Figure:
    """The gain with its interval against γ."""
    drawn, axis = plt.subplots(figsize=(6.5, 4.0), layout="constrained")
    found = {gamma_of(shared): gain_of(records, swept(shared), "kd") for shared in numbers_of(records, "shared")}
    means = [100 * one.gain for one in found.values()]
    axis.axhline(0, color="tab:gray", lw=1)
    reaches = [100 * (one.high - one.gain) for one in found.values()]
    axis.errorbar(list(found), means, reaches, fmt="o-", capsize=3)
    axis.set(xlabel="γ, share of the general among the decisive features", ylabel="gain of distillation, points")
    return drawn
