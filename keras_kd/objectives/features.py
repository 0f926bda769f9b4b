"""Objectives between intermediate features of teacher and student."""

from typing import Any

import keras
import numpy as np

from keras_kd import losses
from keras_kd.objectives.base import Objective
from keras_kd.projectors import projector_for
from keras_kd.taps import Tap
from keras_kd.weighing import with_mask_of


@keras.saving.register_keras_serializable(package="keras_kd")
class Hint(Objective):
    """A student feature learns to equal a teacher feature.

    See `keras_kd.losses.hint` for the formula, and `keras_kd.taps` for how to name a tap.

    Args:
        teacher_tap: Where to listen in the teacher, as in `"block3"` or `"backbone/block4_add"`.
        student_tap: Where to listen in the student.
        projector: `"auto"` infers what makes the student's feature fit (nothing, where shapes agree); or a Keras
            layer; or `None`. It trains with the student and is not part of what is exported.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"hint"`.

    Raises:
        ValueError: If a tap is malformed; when training begins, if a tap names no layer or the features do not fit.

    Example:
        >>> Hint("block3", "block2", weight=0.5).get_config()["student_tap"]
        'block2'

    Reference:
        Romero, Ballas, Kahou, Chassang, Gatta, Bengio. FitNets: Hints for Thin Deep Nets. 2015. arXiv:1412.6550.
    """

    def __init__(
        self,
        teacher_tap: str,
        student_tap: str,
        *,
        projector: "keras.Layer | str | None" = "auto",
        weight: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(weight=weight, name=name)
        for tap in (teacher_tap, student_tap):
            Tap.parse(tap)
        if projector not in ("auto", None) and not isinstance(projector, keras.Layer):
            raise ValueError(f"`Hint`: `projector` must be 'auto', a Keras layer, or None. Received: {projector!r}.")
        self.teacher_taps, self.student_taps = (teacher_tap,), (student_tap,)
        self._projector_argument = projector if isinstance(projector, str) else None
        self.projector = projector if isinstance(projector, keras.Layer) else None

    def prepare(self, teacher, student):
        if self.built:
            return
        teacher_shape, student_shape = (tuple(tensor.shape) for tensor in self._features(teacher, student))
        self.build(teacher_shape, student_shape)

    def build(self, teacher_shape: tuple[int | None, ...], student_shape: tuple[int | None, ...]) -> None:
        """Creates the projector for features of these shapes."""
        teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
        if self._projector_argument == "auto":
            self.projector = projector_for(student_shape, teacher_shape, "`Hint`")
        fitted = student_shape
        if self.projector is not None:
            if not self.projector.built:
                self.projector.build(student_shape)
            fitted = tuple(self.projector.compute_output_shape(student_shape))
        if fitted[1:] != teacher_shape[1:]:
            raise ValueError(
                f"`Hint`: the student feature '{self.student_taps[0]}' must have the shape of the teacher feature "
                f"'{self.teacher_taps[0]}', {teacher_shape}. Received: {fitted}. Use `projector='auto'`."
            )

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for name, shape in self.get_build_config()["shapes_dict"].items() if self.built else ():
            store[name] = np.array([-1 if size is None else size for size in shape])

    def load_own_variables(self, store: Any) -> None:
        saved = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras's store has keys, but no iterator)
        shapes = {name: saved.pop(name) for name in ("teacher_shape", "student_shape") if name in saved}
        if shapes and not self.built:
            # Keras loads no weights into a layer that is not built, and the projector waits for the first `fit`.
            self.build(**{name: tuple(None if n < 0 else int(n) for n in shape) for name, shape in shapes.items()})
        super().load_own_variables(saved)

    def values(self, teacher, student, *, temperature, labels=None, training=False):
        teacher_feature, student_feature = self._features(teacher, student)
        fitted = student_feature if self.projector is None else self.projector(student_feature, training=training)
        return {None: with_mask_of(student_feature, losses.hint(teacher_feature, fitted))}

    def _features(self, teacher, student) -> tuple[Any, Any]:
        return teacher.taps[self.teacher_taps[0]], student.taps[self.student_taps[0]]

    def get_config(self):
        projector = self._projector_argument or keras.saving.serialize_keras_object(self.projector)
        taps = {"teacher_tap": self.teacher_taps[0], "student_tap": self.student_taps[0]}
        return {**super().get_config(), **taps, "projector": projector}

    @classmethod
    def from_config(cls, config):
        if isinstance(config["projector"], dict):
            config = {**config, "projector": keras.saving.deserialize_keras_object(config["projector"])}
        return cls(**config)
