"""Objectives between feature maps: where they look, and how their channels lie over the places."""

from collections.abc import Sequence

import keras

from keras_kd import losses
from keras_kd.objectives.tapped import FeatureObjective, TappedObjective
from keras_kd.projectors import projected, projector_for
from keras_kd.scalars import checked_number
from keras_kd.weighing import mask_of


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionTransfer(FeatureObjective):
    """The student looks where the teacher looks: maps of activation, summed over the channels.

    See `keras_kd.losses.attention_transfer`. Channels may differ; a student grid of another size is resized, without
    weights. The paper compares the ends of all groups of residual blocks: one objective for each pair.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        p: Power of the activations, `>= 1`. Defaults to 2.
        projector: `"auto"`, a Keras layer, or `None`, as in `Hint`.
        weight: Factor in the total loss. Defaults to 1. The paper's is 1000 beside a student loss of weight 1.
        name: Key among the metrics. Defaults to `"attention_transfer"`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the features do not fit.

    Example:
        >>> AttentionTransfer("block3", "block2", weight=AttentionTransfer.paper_weight).get_config()["weight"]
        1000.0

    Reference:
        Zagoruyko, Komodakis. Paying More Attention to Attention. 2017. arXiv:1612.03928.
    """

    loss = staticmethod(losses.attention_transfer)
    settings = ("p",)
    agree = "places"
    paper_weight = 1000.0

    def __init__(self, teacher_tap: str, student_tap: str, *, p: float = 2, **kwargs):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.p = checked_number(self, "p", p, low=1)


@keras.saving.register_keras_serializable(package="keras_kd")
class ChannelWise(FeatureObjective):
    """Every channel of the student spreads over the places as the teacher's channel does.

    See `keras_kd.losses.channel_wise`. The paper compares, for segmentation, the feature maps before the classifier,
    or its logit maps, a tap at the last layer, at `T = 4`.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        temperature: `T > 0`. Defaults to 1.
        projector: `"auto"`, a Keras layer, or `None`, as in `Hint`.
        weight: Factor in the total loss. Defaults to 1. The paper's is 50 on features and 3 on logits, beside a
            student loss of weight 1.
        name: Key among the metrics. Defaults to `"channel_wise"`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the features do not fit.

    Example:
        >>> ChannelWise("conv5", "conv3", temperature=4.0).temperature
        4.0

    Reference:
        Shu, Liu, Gao, Yan, Shen. Channel-wise Knowledge Distillation for Dense Prediction. 2021. arXiv:2011.13256.
    """

    loss = staticmethod(losses.channel_wise)
    settings = ("temperature",)
    paper_weight = 50.0

    def __init__(self, teacher_tap: str, student_tap: str, *, temperature: float = 1.0, **kwargs):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.temperature = checked_number(self, "temperature", temperature, low=0, open_low=True)


@keras.saving.register_keras_serializable(package="keras_kd")
class NeuronSelectivity(FeatureObjective):
    """The student's channels, as a set, are selective of the places of which the teacher's are.

    See `keras_kd.losses.neuron_selectivity`. Channels may differ; a student grid of another size is resized, without
    weights. The paper compares the last convolutional features.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        projector: `"auto"`, a Keras layer, or `None`, as in `Hint`.
        weight: Factor in the total loss. Defaults to 1. The paper's is 25 beside a student loss of weight 1, half its
            λ of 50.
        name: Key among the metrics. Defaults to `"neuron_selectivity"`.

    Raises:
        ValueError: When training begins, if the features do not fit.

    Example:
        >>> NeuronSelectivity("conv5", "conv3").agree
        'places'

    Reference:
        Huang, Wang. Like What You Like: Knowledge Distill via Neuron Selectivity Transfer. 2017. arXiv:1707.01219.
    """

    loss = staticmethod(losses.neuron_selectivity)
    agree = "places"
    paper_weight = 25.0


