"""When does a teacher of another modality help? The Gaussian study of Xue et al. 2023 (Modality Focusing Hypothesis).

    python benchmarks/modality_focusing.py

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
features; 40 is ours. Runs of one seed begin with the same weights.) Nothing is tuned. Runs that are done are not done
again. Writes `benchmarks/results/modalities/modality_focusing.json`, `.md` and `.png`.
"""

import functools
import json
import math
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from small_runs import accuracy, begin_anew, distiller_of, gain, mean_and_deviation, remembered, shown

import keras_kd as kd

FOLDER = Path("saved_models/modalities/modality_focusing")
RESULTS = Path(__file__).parent / "results" / "modalities"
COMMAND = "python benchmarks/modality_focusing.py"
TRAIN, TEST, STEPS, RATE, SEEDS = 200, 1000, 1000, 0.1, range(20)
SHARED = (0, 2, 4, 6, 8, 10)
GENERAL = {"0.25": 10, "0.75": 30}
DECISIVE = 40
PUBLISHED = {
    "0.25": {"alone": 59.29, "kd": 59.46, "general": 61.01},
    "0.75": {"alone": 76.46, "kd": 76.53, "general": 77.70},
}
TITLES = {"alone": "no distillation", "kd": "distilled", "general": "distilled from the modality-general teacher"}


def uniform(shape, fan_in):
    """Initial weights and biases of a linear layer of theirs."""
    return np.random.uniform(-1, 1, shape) / math.sqrt(fan_in)


def passes(x, y) -> tf.data.Dataset:
    """All examples in each step."""
    return tf.data.Dataset.from_tensors((x, y)).repeat(STEPS)


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

    def teach(self, x, y, seed: int) -> None:
        """Trains the teacher."""
        begin_anew(self.teacher, [self.teacher], seed, uniform)
        self.teacher.fit(passes(x, y), shuffle=False, verbose=0)

    def learn(self, x, y, seed: int, distilled: bool) -> None:
        """Trains the student; `alpha` shares out a rate that is twice theirs."""
        begin_anew(self.distiller, [self.student], seed, uniform)
        self.distiller.alpha = 0.5 if distilled else 1.0
        self.distiller.optimizer.learning_rate = 2 * RATE if distilled else RATE
        self.distiller.fit(passes(x, y), shuffle=False, verbose=0)


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


def sweep(shared: int, seed: int) -> dict[str, float]:
    """Test accuracies of the first study."""
    rng = np.random.default_rng([1, shared, seed])
    normal = rng.normal(size=20)
    (x, y), (x_test, y_test) = (sweep_data(rng, normal, count, shared) for count in (TRAIN, TEST))
    pair, figures = pair_of(25, 50), {}
    pair.teach(x["a"], y, seed)
    figures["teacher"] = accuracy(pair.teacher, x_test["a"], y_test)
    for name in ("alone", "kd"):
        pair.learn(x, y, seed, distilled=name == "kd")
        figures[name] = accuracy(pair.student, x_test["b"], y_test)
    return figures


def focus_data(rng: np.random.Generator, count: int, general: int) -> tuple[dict, np.ndarray]:
    """The teacher's modality has all that decides, the student's what is general."""
    decisive = rng.normal(size=(count, DECISIVE))
    x = {name: noise_around(rng, decisive, slice(0, end), 50) for name, end in (("a", DECISIVE), ("b", general))}
    return x, np.int32(decisive.sum(axis=1) > 0)


def focus(general: int, seed: int) -> dict[str, float]:
    """Test accuracies of the second study; teacher and students see other examples, as there."""
    rng = np.random.default_rng([2, general, seed])
    (x_first, y_first), (x, y), (x_test, y_test) = (focus_data(rng, count, general) for count in (TRAIN, TRAIN, TEST))
    pair, figures = pair_of(50, 50), {}
    pair.teach(x_first["a"], y_first, seed)
    figures["teacher"] = accuracy(pair.teacher, x_test["a"], y_test)
    for name in ("alone", "kd"):
        pair.learn(x, y, seed, distilled=name == "kd")
        figures[name] = accuracy(pair.student, x_test["b"], y_test)
    focused = pair_of(general, 50)
    focused.teach(x["a"][:, :general], y, seed)
    figures["general teacher"] = accuracy(focused.teacher, x_test["a"][:, :general], y_test)
    focused.learn({**x, "a": x["a"][:, :general]}, y, seed, distilled=True)
    figures["general"] = accuracy(focused.student, x_test["b"], y_test)
    return figures


