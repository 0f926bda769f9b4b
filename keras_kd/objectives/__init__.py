"""Objectives: a loss bound to what it compares. Serialisable, combinable, handed to one `Distiller`."""

from keras_kd.objectives.affinity import BatchAffinity
from keras_kd.objectives.base import Objective
from keras_kd.objectives.builtin import FromKeras
from keras_kd.objectives.contrastive import Contrastive
from keras_kd.objectives.dense import DenseGuidance
from keras_kd.objectives.factors import FactorTransfer
from keras_kd.objectives.features import ActivationBoundary, Hint, Overhaul, VariationalInformation
from keras_kd.objectives.labelled import DecoupledKD, NormalizedKD, WeightedSoftLabels
from keras_kd.objectives.logits import (
    HardLabels,
    JensenShannon,
    LogitsMSE,
    ReverseKL,
    SoftCrossEntropy,
    SoftTargets,
    StandardizedSoftTargets,
)
from keras_kd.objectives.maps import (
    AttentionTransfer,
    ChannelWise,
    FlowOfSolution,
    InterChannelCorrelation,
    NeuronSelectivity,
)
from keras_kd.objectives.predictions import DIST, MultiLevel
from keras_kd.objectives.reading import as_objectives, metric_keys
from keras_kd.objectives.relations import (
    CorrelationCongruence,
    ProbabilisticTransfer,
    Relational,
    SimilarityPreserving,
)
from keras_kd.objectives.review import Review
from keras_kd.objectives.simkd import SimKD
from keras_kd.objectives.temperatures import CurriculumTemperature

__all__ = [
    "DIST",
    "ActivationBoundary",
    "AttentionTransfer",
    "BatchAffinity",
    "ChannelWise",
    "Contrastive",
    "CorrelationCongruence",
    "CurriculumTemperature",
    "DecoupledKD",
    "DenseGuidance",
    "FactorTransfer",
    "FlowOfSolution",
    "FromKeras",
    "HardLabels",
    "Hint",
    "InterChannelCorrelation",
    "JensenShannon",
    "LogitsMSE",
    "MultiLevel",
    "NeuronSelectivity",
    "NormalizedKD",
    "Objective",
    "Overhaul",
    "ProbabilisticTransfer",
    "Relational",
    "ReverseKL",
    "Review",
    "SimKD",
    "SimilarityPreserving",
    "SoftCrossEntropy",
    "SoftTargets",
    "StandardizedSoftTargets",
    "VariationalInformation",
    "WeightedSoftLabels",
    "as_objectives",
    "metric_keys",
]
