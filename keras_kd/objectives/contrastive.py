"""Contrastive representation distillation."""

import keras
from keras import ops

from keras_kd import losses
from keras_kd.losses.tensors import as_teacher, unit
from keras_kd.objectives.tapped import FeatureObjective
from keras_kd.projectors import in_float32
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class Contrastive(FeatureObjective):
    """The student's embedding of an example is nearer to the teacher's of the same example than to those of others.

    `losses.contrastive` with the student as anchor, plus its mirror image with the teacher as anchor. Both features
    are flattened, embedded by one dense layer each, which train with the student, and normalised. Negatives are the
    other examples of the batch and the `bank_size` latest embeddings before it. The paper draws its negatives from a
    bank of the whole data set by index, and excludes the classmates of the anchor; `fit` hands over no indices, so
    the bank here is a queue. The paper compares the input of the classifier.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        dim: Width of the embeddings, `>= 1`. Defaults to 128.
        temperature: `T > 0`. Defaults to 0.07.
        bank_size: Embeddings of either model that the bank holds, `>= 0`. Defaults to 0: the batch alone. The paper
            takes 16,384 negatives.
        dataset_size: The `M` of the paper, its number of training examples. Defaults to the number of candidates.
        projector: The student's embedding: `"auto"`, a Keras layer of width `dim` on the flattened feature.
        weight: Factor in the total loss. Defaults to 1. The paper's is 0.8 beside a student loss of weight 1.
        name: Key among the metrics. Defaults to `"contrastive"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Contrastive("head:input", "head:input", bank_size=1024).get_config()["bank_size"]
        1024

    Reference:
        Tian, Krishnan, Isola. Contrastive Representation Distillation. 2020. arXiv:1910.10699.
    """

    settings = ("dim", "temperature", "bank_size", "dataset_size")
    relational = True
    agree = "channels"
    flattens = True
    needs_projector = True
    paper_weight = 0.8

    def __init__(
        self,
        teacher_tap: str,
        student_tap: str,
        *,
        dim: int = 128,
        temperature: float = 0.07,
        bank_size: int = 0,
        dataset_size: int | None = None,
        **kwargs,
    ):
        super().__init__(teacher_tap, student_tap, **kwargs)
        self.dim = int(checked_number(self, "dim", dim, low=1))
        self.temperature = checked_number(self, "temperature", temperature, low=0, open_low=True)
        self.bank_size = int(checked_number(self, "bank_size", bank_size, low=0))
        self.dataset_size = dataset_size and int(checked_number(self, "dataset_size", dataset_size, low=1))

    def build_teacher_side(self, teacher_shape):
        self.teacher_embedding = _embedding(teacher_shape, self.dim)
        self.banks = [self._bank(side) for side in ("teacher", "student")] if self.bank_size else [None, None]

    def _bank(self, side: str) -> keras.Variable:
        return self.add_weight(
            shape=(self.bank_size, self.dim),
            # Directions drawn at random, until they are replaced.
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=0),
            trainable=False,
            aggregation="only_first_replica",
            name=f"{side}_bank",
        )

    def target_shape(self, teacher_shape):
        return (None, self.dim)

    def auto_projector(self, teacher_shape, student_shape):
        return _embedding(student_shape, self.dim)

    def compare(self, teacher, student, *, training):
        embedded = [
            unit(self.teacher_embedding(as_teacher(teacher), training=training)),
            unit(self.projector(student, training=training)),
        ]
        value = sum(
            losses.contrastive(other, anchor, self.temperature, negatives=bank, dataset_size=self.dataset_size)
            for other, anchor, bank in zip(embedded, reversed(embedded), self.banks, strict=True)
        )
        if training and self.bank_size:
            for bank, latest in zip(self.banks, embedded, strict=True):
                bank.assign(ops.concatenate([ops.stop_gradient(latest), bank])[: self.bank_size])
        return value


def _embedding(shape, dim: int) -> keras.Layer:
    flatten = keras.layers.Flatten(data_format="channels_last", dtype="float32")
    return in_float32(shape, [flatten, keras.layers.Dense(dim, dtype="float32")], "embedding")
