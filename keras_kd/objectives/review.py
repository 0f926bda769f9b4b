"""Knowledge review: every layer of the teacher is taught by the student's layers from there on."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_kd import losses
from keras_kd.objectives.tapped import TappedObjective
from keras_kd.projectors import in_float32
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class Review(TappedObjective):
    """The student's deeper features flow back into its earlier ones, which then learn the teacher's.

    `Σ_i hierarchical_context(teacher_i, expand_i(fused_i))`, with `own_i = reduce_i(student_i)`,
    `fused_i = z_0 · own_i + z_1 · fused_{i+1}` and `z = sigmoid(conv([own_i, fused_{i+1}]))`, where the deepest is
    `fused_n = own_n`; see `keras_kd.losses.hierarchical_context`. `reduce` is a 1×1 convolution, `expand` a
    3×3 one, both with BatchNorm; they train with the student and are not exported. The paper taps the end of every
    stage, and warms the weight up over 20 epochs: `kd.schedules.WarmUp("review", 1.0, epochs=20)`.

    Args:
        teacher_tap: Taps of the teacher at feature maps, from shallow to deep.
        student_tap: As many taps of the student.
        channels: Width of the fused features, `>= 1`. Defaults to the channels of the student's deepest feature, at
            most 512.
        weight: Factor in the total loss. Defaults to 1, in the range of the paper's.
        name: Key among the metrics. Defaults to `"review"`.

    Raises:
        ValueError: If the taps are not as many; when training begins, if a feature is no grid of known size.

    Example:
        >>> Review(["block1", "block2"], ["block1", "block2"]).student_taps
        ('block1', 'block2')

    Reference:
        Chen, Liu, Zhao, Jia. Distilling Knowledge via Knowledge Review. 2021. arXiv:2104.09044. The authors' code adds
        the pooled feature as a last stage of 1×1.
    """

    settings = ("channels",)

    def __init__(
        self,
        teacher_tap: Sequence[str],
        student_tap: Sequence[str],
        *,
        channels: int | None = None,
        weight: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(teacher_tap, student_tap, weight=weight, name=name)
        if len(self.teacher_taps) != len(self.student_taps):
            raise ValueError(
                "`Review`: `teacher_tap` and `student_tap` must be as many. Received: "
                f"{list(self.teacher_taps)}, {list(self.student_taps)}."
            )
        self.channels = channels and int(checked_number(self, "channels", channels, low=1))

    def build(self, teacher_shapes, student_shapes):
        shapes = [*map(tuple, teacher_shapes), *map(tuple, student_shapes)]
        taps = (*self.teacher_taps, *self.student_taps)
        for tap, shape in zip(taps, shapes, strict=True):
            if len(shape) != 4 or None in shape[1:]:
                raise ValueError(
                    f"`Review`: the feature '{tap}' must be a grid of known size, (batch, height, width, channels). "
                    f"Received: {shape}."
                )
        width = self.channels or min(512, student_shapes[-1][-1])
        self.reduce = [_normed(tuple(shape), width, 1) for shape in student_shapes]
        self.expand = [_normed((*shape[:-1], width), shape[-1], 3) for shape in teacher_shapes]
        self.attend = [_convolution(2, 1, use_bias=True, activation="sigmoid") for _ in student_shapes[1:]]
        for shape, attend in zip(student_shapes, self.attend, strict=False):
            attend.build((*shape[:-1], 2 * width))

    def compare(self, *features, training):
        stages = len(self.reduce)
        teacher, student = features[:stages], features[stages:]
        fused, total = None, 0.0
        for stage in reversed(range(stages)):
            fused = self._fused(stage, self.reduce[stage](student[stage], training=training), fused)
            fitted = self.expand[stage](_resized(fused, teacher[stage].shape), training=training)
            total += losses.hierarchical_context(teacher[stage], fitted, data_format="channels_last")
        return total

    def _fused(self, stage: int, own, deeper):
        if deeper is None:
            return own
        deeper = _resized(deeper, own.shape)
        attention = self.attend[stage](ops.concatenate([own, deeper], axis=-1))
        return own * attention[..., :1] + deeper * attention[..., 1:]


def _resized(feature, shape):
    """To the nearest place. By index, since XLA has no gradient of `ops.image.resize` with that interpolation."""
    for axis in (1, 2):
        here, there = feature.shape[axis], shape[axis]
        if here != there:
            feature = ops.take(feature, [place * here // there for place in range(there)], axis=axis)
    return feature


def _convolution(width: int, kernel: int, **kwargs) -> keras.Layer:
    return keras.layers.Conv2D(width, kernel, padding="same", data_format="channels_last", dtype="float32", **kwargs)


def _normed(shape, width: int, kernel: int) -> keras.Layer:
    normalisation = keras.layers.BatchNormalization(axis=-1, dtype="float32")
    return in_float32(shape, [_convolution(width, kernel, use_bias=False), normalisation], "normed_convolution")
