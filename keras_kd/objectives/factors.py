"""Factor transfer: the student learns a paraphrase of the teacher's feature."""

import keras

from keras_kd import losses
from keras_kd.losses.tensors import as_teacher, mean_of_example
from keras_kd.objectives.tapped import FeatureObjective, with_places_of
from keras_kd.projectors import in_float32
from keras_kd.scalars import checked_number

SLOPE = 0.1


@keras.saving.register_keras_serializable(package="keras_kd")
class FactorTransfer(FeatureObjective):
    """The student's factor, from a translator, learns the teacher's, from a paraphraser.

    `losses.factor_transfer(paraphrase, translation) + mean((teacher - reconstruction)²)`. The paraphraser is an
    autoencoder of the teacher's feature that learns from the second term alone; the translator, and through it the
    student, from the first. The paper trains the paraphraser before; here both train at once, so that one `fit` is
    all. The paper compares the last convolutional features.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        rate: Channels of the factor over channels of the teacher, `> 0`. Defaults to 0.5.
        p: Of the norm of the difference, `>= 1`. Defaults to 1.
        projector: The translator: `"auto"`, three layers of convolutions (grids) or dense ones, or a Keras layer.
        weight: Factor in the total loss. Defaults to 1. The authors' code takes 500 on the mean over the values of the
            factor, where this is the sum.
        name: Key among the metrics. Defaults to `"factor_transfer"`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the features do not fit.

    Example:
        >>> FactorTransfer("block3", "block2", rate=0.75).get_config()["rate"]
        0.75

    Reference:
        Kim, Park, Kwak. Paraphrasing Complex Network: Network Compression via Factor Transfer. 2018. arXiv:1802.04977.
    """

    settings = ("rate", "p")

    def __init__(self, teacher_tap: str, student_tap: str, *, rate: float = 0.5, p: float = 1, **kwargs):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.rate = checked_number(self, "rate", rate, low=0, open_low=True)
        self.p = checked_number(self, "p", p, low=1)

    def build_teacher_side(self, teacher_shape):
        channels, factors = teacher_shape[-1], self.target_shape(teacher_shape)[-1]
        self.paraphraser = in_float32(
            teacher_shape, _layers(teacher_shape, [channels, factors, factors]), "paraphraser"
        )
        self.reconstruction = in_float32(
            self.target_shape(teacher_shape), _layers(teacher_shape, [factors, channels, channels]), "reconstruction"
        )

    def target_shape(self, teacher_shape):
        return (*teacher_shape[:-1], max(1, round(self.rate * teacher_shape[-1])))

    def auto_projector(self, teacher_shape, student_shape):
        factors = self.target_shape(teacher_shape)[-1]
        layers = _layers(teacher_shape, [student_shape[-1], factors, factors])
        return with_places_of(teacher_shape, student_shape, self, layers)

    def compare(self, teacher, student, *, training):
        teacher = as_teacher(teacher)
        factor = self.paraphraser(teacher, training=training)
        error = mean_of_example(keras.ops.square(teacher - self.reconstruction(factor, training=training)))
        return super().compare(factor, student, training=training) + error

    def distance(self, teacher, student, mask):
        return losses.factor_transfer(teacher, student, self.p, mask=mask, data_format="channels_last")


def _layers(shape, widths: list[int]) -> list[keras.Layer]:
    def weighted(width):
        if len(shape) == 4:
            return keras.layers.Conv2D(width, 3, padding="same", data_format="channels_last", dtype="float32")
        return keras.layers.Dense(width, dtype="float32")

    return [
        layer
        for width in widths
        for layer in (
            weighted(width),
            keras.layers.BatchNormalization(axis=-1, dtype="float32"),
            keras.layers.LeakyReLU(SLOPE, dtype="float32"),
        )
    ]
