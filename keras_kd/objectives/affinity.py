"""Contrastive relational distillation: how a batch of two modalities matches up."""

from collections.abc import Sequence

import keras

from keras_kd import losses
from keras_kd.objectives.tapped import TappedObjective
from keras_kd.scalars import checked_number
from keras_kd.weighing import mask_of, with_mask


@keras.saving.register_keras_serializable(package="keras_kd")
class BatchAffinity(TappedObjective):
    """The student matches the examples of two modalities in a batch as the teacher does.

    See `keras_kd.losses.batch_affinity`. What is compared are matches within each model, so that the widths of teacher
    and student need not agree, and nothing is projected. An example that a Keras mask of a student's embedding leaves
    out, as `keras.layers.Masking` gives it to a missing modality of zeros, has no part in the batch.

    Args:
        teacher_tap: The teacher's embeddings of the two modalities, of one width: two taps. A single tap stands for
            both: how the examples match among themselves.
        student_tap: The student's, in the same order.
        teacher_temperature: `τ > 0` of the teacher's matches. Defaults to 0.01.
        student_temperature: `τ > 0` of the student's matches. Defaults to 0.01. Beside a contrastive loss of the
            student's own, give it that loss's temperature, which the paper learns.
        weight: Factor in the total loss. Defaults to 1. In the paper its share of the total is a λ to be tuned, the
            student's own contrastive loss having `1 - λ`: with a weight of 1, `alpha` is `1 - λ`.
        name: Key among the metrics. Defaults to `"batch_affinity"`.

    Raises:
        ValueError: If there are neither one nor two taps of a model, or a temperature is out of range; when training
            begins, if a tap is no embedding `(batch, width)`, or the widths of one model differ.

    Example:
        >>> BatchAffinity(["image_embedding", "text_embedding"], ["image", "text"]).student_taps
        ('image', 'text')

    Reference:
        Vasu, Pouransari, Faghri, Vemulapalli, Tuzel. MobileCLIP: Fast Image-Text Models through Multi-Modal Reinforced
        Training. 2024. arXiv:2311.17049. Wu et al. TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight
        Inheritance. 2023. arXiv:2309.12314.
    """

    relational = True
    settings = ("teacher_temperature", "student_temperature")

    def __init__(
        self,
        teacher_tap: str | Sequence[str],
        student_tap: str | Sequence[str],
        *,
        teacher_temperature: float = 0.01,
        student_temperature: float = 0.01,
        weight: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(teacher_tap, student_tap, weight=weight, name=name)
        if not (len(self.teacher_taps) in (1, 2) and len(self.student_taps) in (1, 2)):
            raise ValueError(
                "`BatchAffinity`: `teacher_tap` and `student_tap` must be one tap or two each. Received: "
                f"{list(self.teacher_taps)}, {list(self.student_taps)}."
            )
        self.teacher_temperature, self.student_temperature = (
            checked_number(self, f"{side}_temperature", value, low=0, open_low=True)
            for side, value in (("teacher", teacher_temperature), ("student", student_temperature))
        )

    def build(self, teacher_shapes, student_shapes):
        for side, taps, shapes in (
            ("teacher", self.teacher_taps, teacher_shapes),
            ("student", self.student_taps, student_shapes),
        ):
            if any(len(shape) != 2 for shape in shapes) or len({shape[-1] for shape in shapes}) > 1:
                heard = ", ".join(f"'{tap}' {tuple(shape)}" for tap, shape in zip(taps, shapes, strict=True))
                raise ValueError(
                    f"`BatchAffinity`: the {side}'s taps must be embeddings (batch, width) of one width. Received: "
                    f"{heard}. Tap them after pooling and projection, where the modalities are compared."
                )

    def compare(self, *features, training):
        count = len(self.teacher_taps)
        taught, learnt = (pair if len(pair) == 2 else 2 * pair for pair in (features[:count], features[count:]))
        masks = [mask for mask in map(mask_of, learnt) if mask is not None]
        mask = keras.ops.all(keras.ops.stack(masks), axis=0) if masks else None
        return with_mask(mask, losses.batch_affinity(taught, learnt, **self.current_settings(), mask=mask))