def gamma_of(shared: int) -> float:
    """The share of the general among the decisive features of the first study."""
    return shared / (20 - shared)


def table(swept: dict[str, dict], focused: dict[str, dict]) -> str:
    """The results as Markdown."""
    lines = [
        "# When does a teacher of another modality help?",
        "",
        f"`{COMMAND}`: the Gaussian study of Xue et al. 2023 (arXiv:2206.06487), linear models, {TRAIN} examples, "
        f"{len(SEEDS)} seeds. Test accuracy in percent, mean and standard deviation, and the gain over the student "
        "without distillation with its 95 % interval, paired by seed.",
        "",
        "| γ | | teacher | published | here | gain |",
        "|---|---|---|---|---|---|",
    ]
    for gamma, runs in focused.items():
        for name, title in TITLES.items():
            teacher = {"alone": None, "kd": "teacher", "general": "general teacher"}[name]
            taught_by = mean_and_deviation(runs[teacher]) if teacher else ""
            gained = shown(gain(runs[name], runs["alone"], name)) if teacher else ""
            published = PUBLISHED[gamma][name]
            lines.append(
                f"| {gamma} | {title} | {taught_by} | {published} | {mean_and_deviation(runs[name])} | {gained} |"
            )
    lines += ["", "## As γ grows", "", "| γ | teacher | no distillation | distilled | gain | |"]
    lines.append("|---|---|---|---|---|---|")
    for shared, runs in swept.items():
        accuracies = " | ".join(mean_and_deviation(runs[name]) for name in ("teacher", "alone", "kd"))
        found = gain(runs["kd"], runs["alone"], "kd")
        lines.append(f"| {gamma_of(int(shared)):.2f} | {accuracies} | {shown(found)} | {found.verdict} |")
    return "\n".join(lines) + "\n"


def plot(swept: dict[str, dict]) -> plt.Figure:
    """The gain with its interval against γ."""
    drawn, axis = plt.subplots(figsize=(6.5, 4.0), layout="constrained")
    found = {gamma_of(int(shared)): gain(runs["kd"], runs["alone"], "kd") for shared, runs in swept.items()}
    means = [100 * one.gain for one in found.values()]
    axis.axhline(0, color="tab:gray", lw=1)
    reaches = [100 * (one.high - one.gain) for one in found.values()]
    axis.errorbar(list(found), means, reaches, fmt="o-", capsize=3)
    axis.set(xlabel="γ, share of the general among the decisive features", ylabel="gain of distillation, points")
    return drawn


def main() -> None:
    """Runs what is missing and writes table and plot."""
    studies = {"focus": (focus, GENERAL), "sweep": (sweep, {str(shared): shared for shared in SHARED})}
    results = {}
    for study, (run, settings) in studies.items():
        results[study] = {}
        for key, features in settings.items():
            runs = [
                remembered(FOLDER / f"{study}_{key}_{seed}.json", lambda of=(run, features, seed): of[0](*of[1:]))
                for seed in SEEDS
            ]
            results[study][key] = {name: [one[name] for one in runs] for name in runs[0]}
            print(study, key, {name: mean_and_deviation(values) for name, values in results[study][key].items()})
    RESULTS.mkdir(parents=True, exist_ok=True)
    RESULTS.joinpath("modality_focusing.json").write_text(json.dumps(results, indent=1))
    RESULTS.joinpath("modality_focusing.md").write_text(table(results["sweep"], results["focus"]), encoding="utf-8")
    plot(results["sweep"]).savefig(RESULTS / "modality_focusing.png", dpi=120)


if __name__ == "__main__":
    main()
