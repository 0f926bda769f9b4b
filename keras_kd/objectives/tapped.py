"""What objectives between intermediate features have in common: their taps, their projector, and how both are saved."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_kd.losses.tensors import channels_last
from keras_kd.objectives.base import Objective
from keras_kd.projectors import in_float32, projected, projector_for
from keras_kd.taps import Tap
from keras_kd.weighing import mask_of

Shape = tuple[int | None, ...]
Taps = str | Sequence[str]


class TappedObjective(Objective):
    """Listens at taps of both models, and owns layers whose shapes follow from what is heard there.

    Subclasses write `build` and `compare`. Features come with channels last, whatever the data format.
    """

    def __init__(self, teacher_tap: Taps, student_tap: Taps, *, weight: float = 1.0, name: str | None = None):
        super().__init__(weight=weight, name=name)
        self.teacher_tap, self.student_tap = _as_json(teacher_tap), _as_json(student_tap)
        self.teacher_taps, self.student_taps = _several(teacher_tap), _several(student_tap)
        for tap in (*self.teacher_taps, *self.student_taps):
            Tap.parse(tap)

    def prepare(self, teacher, student):
        if not self.built:
            self.build(*([tuple(feature.shape) for feature in heard] for heard in self.features(teacher, student)))

    def build(self, teacher_shapes: Sequence[Shape], student_shapes: Sequence[Shape]) -> None:
        """Creates the layers of the objective, for features of these shapes."""
        raise NotImplementedError

    def features(self, teacher: Any, student: Any) -> tuple[list[Any], list[Any]]:
        """What is heard at the taps of teacher and student."""
        pairs = ((teacher, self.teacher_taps), (student, self.student_taps))
        return tuple([channels_last(signals.taps[tap]) for tap in taps] for signals, taps in pairs)

    def values(self, teacher, student, *, temperature, labels=None, training=False):
        taught, learnt = self.features(teacher, student)
        return {None: self.compare(*taught, *learnt, training=training)}

    def compare(self, *features: Any, training: bool) -> Any:
        """Values of shape `(batch, ...)` of the teacher's features, then the student's."""
        raise NotImplementedError

    def get_build_config(self) -> dict[str, Any] | None:
        return {name: [list(shape) for shape in shapes] for name, shapes in self._shapes.items()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        if config:
            self.build(**config)

    @property
    def _shapes(self) -> dict[str, list[Shape]]:
        return dict(self._build_shapes_dict or {}) if self.built else {}

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for name, shapes in self._shapes.items():
            for index, shape in enumerate(shapes):
                store[f"{name}_{index:02}"] = np.array([-1 if size is None else size for size in shape])

    def load_own_variables(self, store: Any) -> None:
        saved = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras's store has keys, but no iterator)
        shapes = {key: saved.pop(key) for key in sorted(saved) if "_shapes_" in key}
        if shapes and not self.built:
            # Keras loads no weights into a layer that is not built, and these layers wait for the first `fit`.
            heard = {"teacher_shapes": [], "student_shapes": []}
            for key, shape in shapes.items():
                heard[key[:-3]].append(tuple(None if size < 0 else int(size) for size in shape))
            self.build(**heard)
        super().load_own_variables(saved)

    def get_config(self):
        return {**super().get_config(), "teacher_tap": self.teacher_tap, "student_tap": self.student_tap}


class FeatureObjective(TappedObjective):
    """Compares one feature of the teacher with one of the student, which a projector makes fit.

    Subclasses say which function of `keras_kd.losses` is their `loss`, whose arguments of the same names their
    `settings` are, or write `distance`; in `agree`, what of the two shapes it needs to be one: `"shape"`, `"places"`
    (all but the channels), `"channels"`, or `None`; in `flattens`, whether it makes vectors of the features; and in
    `needs_projector`, whether there must be one.

    Args:
        teacher_tap: Where to listen in the teacher, as in `"block3"` or `"backbone/block4_add"`.
        student_tap: Where to listen in the student.
        projector: `"auto"` infers what makes the student's feature fit (nothing, where it does); or a Keras layer; or
            `None`. It trains with the student and is not part of what is exported.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to the class name in snake case.
    """

    loss: Callable
    agree: str | None = "shape"
    flattens = False
    needs_projector = False

    def __init__(
        self,
        teacher_tap: str,
        student_tap: str,
        *,
        projector: "keras.Layer | str | None" = "auto",
        weight: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(teacher_tap, student_tap, weight=weight, name=name)
        named = ("auto",) if self.needs_projector else ("auto", None)
        if not (projector in named or isinstance(projector, keras.Layer)):
            allowed = "'auto' or a Keras layer" if self.needs_projector else "'auto', a Keras layer, or None"
            raise ValueError(f"`{type(self).__name__}`: `projector` must be {allowed}. Received: {projector!r}.")
        self._projector_argument = projector if isinstance(projector, str) else None
        self.projector = projector if isinstance(projector, keras.Layer) else None

    def build(self, teacher_shapes, student_shapes):
        (teacher_shape,), (student_shape,) = map(tuple, teacher_shapes), map(tuple, student_shapes)
        for tap, shape in ((self.teacher_taps[0], teacher_shape), (self.student_taps[0], student_shape)):
            if self.flattens and None in shape[1:]:
                raise ValueError(
                    f"`{type(self).__name__}`: the feature '{tap}' must have a known shape, to be made a vector. "
                    f"Received: {shape}. Tap it after pooling, as in 'head:input'."
                )
        self.build_teacher_side(teacher_shape)
        if self._projector_argument == "auto":
            self.projector = self.auto_projector(teacher_shape, student_shape)
        fitted = student_shape
        if self.projector is not None:
            if not self.projector.built:
                self.projector.build(student_shape)
            fitted = tuple(self.projector.compute_output_shape(student_shape))
        self._check_fit(self.target_shape(teacher_shape), fitted)

    def build_teacher_side(self, teacher_shape: Shape) -> None:
        """Creates what the objective owns beside the projector."""

    def auto_projector(self, teacher_shape: Shape, student_shape: Shape) -> keras.Layer | None:
        """What `projector="auto"` stands for."""
        if self.agree is None:
            return None
        return projector_for(student_shape, teacher_shape, f"`{type(self).__name__}`", self.agree)

    def target_shape(self, teacher_shape: Shape) -> Shape:
        """The shape that the projected student feature is compared with."""
        return teacher_shape

    def _check_fit(self, wanted: Shape, fitted: Shape) -> None:
        parts = {"shape": slice(1, None), "places": slice(1, -1), "channels": slice(-1, None), None: slice(0, 0)}
        if wanted[parts[self.agree]] != fitted[parts[self.agree]]:
            raise ValueError(
                f"`{type(self).__name__}`: the student feature '{self.student_taps[0]}' must have the {self.agree} of "
                f"the teacher feature '{self.teacher_taps[0]}', {wanted}. Received: {fitted}. Use `projector='auto'`."
            )

    def compare(self, teacher, student, *, training):
        mask = mask_of(student)
        if self.projector is not None:
            places = student.shape[1:-1]
            student = projected(self.projector, student, training)
            mask = mask if tuple(places) == tuple(student.shape[1:-1]) else None  # it speaks of places that are gone
        return self.distance(teacher, student, mask)

    def distance(self, teacher: Any, student: Any, mask: Any) -> Any:
        """The loss for a student feature that fits; `mask` keeps places `(batch, ...)`, or is `None`."""
        return type(self).loss(teacher, student, mask=mask, data_format="channels_last", **self.current_settings())

    def get_config(self):
        projector = self._projector_argument or keras.saving.serialize_keras_object(self.projector)
        return {**super().get_config(), "projector": projector}

    @classmethod
    def from_config(cls, config):
        if isinstance(config["projector"], dict):
            config = {**config, "projector": keras.saving.deserialize_keras_object(config["projector"])}
        return cls(**config)


def with_places_of(
    teacher_shape: Shape, student_shape: Shape, owner: Objective, layers: list[keras.Layer]
) -> keras.Sequential:
    """Layers on the student's feature once it has the places of the teacher's."""
    fit = projector_for(student_shape, teacher_shape, f"`{type(owner).__name__}`", "places")
    return in_float32(student_shape, [*([] if fit is None else [fit]), *layers], name=f"{owner.name}_projector")


def _several(tap: Taps) -> tuple[str, ...]:
    return (tap,) if isinstance(tap, str) else tuple(tap)


def _as_json(tap: Taps) -> str | list[str]:
    return tap if isinstance(tap, str) else list(tap)
