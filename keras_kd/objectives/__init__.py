"""Objectives: a loss bound to what it compares. Serialisable, combinable, handed to one `Distiller`."""

from keras_kd.objectives.base import Objective
from keras_kd.objectives.builtin import FromKeras
from keras_kd.objectives.features import Hint
from keras_kd.objectives.logits import SoftCrossEntropy, SoftTargets
from keras_kd.objectives.reading import as_objectives, metric_keys

__all__ = ["FromKeras", "Hint", "Objective", "SoftCrossEntropy", "SoftTargets", "as_objectives", "metric_keys"]
