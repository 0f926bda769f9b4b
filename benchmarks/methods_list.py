"""The methods that `methods.py` compares: what each looks at in the two models, and its paper's weight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

from keras_kd import objectives as o
from keras_kd import schedules

STAGES = ("stage1", "stage2", "stage3")
LAST, EMBEDDING, BEFORE_RELU = ("stage3", "stage3"), ("head:input", "head:input"), ("stage3:input", "stage3:input")
WARM_UP = 10


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: Its name.
        source: Authors and year.
        needs: What it looks at.
        make: Its objective for a weight.
        weight: The paper's weight.
        alpha: Weight of the student's own loss.
        tuned: Whether weights are tried.
        callbacks: Schedules of the paper, for a weight.
    """

    title: str
    source: str
    needs: str
    make: Callable[[float], o.Objective]
    weight: float = 1.0
    alpha: float = 0.5
    tuned: bool = True
    callbacks: Callable[[float], Sequence[keras.callbacks.Callback]] = lambda weight: ()


def warm_up(name: str):
    """The method's weight grows linearly over the first epochs."""
    return lambda weight: [schedules.WarmUp(name, weight, epochs=WARM_UP)]


def growing_reversal(weight: float) -> list[keras.callbacks.Callback]:
    """The learnt temperature turns against the student along a cosine."""
    return [schedules.Cosine("curriculum_temperature.reversal", 0.0, 1.0, epochs=WARM_UP)]


def of_logits(cls: type, source: str, **options) -> Method:
    """A method that compares logits."""
    needs = "logits and labels" if cls.needs_labels else "logits"
    return Method(cls.__name__, source, needs, lambda weight: cls(weight=weight), cls.paper_weight, **options)


def of_features(cls: type, source: str, taps, needs: str, weight: float | None = None, **options) -> Method:
    """A method that compares features at the taps."""
    make = options.pop("make", lambda weight: cls(*taps, weight=weight))
    return Method(cls.__name__, source, needs, make, weight or cls.paper_weight, **options)


SUM_OF_STAGE = 7 * 7 * 128  # values of the teacher's last stage, over which some losses add up

METHODS = {
    "alone": Method("student alone", "", "labels", lambda weight: o.SoftTargets(), alpha=1.0, tuned=False),
    "soft_targets": of_logits(o.SoftTargets, "Hinton 2015"),
    "hard_labels": of_logits(o.HardLabels, "Touvron 2021"),
    "logits_mse": of_logits(o.LogitsMSE, "Ba 2014"),
    "reverse_kl": of_logits(o.ReverseKL, "Gu 2023"),
    "jensen_shannon": of_logits(o.JensenShannon, "Agarwal 2023"),
    "standardized_soft_targets": of_logits(o.StandardizedSoftTargets, "Sun 2024"),
    "curriculum_temperature": of_logits(o.CurriculumTemperature, "Li 2023", callbacks=growing_reversal),
    "decoupled_kd": of_logits(o.DecoupledKD, "Zhao 2022", callbacks=warm_up("decoupled_kd")),
    "normalized_kd": of_logits(o.NormalizedKD, "Yang 2023"),
    "weighted_soft_labels": of_logits(o.WeightedSoftLabels, "Zhou 2021"),
    "dist": of_logits(o.DIST, "Huang 2022"),
    "multi_level": of_logits(o.MultiLevel, "Jin 2023"),
    "hint": of_features(o.Hint, "Romero 2015", LAST, "last feature map"),
    "attention_transfer": of_features(o.AttentionTransfer, "Zagoruyko 2017", LAST, "last feature map"),
    "channel_wise": of_features(o.ChannelWise, "Shu 2021", LAST, "last feature map"),
    "neuron_selectivity": of_features(o.NeuronSelectivity, "Huang 2017", LAST, "last feature map"),
    "inter_channel_correlation": of_features(o.InterChannelCorrelation, "Liu 2021", LAST, "last feature map"),
    "flow_of_solution": of_features(
        o.FlowOfSolution, "Yim 2017", (STAGES[1:], STAGES[1:]), "two feature maps of each model"
    ),
    "activation_boundary": of_features(o.ActivationBoundary, "Heo 2019", BEFORE_RELU, "map before the last ReLU"),
    "overhaul": of_features(o.Overhaul, "Heo 2019", BEFORE_RELU, "map before the last ReLU"),
    "factor_transfer": of_features(o.FactorTransfer, "Kim 2018", LAST, "last feature map"),
    "variational_information": of_features(
        o.VariationalInformation, "Ahn 2019", LAST, "last feature map", weight=1 / SUM_OF_STAGE
    ),
    "similarity_preserving": of_features(o.SimilarityPreserving, "Tung 2019", LAST, "last feature map"),
    "relational": of_features(o.Relational, "Park 2019", EMBEDDING, "input of the head"),
    "probabilistic_transfer": of_features(o.ProbabilisticTransfer, "Passalis 2018", EMBEDDING, "input of the head"),
    "correlation_congruence": of_features(o.CorrelationCongruence, "Peng 2019", EMBEDDING, "input of the head"),
    "contrastive": of_features(
        o.Contrastive,
        "Tian 2020",
        EMBEDDING,
        "input of the head",
        make=lambda weight: o.Contrastive(*EMBEDDING, bank_size=1024, weight=weight),
    ),
    "review": of_features(o.Review, "Chen 2021", (STAGES, STAGES), "all feature maps", callbacks=warm_up("review")),
    "sim_kd": of_features(
        o.SimKD, "Chen 2022", ("pool:input", "pool:input"), "last feature map", alpha=0.0, tuned=False
    ),
}
