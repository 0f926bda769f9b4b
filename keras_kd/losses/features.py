"""Losses between intermediate features of teacher and student."""

from keras import KerasTensor, ops

from keras_kd.losses.tensors import as_features

Tensor = KerasTensor


def hint(teacher: Tensor, student: Tensor, *, data_format: str | None = None) -> Tensor:
    r"""Mean squared error between a teacher feature and the student feature that imitates it.

    `mean_c (teacher_c - student_c)²` over the channels, at every place of the feature map.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        student: Features of the same shape, any float dtype.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per place, shape `(batch, ...)`, float32. Its mean is the mean squared error.

    Example:
        >>> hint([[1.0, 2.0]], [[1.0, 4.0]]).numpy()
        array([2.], dtype=float32)

    Reference:
        Romero, Ballas, Kahou, Chassang, Gatta, Bengio. FitNets: Hints for Thin Deep Nets. 2015.
        arXiv:1412.6550. The paper writes half the squared norm; the mean is what its followers
        train with, and does not grow with the width of the layer.
    """
    teacher, student = as_features(teacher, student, data_format)
    return ops.mean(ops.square(teacher - student), axis=-1)
