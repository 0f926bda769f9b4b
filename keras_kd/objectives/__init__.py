"""Objectives: a loss bound to what it compares. Serialisable, combinable, handed to one `Distiller`."""

from keras_kd.objectives.base import Objective
from keras_kd.objectives.builtin import FromKeras
from keras_kd.objectives.contrastive import Contrastive
from keras_kd.objectives.factors import FactorTransfer
from keras_kd.objectives.features import ActivationBoundary, Hint, Overhaul, VariationalInformation
from keras_kd.objectives.logits import SoftCrossEntropy, SoftTargets
from keras_kd.objectives.maps import AttentionTransfer, ChannelWise, FlowOfSolution, NeuronSelectivity
from keras_kd.objectives.reading import as_objectives, metric_keys
from keras_kd.objectives.relations import (
    CorrelationCongruence,
    ProbabilisticTransfer,
    Relational,
    SimilarityPreserving,
)
from keras_kd.objectives.review import Review
from keras_kd.objectives.simkd import SimKD

__all__ = [
    "ActivationBoundary",
    "AttentionTransfer",
    "ChannelWise",
    "Contrastive",
    "CorrelationCongruence",
    "FactorTransfer",
    "FlowOfSolution",
    "FromKeras",
    "Hint",
    "NeuronSelectivity",
    "Objective",
    "Overhaul",
    "ProbabilisticTransfer",
    "Relational",
    "Review",
    "SimKD",
    "SimilarityPreserving",
    "SoftCrossEntropy",
    "SoftTargets",
    "VariationalInformation",
    "as_objectives",
    "metric_keys",
]