@keras.saving.register_keras_serializable(package="keras_kd")
class InterChannelCorrelation(FeatureObjective):
    """The student's channels are alike where the teacher's are.

    See `keras_kd.losses.inter_channel_correlation`. Grids may differ; where channels do, `"auto"` makes them agree. The
    paper compares the last convolutional features.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        projector: `"auto"`, a Keras layer, or `None`, as in `Hint`.
        weight: Factor in the total loss. Defaults to 1. The authors' code takes 2.5 beside a student loss of weight 1.
        name: Key among the metrics. Defaults to `"inter_channel_correlation"`.

    Raises:
        ValueError: When training begins, if the features do not fit.

    Example:
        >>> InterChannelCorrelation("conv5", "conv3").agree
        'channels'

    Reference:
        Liu, Huang, Ma, Li, Liu, Wang, Wu, Chang. Exploring Inter-Channel Correlation for Diversity-preserved Knowledge
        Distillation. ICCV 2021. arXiv:2202.03680.
    """

    loss = staticmethod(losses.inter_channel_correlation)
    agree = "channels"
    paper_weight = 2.5


@keras.saving.register_keras_serializable(package="keras_kd")
class FlowOfSolution(TappedObjective):
    """The student's flow from one layer to a later one is the teacher's: the inner products of their channels.

    See `keras_kd.losses.flow_of_solution`. Grids may differ between the models; where channels do, `"auto"` makes them
    agree. The paper takes the first and the last layer of every group of residual blocks, one objective for each, and
    trains with it alone first, the student loss after.

    Args:
        teacher_tap: The two taps of the teacher, the earlier first.
        student_tap: The two taps of the student.
        projector: `"auto"`, or `None`: the channels agree.
        weight: Factor in the total loss. Defaults to 1, as the paper's.
        name: Key among the metrics. Defaults to `"flow_of_solution"`.

    Raises:
        ValueError: If there are not two taps of each model; when training begins, if the channels do not agree.

    Example:
        >>> FlowOfSolution(["block1", "block4"], ["block1", "block2"]).teacher_taps
        ('block1', 'block4')

    Reference:
        Yim, Joo, Bae, Kim. A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
        Learning. CVPR 2017.
    """

    def __init__(
        self,
        teacher_tap: Sequence[str],
        student_tap: Sequence[str],
        *,
        projector: str | None = "auto",
        weight: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(teacher_tap, student_tap, weight=weight, name=name)
        if len(self.teacher_taps) != 2 or len(self.student_taps) != 2:
            raise ValueError(
                "`FlowOfSolution`: `teacher_tap` and `student_tap` must be two taps each. Received: "
                f"{list(self.teacher_taps)}, {list(self.student_taps)}."
            )
        if projector not in ("auto", None):
            raise ValueError(f"`FlowOfSolution`: `projector` must be 'auto' or None. Received: {projector!r}.")
        self._projector_argument = projector
        self.projectors = [None, None]

    def build(self, teacher_shapes, student_shapes):
        pairs = [tuple(map(tuple, pair)) for pair in zip(student_shapes, teacher_shapes, strict=True)]
        if self._projector_argument == "auto":
            self.projectors = [projector_for(*pair, "`FlowOfSolution`", "channels") for pair in pairs]
        for projector, (student_shape, teacher_shape) in zip(self.projectors, pairs, strict=True):
            if projector is None and student_shape[-1] != teacher_shape[-1]:
                raise ValueError(
                    "`FlowOfSolution`: teacher and student must have as many channels at their taps. Received: teacher "
                    f"{teacher_shape}, student {student_shape}. Use `projector='auto'`."
                )

    def compare(self, *features, training):
        teacher, student = features[:2], features[2:]
        fitted = [
            feature if projector is None else projected(projector, feature, training)
            for projector, feature in zip(self.projectors, student, strict=True)
        ]
        one_grid = len({tuple(feature.shape[1:-1]) for feature in (*teacher, *fitted)}) == 1
        mask = mask_of(student[0]) if one_grid else None
        return losses.flow_of_solution(teacher, fitted, mask=mask, data_format="channels_last")

    def get_config(self):
        return {**super().get_config(), "projector": self._projector_argument}
