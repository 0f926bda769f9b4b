"""Objectives that make a student feature equal a teacher feature, place by place."""

import math

import keras

from keras_kd import losses
from keras_kd.objectives.tapped import FeatureObjective, with_places_of
from keras_kd.scalars import checked_number
from keras_kd.weighing import with_mask

LEAST_VARIANCE = 1e-5


@keras.saving.register_keras_serializable(package="keras_kd")
class Hint(FeatureObjective):
    """A student feature learns to equal a teacher feature.

    See `keras_kd.losses.hint` for the formula, and `keras_kd.taps` for how to name a tap. The paper takes the middle
    layer of both models, and trains the student up to it first, the rest after; here both train at once.

    Args:
        teacher_tap: Where to listen in the teacher, as in `"block3"` or `"backbone/block4_add"`.
        student_tap: Where to listen in the student.
        projector: `"auto"` infers what makes the student's feature fit (nothing, where shapes agree); or a Keras
            layer; or `None`. It trains with the student and is not part of what is exported.
        weight: Factor in the total loss. Defaults to 1. Its followers take 100 beside a student loss of weight 1.
        name: Key among the metrics. Defaults to `"hint"`.

    Raises:
        ValueError: If a tap is malformed; when training begins, if a tap names no layer or the features do not fit.

    Example:
        >>> Hint("block3", "block2", weight=0.5).get_config()["student_tap"]
        'block2'

    Reference:
        Romero, Ballas, Kahou, Chassang, Gatta, Bengio. FitNets: Hints for Thin Deep Nets. 2015. arXiv:1412.6550.
    """

    paper_weight = 100.0

    def distance(self, teacher, student, mask):
        return with_mask(mask, losses.hint(teacher, student, data_format="channels_last"))


@keras.saving.register_keras_serializable(package="keras_kd")
class ActivationBoundary(FeatureObjective):
    """The student's neurons are active where the teacher's are.

    See `keras_kd.losses.activation_boundary`. Tap both models before the activation, as in `"relu3:input"`. The paper
    takes the end of every block, and trains with it alone first, the student loss after.

    Args:
        teacher_tap: Where to listen in the teacher: pre-activations.
        student_tap: Where to listen in the student: pre-activations.
        margin: How far from the boundary the student must be, `> 0`. Defaults to 1.
        projector: `"auto"`, a Keras layer, or `None`, as in `Hint`.
        weight: Factor in the total loss. Defaults to 1. The authors' code takes 0.003 on the sum over all neurons.
        name: Key among the metrics. Defaults to `"activation_boundary"`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the features do not fit.

    Example:
        >>> ActivationBoundary("relu3:input", "relu2:input").margin
        1.0

    Reference:
        Heo, Lee, Yun, Choi. Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons.
        2019. arXiv:1811.03233.
    """

    loss = staticmethod(losses.activation_boundary)
    settings = ("margin",)
    paper_weight = 0.003

    def __init__(self, teacher_tap: str, student_tap: str, *, margin: float = 1.0, **kwargs):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.margin = checked_number(self, "margin", margin, low=0, open_low=True)


@keras.saving.register_keras_serializable(package="keras_kd")
class VariationalInformation(FeatureObjective):
    """The student's feature predicts the teacher's, with a variance learnt for each channel.

    See `keras_kd.losses.variational_information`. The mean is a network of three pointwise layers on the student's
    feature; the variance is `softplus(a) + 1e-5`. Both train with the student. The paper compares the end of every
    block.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        variance: What every channel's variance starts at, `> 1e-5`. Defaults to 5, as in the authors' code.
        projector: The network of the mean: `"auto"`, a Keras layer, or `None`, the feature itself.
        weight: Factor in the total loss. Defaults to 1, as the paper's. The loss is a sum over the feature, so that
            wide layers want less.
        name: Key among the metrics. Defaults to `"variational_information"`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the features do not fit.

    Example:
        >>> VariationalInformation("block3", "block2", weight=1e-3).name
        'variational_information'

    Reference:
        Ahn, Hu, Damianou, Lawrence, Dai. Variational Information Distillation for Knowledge Transfer. 2019.
        arXiv:1904.05835.
    """

    settings = ("variance",)

    def __init__(self, teacher_tap: str, student_tap: str, *, variance: float = 5.0, **kwargs):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.variance = checked_number(self, "variance", variance, low=LEAST_VARIANCE, open_low=True)

    def build_teacher_side(self, teacher_shape):
        start = math.log(math.expm1(self.variance - LEAST_VARIANCE))
        self.raw_variance = self.add_weight(
            shape=teacher_shape[-1:], initializer=keras.initializers.Constant(start), name="raw_variance"
        )

    def auto_projector(self, teacher_shape, student_shape):
        width = teacher_shape[-1]
        pointwise = [keras.layers.Dense(width, a, dtype="float32") for a in ("relu", "relu", None)]
        return with_places_of(teacher_shape, student_shape, self, pointwise)

    def distance(self, teacher, student, mask):
        variance = keras.ops.softplus(self.raw_variance) + LEAST_VARIANCE
        return losses.variational_information(teacher, student, variance, mask=mask, data_format="channels_last")


@keras.saving.register_keras_serializable(package="keras_kd")
class Overhaul(FeatureObjective):
    """A student feature learns a teacher feature before its ReLU, but not how negative the negative is.

    See `keras_kd.losses.overhaul`. The margin of a channel is the mean of the teacher's negative responses, here over
    all training examples so far; the paper computes it from the statistics of the BatchNorm before. Tap both models
    before the ReLU, at the end of every block.

    Args:
        teacher_tap: Where to listen in the teacher: pre-activations.
        student_tap: Where to listen in the student: pre-activations.
        projector: `"auto"`, a Keras layer, or `None`, as in `Hint`.
        weight: Factor in the total loss. Defaults to 1. The authors' code takes 0.001 on the sum over the feature.
        name: Key among the metrics. Defaults to `"overhaul"`.

    Raises:
        ValueError: When training begins, if the features do not fit.

    Example:
        >>> Overhaul("relu3:input", "relu2:input", weight=1e-3).teacher_taps
        ('relu3:input',)

    Reference:
        Heo, Kim, Yun, Park, Kwak, Choi. A Comprehensive Overhaul of Feature Distillation. 2019. arXiv:1904.01866.
    """

    paper_weight = 0.001

    def build_teacher_side(self, teacher_shape):
        counted = {"shape": teacher_shape[-1:], "initializer": "zeros", "trainable": False, "aggregation": "sum"}
        self.negative_sum = self.add_weight(name="negative_sum", **counted)
        self.negative_count = self.add_weight(name="negative_count", **counted)

    def compare(self, teacher, student, *, training):
        if training:
            axes = tuple(range(len(teacher.shape) - 1))
            negative = keras.ops.cast(keras.ops.minimum(teacher, 0), "float32")
            self.negative_sum.assign_add(keras.ops.sum(negative, axis=axes))
            self.negative_count.assign_add(keras.ops.sum(keras.ops.cast(negative < 0, "float32"), axis=axes))
        return super().compare(teacher, student, training=training)

    def distance(self, teacher, student, mask):
        margin = self.negative_sum / keras.ops.maximum(self.negative_count, 1.0)
        return losses.overhaul(teacher, student, margin, mask=mask, data_format="channels_last")
