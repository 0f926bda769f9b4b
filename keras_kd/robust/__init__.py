"""Students that withstand adversarial examples: ARD, RSLAD, plain adversarial training, and how robust a model is."""

from keras_kd.robust.accuracy import RobustAccuracy, robust_accuracy
from keras_kd.robust.attack import pgd
from keras_kd.robust.distiller import RobustDistiller

__all__ = ["RobustAccuracy", "RobustDistiller", "pgd", "robust_accuracy"]
