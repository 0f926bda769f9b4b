"""SimKD: the student's features go through the teacher's own classifier."""

import keras

from keras_kd import losses
from keras_kd.grafting import AtRest, rest_of, tensor_at
from keras_kd.objectives.tapped import FeatureObjective, with_places_of
from keras_kd.scalars import checked_number
from keras_kd.weighing import mask_of, with_mask


@keras.saving.register_keras_serializable(package="keras_kd")
class SimKD(FeatureObjective):
    """The student learns the teacher's last feature, and is finished with the teacher's classifier.

    `losses.hint` between the teacher's feature and the projected student feature. What is evaluated and exported is
    `distiller.finished_student`: the student up to its tap, the projector, and the teacher's own layers after its tap,
    which only rest. The paper taps the last convolutional features, before the pooling, and trains with this loss
    alone: `Distiller(..., alpha=0)`. The projector is exported too, and may outweigh the student: mind `reduction`.

    Args:
        teacher_tap: Where to listen in the teacher, a Functional or Sequential model, as in `"pool:input"`.
        student_tap: Where to listen in the student, likewise.
        reduction: The projector's bottleneck has this fraction of the teacher's channels, `>= 1`. Defaults to 2.
        projector: `"auto"`: 1×1, 3×3 and 1×1 convolutions with BatchNorm and ReLU (dense layers where there is no
            grid); or a Keras layer.
        weight: Factor in the total loss. Defaults to 1, as the paper's.
        name: Key among the metrics. Defaults to `"sim_kd"`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the features do not fit or a model cannot
            be cut at its tap.

    Example:
        >>> SimKD("pool:input", "pool:input").get_config()["reduction"]
        2.0

    Reference:
        Chen, Mei, Zhang, Wang, Feng, Chen. Knowledge Distillation with the Reused Teacher Classifier. 2022.
        arXiv:2203.14001. Where grids differ, the authors pool the larger; here the student's is resized to the
        teacher's.
    """

    settings = ("reduction",)
    finishes_student = True
    needs_projector = True

    def __init__(self, teacher_tap: str, student_tap: str, *, reduction: float = 2.0, **kwargs):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.reduction = checked_number(self, "reduction", reduction, low=1)

    def auto_projector(self, teacher_shape, student_shape):
        channels, grid = teacher_shape[-1], len(teacher_shape) == 4
        narrow = max(1, int(channels / self.reduction))
        layers = []
        for width, kernel in ((narrow, 1), (narrow, 3), (channels, 1)):
            layers += [_weighted(width, kernel, grid), keras.layers.BatchNormalization(axis=-1, dtype="float32")]
            layers += [keras.layers.ReLU(dtype="float32")]
        return with_places_of(teacher_shape, student_shape, self, layers)

    def compare(self, teacher, student, *, training):
        if self.student_taps[0] == self.student_tap:
            return super().compare(teacher, student, training=training)
        return self.distance(teacher, student, mask_of(student))

    def distance(self, teacher, student, mask):
        return with_mask(mask, losses.hint(teacher, student, data_format="channels_last"))

    def finished(self, student, teacher):
        feature = self.projector(tensor_at(student, self.student_tap, "`SimKD`"))
        classifier = rest_of(teacher, self.teacher_tap, "`SimKD`")
        inputs = student.inputs[0] if isinstance(student, keras.Sequential) else student.input
        # The projector is part of the finished student now, and must not run a second time for the loss.
        self.student_taps = (self.projector.name,)
        return keras.Model(inputs, AtRest(classifier, name=classifier.name)(feature), name=student.name)


def _weighted(width: int, kernel: int, grid: bool) -> keras.Layer:
    if not grid:
        return keras.layers.Dense(width, use_bias=False, dtype="float32")
    return keras.layers.Conv2D(
        width, kernel, padding="same", use_bias=False, data_format="channels_last", dtype="float32"
    )
