"""Where teacher signals come from: one model, or an ensemble."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import keras
from keras import ops

from keras_kd.inputs import InputSelection
from keras_kd.signals import EnsembleSignals, Signals
from keras_kd.taps import forward


class Teacher:
    """A frozen model, and how to ask it.

    The model is only read: it runs in inference mode, and nothing that it would update while it runs
    (BatchNorm statistics, seeds, losses) sticks. Its `trainable` flags are not touched.

    Args:
        model: A `keras.Model`, or any layer that takes a batch and gives class scores. Or the path of a SavedModel
            directory (its endpoint `serve`, else `serving_default`), of a `.keras` file (loaded in safe mode) or of a
            `.tflite` file. Or a function `f(x) -> scores` of NumPy arrays, such as a call to an ONNX session or to an
            API, whose answer is an array, or a list or dict of arrays; it is asked about a made-up batch first, to
            learn their shapes. Only Keras models have layers to tap.
        inputs: Keys of a dict `x` (positions of a tuple) that the teacher sees. Defaults to all.
        preprocess: A function of the selected inputs, applied before the model, as in
            `keras.applications.resnet50.preprocess_input`. Defaults to none.
        outputs: `"logits"`, or `"probabilities"` for a model that ends in softmax: its
            logarithms are used as logits, which have the same softmax at every temperature.

    Raises:
        ValueError: If an argument is none of these.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        >>> teacher = Teacher(model, outputs="probabilities")
        >>> logits = teacher.signals(ops.ones((2, 4))).outputs["output_0"]
        >>> bool(ops.all(ops.abs(ops.softmax(logits) - model(ops.ones((2, 4)))) < 1e-6))
        True
    """

    def __init__(
        self,
        model: keras.Layer | str | PathLike | Callable[[Any], Any],
        *,
        inputs: Sequence[str] | Sequence[int] | None = None,
        preprocess: Callable[[Any], Any] | None = None,
        outputs: str = "logits",
    ):
        layer = model if isinstance(model, keras.Layer) else _as_layer(model)
        if outputs not in ("logits", "probabilities"):
            raise ValueError(
                f"`Teacher`: `outputs` must be 'logits' or 'probabilities'. Received: outputs={outputs!r}."
            )
        if preprocess is not None and not callable(preprocess):
            raise ValueError(f"`Teacher`: `preprocess` must be a function of the inputs. Received: {preprocess!r}.")
        self.model = layer
        self.outputs = outputs
        self.preprocess = preprocess
        self._select = InputSelection(inputs, "`Teacher`: `inputs`")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def members(self) -> list["Teacher"]:
        """The teachers that speak: this one."""
        return [self]

    def inputs_for(self, x: Any) -> Any:
        """What the model gets to see of `x`."""
        selected = self._select(x, self.model)
        return self.preprocess(selected) if self.preprocess else selected

    def build(self, x: Any) -> None:
        """Creates the weights of a model that has none yet."""
        if not self.model.built:
            self.model(self.inputs_for(x), training=False)

    def signals(self, x: Any, taps: Sequence[str] = ()) -> Signals:
        """Runs the built model once, in inference mode.

        Args:
            x: The batch's inputs, of which the teacher picks its own.
            taps: Taps to listen at. Defaults to none.

        Returns:
            The teacher's signals; their outputs are logits.

        Raises:
            ValueError: If there are taps of a teacher that is no Keras model.
        """
        if taps and getattr(self.model, "opaque", False):
            raise ValueError(
                f"`Teacher`: `{self.name}` is no Keras model and has no layers to tap. Received: taps {list(taps)}. "
                "Give the Keras model, or objectives that compare outputs alone."
            )
        with keras.StatelessScope():
            said = forward(self.model, self.inputs_for(x), taps, training=False)
        if self.outputs == "logits":
            return said
        # The least positive float32 that is not denormal: log(0) has no gradient to lose, but it is no number.
        return replace(
            said,
            outputs={
                name: ops.log(ops.maximum(ops.cast(value, "float32"), 1.2e-38)) for name, value in said.outputs.items()
            },
        )


def _as_layer(model: Any) -> keras.Layer:
    from keras_kd.foreign import as_layer  # most teachers are Keras models, and need none of it

    return as_layer(model)


class Ensemble:
    """Several teachers that speak as one: the weighted mean of their probabilities.

    `p = Σ_i w_i softmax(z_i / T)`, averaged at the temperature of whoever asks. With weights by class,
    `p_c = Σ_i w_ic softmax(z_i / T)_c`, divided by their sum over the classes.

    Args:
        teachers: `Teacher`s, or models as `Teacher` takes them, with the same classes.
        weights: One weight `>= 0` each; or by class, an array of shape `(teachers, classes)`; or by example, a function
            `weights(x)` of the batch's inputs, of `keras.ops`, that gives an array of numbers or booleans of shape
            `(batch, teachers)`: `lambda x: x["trust"]`, or zeros for a missing modality, `lambda x:
            ops.stack([x["image_present"], x["audio_present"]], -1)`. Divided by their sum over the teachers. Defaults
            to equal weights.

    Raises:
        ValueError: If there are no teachers, or the weights do not fit them; when training begins, if the weights have
            another number of classes, or a function gives another shape. An example for which a function gives a
            negative weight or none but zeros has no mean: a `Distiller` stops in that step, `cache_teacher` at that
            example, as at a teacher that gives NaN. Leave such examples out of the data.

    Example:
        >>> build = lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> Ensemble([build(), build()], weights=[3, 1]).weights
        [0.75, 0.25]
        >>> Ensemble([build(), build()], weights=[[3, 1, 0], [1, 1, 5]]).weights
        [[0.75, 0.5, 0.0], [0.25, 0.5, 1.0]]

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
    """

    def __init__(
        self,
        teachers: Sequence[Any],
        weights: Sequence[float] | Sequence[Sequence[float]] | Callable[[Any], Any] | None = None,
    ):
        if not teachers:
            raise ValueError("`Ensemble`: `teachers` must hold at least one teacher. Received none.")
        self.members = [teacher if isinstance(teacher, Teacher) else Teacher(teacher) for teacher in teachers]
        self.weights = weights if callable(weights) else _normalised(weights, len(self.members))

    @property
    def name(self) -> str:
        """The names of the members."""
        return "+".join(member.name for member in self.members)

    def build(self, x: Any) -> None:
        """Creates the weights of the members that have none yet."""
        for member in self.members:
            member.build(x)

    def signals(self, x: Any, taps: Sequence[str] = ()) -> EnsembleSignals:
        """Runs each member once, in inference mode.

        Raises:
            ValueError: If taps are asked for: features of different models have no mean.
        """
        if taps:
            raise ValueError(
                f"`Ensemble`: features of several teachers have no mean, so taps are refused. Received: {list(taps)}. "
                "Give the teacher to be tapped alone."
            )
        return EnsembleSignals([member.signals(x) for member in self.members], self.weights_for(x))

    def weights_for(self, x: Any) -> Any:
        """The weights as they are, or what a function makes of a batch: float32 `(batch, teachers)`, summing to one.

        Raises:
            ValueError: If it gives another shape.
        """
        if not callable(self.weights):
            return self.weights
        given = ops.cast(ops.convert_to_tensor(self.weights(x)), "float32")
        if len(given.shape) != 2 or given.shape[-1] != len(self.members):
            raise ValueError(
                f"`Ensemble`: `weights(x)` must be of shape (batch, {len(self.members)}), a weight for each teacher. "
                f"Received: shape {tuple(given.shape)}."
            )
        # What is no weight becomes NaN, and so do zeros alone: whoever asks refuses that.
        weights = ops.where(given >= 0, given, float("nan"))
        return ops.stop_gradient(weights / ops.sum(weights, axis=-1, keepdims=True))


def _normalised(weights: Any, count: int) -> list[float] | list[list[float]]:
    """Weights by teacher, or by teacher and class, that add up to one over the teachers."""
    try:
        array = ops.convert_to_numpy([1.0] * count if weights is None else weights).astype("float64")
    except (TypeError, ValueError):
        array = None
    if array is None or array.ndim not in (1, 2):
        raise ValueError(
            f"`Ensemble`: `weights` must be {count} numbers >= 0, an array ({count}, classes) of them, or a function "
            f"of the inputs. Received: {weights!r}."
        )
    given = array.tolist()
    by_class = array.ndim == 2
    columns = list(zip(*given, strict=True)) if by_class else [given]
    if not (columns and all(map(functools.partial(_is_column, count), columns))):
        kind = f"{count} rows of numbers >= 0, of which no column is" if by_class else f"{count} numbers >= 0, not"
        raise ValueError(f"`Ensemble`: `weights` must be {kind} all zero. Received: {given}.")
    normalised = [[weight / sum(column) for weight in column] for column in columns]
    return list(map(list, zip(*normalised, strict=True))) if by_class else normalised[0]


def _is_column(count: int, weights: Sequence[float]) -> bool:
    return len(weights) == count and min(weights) >= 0 and 0 < sum(weights) < float("inf")


def as_teacher(teacher: Any) -> Teacher | Ensemble | None:
    """Reads what a user may hand over as a teacher.

    Raises:
        ValueError: If it is no model as `Teacher` takes it, list of models, `Teacher`, `Ensemble` or `None`.
    """
    if teacher is None or isinstance(teacher, Teacher | Ensemble):
        return teacher
    if isinstance(teacher, list | tuple):
        return Ensemble(teacher)
    if isinstance(teacher, str | PathLike) or callable(teacher):  # Keras layers are callable
        return Teacher(teacher)
    raise ValueError(
        "`Distiller`: `teacher` must be a Keras model, the path of a saved one, a function of NumPy arrays, a list of "
        f"these, a `keras_kd.Teacher`, a `keras_kd.Ensemble`, or None. Received: {teacher!r}."
    )
