"""Formulas: (teacher, student) -> one value per example. `keras.ops` only; no models, no state."""

from keras_kd.losses import adversarial as adversarial  # functions of scores, which the laws of the others do not bind
from keras_kd.losses.data_free import logits_mae
from keras_kd.losses.embeddings import batch_affinity, contrastive
from keras_kd.losses.features import (
    activation_boundary,
    factor_transfer,
    hierarchical_context,
    hint,
    overhaul,
    variational_information,
)
from keras_kd.losses.labelled import decoupled, normalized, weighted_soft_labels
from keras_kd.losses.logits import (
    hard_labels,
    jensen_shannon,
    logits_mse,
    reverse_kl,
    soft_target_cross_entropy,
    soft_target_kl,
    standardized_soft_target_kl,
)
from keras_kd.losses.maps import (
    attention_transfer,
    channel_wise,
    flow_of_solution,
    inter_channel_correlation,
    neuron_selectivity,
)
from keras_kd.losses.predictions import dist, multi_level
from keras_kd.losses.relations import (
    correlation_congruence,
    probabilistic_transfer,
    relational_angle,
    relational_distance,
    similarity_preserving,
)

__all__ = [
    "activation_boundary",
    "attention_transfer",
    "batch_affinity",
    "channel_wise",
    "contrastive",
    "correlation_congruence",
    "decoupled",
    "dist",
    "factor_transfer",
    "flow_of_solution",
    "hard_labels",
    "hierarchical_context",
    "hint",
    "inter_channel_correlation",
    "jensen_shannon",
    "logits_mae",
    "logits_mse",
    "multi_level",
    "neuron_selectivity",
    "normalized",
    "overhaul",
    "probabilistic_transfer",
    "relational_angle",
    "relational_distance",
    "reverse_kl",
    "similarity_preserving",
    "soft_target_cross_entropy",
    "soft_target_kl",
    "standardized_soft_target_kl",
    "variational_information",
    "weighted_soft_labels",
]
