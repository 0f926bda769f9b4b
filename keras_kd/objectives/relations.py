"""Objectives between the relations that the examples of a batch have in the eyes of teacher and student.

No shapes need agree, so nothing is projected; a layer given as `projector` embeds the student's feature first.
Masked places of a sequence have no say.
"""

import keras

from keras_kd import losses
from keras_kd.objectives.tapped import FeatureObjective
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class SimilarityPreserving(FeatureObjective):
    """Examples that are alike to the teacher are alike to the student.

    See `keras_kd.losses.similarity_preserving`. The paper compares the last convolutional features.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        projector: `"auto"` and `None` are none; or a Keras layer.
        weight: Factor in the total loss. Defaults to 1. The paper's is 3000 beside a student loss of weight 1.
        name: Key among the metrics. Defaults to `"similarity_preserving"`.

    Example:
        >>> SimilarityPreserving("head:input", "head:input").name
        'similarity_preserving'

    Reference:
        Tung, Mori. Similarity-Preserving Knowledge Distillation. 2019. arXiv:1907.09682.
    """

    loss = staticmethod(losses.similarity_preserving)
    relational = True
    agree = None
    flattens = True
    paper_weight = 3000.0


@keras.saving.register_keras_serializable(package="keras_kd")
class Relational(FeatureObjective):
    """Distances between pairs and angles between triplets of examples are the teacher's.

    `distance_weight · distance + angle_weight · angle`; see `keras_kd.losses.relational_distance` and
    `relational_angle`. The paper compares the embedding, the input of the classifier.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        distance_weight: Factor of the distances, `>= 0`. Defaults to 25.
        angle_weight: Factor of the angles, `>= 0`. Defaults to 50.
        projector: `"auto"` and `None` are none; or a Keras layer.
        weight: Factor in the total loss. Defaults to 1, the paper's with these two factors.
        name: Key among the metrics. Defaults to `"relational"`.

    Raises:
        ValueError: If a factor is negative.

    Example:
        >>> Relational("head:input", "head:input", angle_weight=0.0).get_config()["distance_weight"]
        25.0

    Reference:
        Park, Kim, Lu, Cho. Relational Knowledge Distillation. 2019. arXiv:1904.05068.
    """

    settings = ("distance_weight", "angle_weight")
    relational = True
    agree = None
    flattens = True

    def __init__(
        self, teacher_tap: str, student_tap: str, *, distance_weight: float = 25.0, angle_weight: float = 50.0, **kwargs
    ):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.distance_weight = checked_number(self, "distance_weight", distance_weight, low=0)
        self.angle_weight = checked_number(self, "angle_weight", angle_weight, low=0)

    def distance(self, teacher, student, mask):
        parts = ((self.distance_weight, losses.relational_distance), (self.angle_weight, losses.relational_angle))
        kwargs = {"mask": mask, "data_format": "channels_last"}
        return sum(weight * part(teacher, student, **kwargs) for weight, part in parts)


@keras.saving.register_keras_serializable(package="keras_kd")
class ProbabilisticTransfer(FeatureObjective):
    """The probability that one example is the neighbour of another is the teacher's.

    See `keras_kd.losses.probabilistic_transfer`. The paper compares the input of the classifier, and trains with it
    alone (`alpha=0`).

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        projector: `"auto"` and `None` are none; or a Keras layer.
        weight: Factor in the total loss. Defaults to 1. The paper sums over the batch, which makes it the batch size
            on the mean; `paper_weight` is that of a batch of 128.
        name: Key among the metrics. Defaults to `"probabilistic_transfer"`.

    Example:
        >>> ProbabilisticTransfer("head:input", "head:input").student_taps
        ('head:input',)

    Reference:
        Passalis, Tefas. Learning Deep Representations with Probabilistic Knowledge Transfer. 2018. arXiv:1803.10837.
    """

    loss = staticmethod(losses.probabilistic_transfer)
    relational = True
    agree = None
    flattens = True
    paper_weight = 128.0


@keras.saving.register_keras_serializable(package="keras_kd")
class CorrelationCongruence(FeatureObjective):
    """The correlations between the examples, in a Gaussian kernel, are the teacher's.

    See `keras_kd.losses.correlation_congruence`. The paper compares embeddings of the input of the classifier, beside
    soft targets.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        gamma: Of the kernel, `> 0`. Defaults to 0.4.
        order: Of its Taylor series, `>= 1`. Defaults to 2.
        projector: `"auto"` and `None` are none; or a Keras layer.
        weight: Factor in the total loss. Defaults to 1. `paper_weight` is 100: a starting point of ours, not a figure
            of the paper.
        name: Key among the metrics. Defaults to `"correlation_congruence"`.

    Raises:
        ValueError: If `gamma` or `order` is out of range.

    Example:
        >>> CorrelationCongruence("head:input", "head:input").get_config()["gamma"]
        0.4

    Reference:
        Peng, Jin, Liu, Zhou, Wu, Liu, Li, Zhang. Correlation Congruence for Knowledge Distillation. 2019.
        arXiv:1904.01802.
    """

    loss = staticmethod(losses.correlation_congruence)
    settings = ("gamma", "order")
    relational = True
    agree = None
    flattens = True
    paper_weight = 100.0

    def __init__(self, teacher_tap: str, student_tap: str, *, gamma: float = 0.4, order: int = 2, **kwargs):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.gamma = checked_number(self, "gamma", gamma, low=0, open_low=True)
        self.order = int(checked_number(self, "order", order, low=1))
