"""`Distiller`: a student that learns from its labels and from a frozen teacher, through plain Keras `fit`."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from keras_kd import preparation
from keras_kd.batches import spec_of
from keras_kd.finite import finite
from keras_kd.finite_steps import TakesFiniteSteps
from keras_kd.global_batch import values_of
from keras_kd.inputs import InputSelection
from keras_kd.objectives import Objective, as_objectives, metric_keys
from keras_kd.replay import WithSignals, heard, inputs_of
from keras_kd.reporting import ReportsThePhase
from keras_kd.saving import SavesTheStudent
from keras_kd.scalars import MovableScalar
from keras_kd.signals import Signals
from keras_kd.taps import forward
from keras_kd.teacher_metrics import TEACHER_METRICS
from keras_kd.teachers import as_teacher
from keras_kd.weighing import Weighing
from keras_kd.workers import RunsOnWorkers


@keras.saving.register_keras_serializable(package="keras_kd")
class Distiller(SavesTheStudent, ReportsThePhase, TakesFiniteSteps, RunsOnWorkers, keras.Model):
    """Trains a student to do what a frozen teacher does.

    `total = alpha · student_loss + (1 - alpha) · Σ_i weight_i · objective_i + the student's own regularisation`

    Compile, fit, evaluate and predict it as any Keras model. `evaluate` and `predict` are the student's, and need no
    teacher. What is saved, checkpointed or exported is the student and what trains with it, never the teacher.

    Among the metrics: `loss` (the total; in `evaluate`, what plain Keras would report for the student),
    `student_loss`, each objective's unweighted value by its name, the compiled metrics, and on request, by their
    names in `metrics`, `agreement` (share of examples for which student and teacher name the same class) and
    `teacher_kl` (`KL(teacher || student)` at temperature 1). Those two, or an objective's name in `metrics`, are
    the only things for which `evaluate` runs the teacher.

    NaN or infinity in the data, the teacher, the student or the gradients end the training step in which they arise,
    named with their batch: see `on_nonfinite` in `compile`. In `evaluate` only the teacher is looked at.

    Args:
        student: A `keras.Model` that gives logits: Sequential, Functional or subclassed, built or not.
        teacher: A Keras model that gives logits, a `Teacher`, a list of models or an `Ensemble`; a SavedModel folder, a
            `.tflite` or `.keras` file, or a function of NumPy arrays; or `None`: where the data set is that of
            `open_cache`, or to be set later by `distiller.teacher = model`. Only read; weights it shares with the
            student stay as they are.
        objectives: One `Objective`, a `keras.distillation.DistillationLoss`, or a list of them. Defaults to
            `SoftTargets()` at the distiller's temperature.
        alpha: Weight of the student's own loss, in [0, 1]. A variable: assign to it while training. With 0, no
            labels are needed; best, at a temperature of 2, where few of many images have one. Defaults to 0.3.
        temperature: `T > 0` of every objective that was given none. A variable. Defaults to 4.
        student_inputs: Keys of a dict `x` (positions of a tuple) that the student sees. Defaults to all.
        name: Name of the model. Defaults to `"distiller"`.

    Raises:
        ValueError: If an argument is out of range, or a model ends in probabilities that were not declared.

    Example:
        >>> import numpy as np
        >>> def mlp(width):
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)])
        >>> distiller = Distiller(student=mlp(4), teacher=mlp(64))
        >>> distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = distiller.fit(np.ones((32, 8)), np.zeros(32), verbose=0)
        >>> sorted(history.history)
        ['loss', 'soft_targets', 'student_loss']

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
    """

    alpha = MovableScalar(low=0.0, high=1.0)
    temperature = MovableScalar(low=0.0, open_low=True)
    _more_means: tuple[str, ...] = ()
    _read_objectives = staticmethod(as_objectives)

    def __init__(
        self,
        student: keras.Model,
        teacher: Any,
        objectives: Objective | Sequence[Objective] | None = None,
        *,
        alpha: float = 0.3,
        temperature: float = 4.0,
        student_inputs: Sequence[str] | Sequence[int] | None = None,
        name: str = "distiller",
    ):
        if not isinstance(student, keras.Model):
            raise ValueError(f"`Distiller`: `student` must be a `keras.Model`. Received: {student!r}.")
        # The student's policy decides on loss scaling; the inputs are the student's and the teacher's to cast.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        self.student = student
        self.alpha = alpha
        self.temperature = temperature
        self.objectives = self._read_objectives(objectives)
        self._select = InputSelection(student_inputs, "`Distiller`: `student_inputs`")
        self._means = [
            keras.metrics.Mean(name=key)
            for key in ("student_loss", *self.objective_names, *self._more_means, *TEACHER_METRICS)
        ]
        self._asked: list[str] = []
        self._loss_weights = None
        self.teacher = teacher
        self.built = student.built

    def __setattr__(self, name: str, value: Any) -> None:
        # Keras tracks, trains and saves every model that is set as an attribute; the teacher must escape that.
        if name == "teacher":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        # `keras.saving` finds what to save by `dir()`.
        return [name for name in super().__dir__() if name not in ("teacher", "finished_student")]

    @property
    def teacher(self) -> Any:
        """The teacher as it was given; assign a model to go on training after loading."""
        return self._teaching.given

    @teacher.setter
    def teacher(self, teacher: Any) -> None:
        source = as_teacher(teacher)
        if source is not None:
            preparation.check_teacher(source, self.student, self._listeners)
        teaching = SimpleNamespace(given=teacher, source=source, prepared=False, finished=None)
        # In a plain object, and not through `setattr`: out of sight of Keras and TensorFlow.
        object.__setattr__(self, "_teaching", teaching)
        teaching.finished = preparation.finished_student(self)
        self.supports_jit = self._may_compile() and (source is None or preparation.supports_jit(source))
        if self.compiled and not self.supports_jit:
            self.jit_compile = False
        self.train_function = self.test_function = None

    @property
    def finished_student(self) -> keras.Model:
        """What is evaluated and exported: the student, or what an objective such as `SimKD` makes of it."""
        return self._teaching.finished or self.student

    @property
    def objective_names(self) -> list[str]:
        """The objectives' keys among the metrics: their names, numbered where a name comes twice."""
        return metric_keys(self.objectives)

    @property
    def _listeners(self) -> list[Objective]:
        """What hears teacher and student in a training step: the objectives, and what a subclass adds."""
        return self.objectives

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What the optimizer moves: all that the student and the projectors train, less what the teacher owns too."""
        return self._own(super().trainable_variables)

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The same as `trainable_variables`."""
        return self._own(super().trainable_weights)

    def _own(self, variables: list[keras.Variable]) -> list[keras.Variable]:
        teacher_ids = preparation.variable_ids(self._teaching.source)
        return [variable for variable in variables if id(variable) not in teacher_ids]

    @property
    def output_names(self) -> list[str]:
        """Names of the student's outputs, by which Keras assigns losses and metrics."""
        return self.finished_student.output_names

    def build(self, input_shape: Any = None) -> None:
        """Leaves the building to the student, which its first call builds."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns what the student gives for its part of the inputs."""
        return self.finished_student(self._select(inputs_of(inputs), self.student), training=training)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        *,
        on_nonfinite: str = "raise",
        **kwargs: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: As in Keras.
            loss: The student's own loss. Not needed while `alpha` is 0.
            loss_weights: As in Keras; soft targets of several outputs follow them.
            metrics: As in Keras; a list may also name `"agreement"`, `"teacher_kl"` and objectives.
            on_nonfinite: What NaN or infinity in a training step does. `"raise"` ends the training with a
                `FloatingPointError` that names tensor and batch; `"skip"` warns, and goes on as if that batch had not
                been there. Either way the student stays as it was before that batch. Under a strategy it has learnt
                from it by the time it is told, and `"skip"` is refused. Defaults to `"raise"`.
            **kwargs: Everything else that `keras.Model.compile` takes.
        """
        of_teacher = {*TEACHER_METRICS, *self.objective_names}
        listed = metrics if isinstance(metrics, list | tuple) else ()
        self._asked = [metric for metric in listed if isinstance(metric, str) and metric in of_teacher]
        own = [metric for metric in listed if metric not in self._asked] or None if self._asked else metrics
        super().compile(optimizer=optimizer, loss=loss, loss_weights=loss_weights, metrics=own, **kwargs)
        self._watch_steps(on_nonfinite)
        self._loss_weights = loss_weights
        preparation.warn_of_probability_loss(loss, self.student, self._listeners)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains the student, as `keras.Model.fit` does; without labels while `alpha` is 0.

        Of a data set that `open_cache` gave, epoch `e` shows view `e` modulo the number of views.
        """
        x = preparation.prepare(self, x, y)
        callbacks = preparation.with_replay(self, x, callbacks)
        count = keras.callbacks.LambdaCallback(on_epoch_begin=self._finite_steps.begin)
        callbacks = self._callbacks_of_this_worker(preparation.with_callback(callbacks, count))
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        preparation.prepare(self, x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self._teaching.prepared or y is None:  # data that only reading describes: a generator, say
            with tf.init_scope():
                preparation.prepare_for(self, *keras.tree.map_structure(spec_of, (x, y)))
        before = [(variable, tf.identity(variable.value)) for variable in self.non_trainable_variables]
        teacher = self._ask_teacher(x, self._listeners)
        with tf.GradientTape() as tape:
            student = self._ask_student(x, self._listeners, training=True)
            means = self._training_losses(x, y, sample_weight, teacher, student)
            scaled = self.optimizer.scale_loss(means["loss"])
        variables = preparation.moving_variables(self)
        gradients = self._gradients(tape, scaled, variables, x)

        def learn():
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            others = self._update_others(x, y, sample_weight, teacher, student)
            return self._report(x, y, sample_weight, teacher, student, means | others)

        by_path = {variable.path: one for variable, one in zip(variables, gradients, strict=True)}
        return self._take_step(learn, (x, y, sample_weight), teacher, student, means, by_path, before)

    def _has_all_weights(self) -> bool:
        """Whether all that is saved is built, so that a callback may restore it before the first step."""
        return all(layer.built for layer in (self.student, *self._listeners))

    def _complete(self, x, y, teacher, student) -> None:
        """Creates what a subclass trains beside the student, from the specs of the data and the symbols of both."""

    def _training_losses(self, x, y, sample_weight, teacher, student) -> dict[str, Any]:
        """What a training step logs, by name; `"loss"` is the total that the student minimises."""
        student_loss, regularisation = self._student_losses(y, student, sample_weight)
        values = self._objective_values(self.objectives, teacher, student, y, sample_weight, training=True)
        total = (1.0 - self.alpha) * sum(o.weight * v for o, v in zip(self.objectives, values, strict=True))
        total += regularisation + (0.0 if student_loss is None else self.alpha * student_loss)
        return {"loss": total, "student_loss": student_loss, **dict(zip(self.objective_names, values, strict=True))}

    def _update_others(self, x, y, sample_weight, teacher, student) -> dict[str, Any]:
        """Trains what else learns from the batch, after the student; what more to log of the step, by name."""
        return {}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        asked = {name: o for name, o in zip(self.objective_names, self.objectives, strict=True) if name in self._asked}
        taught = bool(self._asked) and (self._teaching.source is not None or isinstance(x, WithSignals))
        teacher = self._ask_teacher(x, asked.values(), checked=True) if taught else None
        student = self._ask_student(x, asked.values() if taught else (), training=False)
        student_loss, regularisation = self._student_losses(y, student, sample_weight)
        means = {"loss": None if student_loss is None else student_loss + regularisation, "student_loss": student_loss}
        if taught:
            values = self._objective_values(asked.values(), teacher, student, y, sample_weight, training=False)
            means.update(zip(asked, values, strict=True))
        return self._report(x, y, sample_weight, teacher, student, means)

    def _ask_teacher(self, x: Any, objectives: Iterable[Objective], checked: bool = False) -> Any:
        """What the teacher says; `checked` here, where no training step is that looks at it."""
        if isinstance(x, WithSignals):
            return heard(x.signals)
        source = self._teaching.source
        said = source.signals(x, [tap for o in objectives for tap in o.teacher_taps])
        words = f"Distiller: the teacher `{source.name}` gave NaN or infinity in"
        return said.mapped(lambda name, tensor: finite(tensor, f"{words} `{name}`.")) if checked else said

    def _ask_student(self, x: Any, objectives: Iterable[Objective], training: bool) -> Signals:
        taps, inputs = [tap for o in objectives for tap in o.student_taps], self._select(inputs_of(x), self.student)
        with preparation.shared_statistics_kept(self.student, self._teaching.source):
            return forward(self.finished_student, inputs, taps, training=training)

    def _student_losses(self, y: Any, student: Signals, sample_weight: Any) -> tuple[Any, Any]:
        """The compiled loss (`None` without labels), and what the student adds to it: regularisers and `add_loss`."""
        loss = None
        if y is not None and self._compile_loss is not None:
            # Not `compute_loss`, which adds up both parts: alpha weighs only the first.
            loss = self._compile_loss(y, student.structure, sample_weight)
        return loss, sum((self._aggregate_additional_loss(added) for added in self.student.losses), start=0.0)

    def _objective_values(self, objectives, teacher, student, y, sample_weight, training: bool) -> list[Any]:
        weighing = Weighing(y, sample_weight, self._loss_weights, list(student.outputs))
        context = {"labels": weighing.labels, "temperature": self.temperature, "training": training}
        return [weighing(values_of(objective, teacher, student, **context)) for objective in objectives]
