"""`ThreePlayerDistiller`: KDGAN, in which the teacher learns too."""

from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_kd.adversarial import checks
from keras_kd.adversarial.discriminators import discriminator_for
from keras_kd.adversarial.distiller import AdversarialDistiller
from keras_kd.adversarial.judged import JudgedLogits
from keras_kd.adversarial.kdgan import KDGAN, label_discriminator
from keras_kd.losses.kdgan import concrete
from keras_kd.losses.logits import soft_target_kl
from keras_kd.losses.tensors import targets_of
from keras_kd.objectives import SoftTargets
from keras_kd.replay import inputs_of
from keras_kd.scalars import MovableScalar
from keras_kd.taps import forward
from keras_kd.teachers import Teacher, as_teacher

OWNER = "`ThreePlayerDistiller`"


@keras.saving.register_keras_serializable(package="keras_kd")
class ThreePlayerDistiller(AdversarialDistiller):
    r"""Trains student and teacher against one discriminator, and each from the other: KDGAN.

    `student: alpha · student_loss + (1 - alpha) · Σ_i weight_i · objective_i
    + adversarial_weight · α log(1 - p(s)) + the student's own regularisation`
    `teacher: adversarial_weight · (1 - α) log(1 - p(t)) + γ L(student, teacher) + the teacher's own regularisation`
    `discriminator: -[log p(y) + α log(1 - p(s)) + (1 - α) log(1 - p(t))] + its own regularisation`

    With `alpha=0` and `adversarial_weight=1` it is the paper's game, see `KDGAN`. In each step the student learns
    first, then the discriminator, then the teacher, which runs in training mode for its own update alone. Begin with a
    teacher that is trained: of the labels it hears only what the discriminator knows of them. **The model given as
    `teacher` moves**; give a clone of it with its weights to keep it as it is.

    Among the metrics, beside those of `AdversarialDistiller`: `teacher_loss`, all that the teacher minimises.
    `adversarial_loss` is never above zero.

    `save` and `save_weights` keep all three players, and a loaded distiller has its teacher already. `evaluate`,
    `predict`, `export` and `student.save` are the student's.

    Args:
        student: As for `Distiller`, with one output.
        teacher: A Keras model that gives logits, or a `Teacher` of one; its weights move.
        discriminator: A model of `[labels, inputs of the student]`, `(batch, classes)` and theirs, that gives scores
            `(batch, 1)`. Defaults to the `label_discriminator` of what `discriminator_for` the inputs gives.
        objectives: As for `AdversarialDistiller`: what the student learns from the teacher, each with its weight.
            Defaults to `SoftTargets(weight=mode.beta)`.
        mode: A `KDGAN`. Defaults to `KDGAN()`.
        name: Name of the model. Defaults to `"three_player_distiller"`.
        **kwargs: `adversarial_weight`, `alpha`, `temperature`, `student_inputs`, `discriminator_steps` and
            `spectral_normalization`, as for `AdversarialDistiller`.

    Attributes:
        concrete_temperature: `τ` of the draws, at first the mode's. A variable: assign to it while training, as in
            `keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(distiller,
            "concrete_temperature", max(10 * 0.88**epoch, 0.1)))`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the teacher cannot learn.

    Example:
        >>> import numpy as np
        >>> def mlp(width):
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)])
        >>> distiller = ThreePlayerDistiller(mlp(4), mlp(64), mode=KDGAN(alpha=0.1, gamma=1e-3))
        >>> distiller.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = distiller.fit(np.ones((32, 8)), np.zeros(32), verbose=0)
        >>> sorted(set(history.history) - {"loss", "student_loss", "soft_targets"})
        ['adversarial_loss', 'discriminator_accuracy', 'discriminator_loss', 'teacher_loss']

    Reference:
        Wang, Zhang, Sun, Qi. KDGAN: Knowledge Distillation with Generative Adversarial Networks. NeurIPS 2018.
        There the players take turns of 20, 10 and 10 epochs; here they take steps.
    """

    concrete_temperature = MovableScalar(low=0.0, open_low=True)
    _more_means = (*AdversarialDistiller._more_means, "teacher_loss")

    def __init__(
        self,
        student: keras.Model,
        teacher: Any,
        discriminator: keras.Model | None = None,
        objectives: Any = None,
        *,
        mode: KDGAN | str = "kdgan",
        name: str = "three_player_distiller",
        **kwargs: Any,
    ):
        mode = KDGAN() if mode == "kdgan" else mode
        if not isinstance(mode, KDGAN):
            raise ValueError(f"{OWNER}: `mode` must be 'kdgan' or a `KDGAN`. Received: mode={mode!r}.")
        objectives = SoftTargets(weight=mode.beta) if objectives is None else objectives
        super().__init__(student, teacher, discriminator, objectives, mode=mode, name=name, **kwargs)
        if not isinstance(self.judged, JudgedLogits):
            raise ValueError(f"{OWNER}: the three players give labels, on='logits'. Received: on={kwargs['on']!r}.")
        self.concrete_temperature = mode.concrete_temperature
        self.teacher_optimizer = None

    @property
    def teacher(self) -> Any:
        """The teacher as it was given."""
        return super().teacher

    @teacher.setter
    def teacher(self, teacher: Any) -> None:
        source, learning = as_teacher(teacher), getattr(self, "learning_teacher", None)
        if source is not None:
            _check_learning(source, teacher)
        if learning is not None and (source is None or source.model is not learning):
            raise ValueError(
                f"{OWNER}: `{learning.name}` is its teacher and has learned, so no other can take its place; a loaded "
                f"distiller has the teacher that was saved. Received: {teacher!r}. Make a new distiller for it."
            )
        AdversarialDistiller.teacher.fset(self, teacher)
        # In the sight of Keras, unlike a teacher that only speaks, so that it is saved.
        self.learning_teacher = None if source is None else source.model

    def compile(
        self,
        optimizer: Any = "rmsprop",
        discriminator_optimizer: Any = None,
        teacher_optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `AdversarialDistiller.compile` does.

        Args:
            optimizer: The student's.
            discriminator_optimizer: The discriminator's. Defaults to a second one of the kind and the settings of the
                student's.
            teacher_optimizer: The teacher's. Defaults to a third one.
            **kwargs: `loss`, `metrics` and everything else that `AdversarialDistiller.compile` takes.

        Raises:
            ValueError: If one of them is no optimizer, or two are the same.
        """
        optimizer = keras.optimizers.get(optimizer)
        teacher_optimizer = teacher_optimizer and keras.optimizers.get(teacher_optimizer)
        if teacher_optimizer is not None and teacher_optimizer in (optimizer, discriminator_optimizer):
            raise ValueError(
                f"{OWNER}: each of the three players needs an optimizer of its own. Received: "
                f"`{teacher_optimizer.name}` for the teacher and another. Leave `teacher_optimizer` out for one of the "
                "student's settings."
            )
        own = checks.discriminator_optimizer(optimizer, teacher_optimizer, self.learning_teacher)
        super().compile(optimizer, discriminator_optimizer, **kwargs)
        self.teacher_optimizer = own

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        optimizer = keras.saving.serialize_keras_object(self.teacher_optimizer)
        return {**config, "teacher_optimizer": optimizer} if config else config

    def build_discriminator_optimizer(self) -> None:
        """The teacher's as well."""
        super().build_discriminator_optimizer()
        teacher, optimizer = self.learning_teacher, self.teacher_optimizer
        if optimizer is not None and teacher is not None and teacher.built and not optimizer.built:
            optimizer.build(teacher.trainable_variables)

    def _complete(self, x, y, teacher, student) -> None:
        if self.learning_teacher is None:
            raise ValueError(
                f"{OWNER}: a teacher that learns cannot be read from a cache. Give the model as `teacher`."
            )
        if not self.learning_teacher.trainable_variables:
            raise ValueError(
                f"{OWNER}: the teacher `{self.learning_teacher.name}` has nothing to train: its layers are frozen. Set "
                "its `trainable = True`, or take an `AdversarialDistiller`, whose teacher is only read."
            )
        if self.discriminator is None:
            seen = self._select(inputs_of(x), self.student)
            shape = tuple(getattr(seen, "shape", ()))
            checks.game(self.mode, student)
            classes = next(iter(student.outputs.values())).shape[-1]
            options = {"spectral_normalization": self.spectral_normalization}
            self.discriminator = label_discriminator(discriminator_for(shape, classes, **options))
        super()._complete(x, y, teacher, student)

    def _ask_student(self, x, objectives, training: bool):
        student = super()._ask_student(x, objectives, training)
        return replace(student, judged=self._drawn(student.judged)) if training else student

    def _drawn(self, logits: Any) -> Any:
        """A label, drawn from the classes that a player names."""
        uniform = keras.random.uniform(ops.shape(logits), seed=self._seeds)
        return concrete(logits, uniform, self.concrete_temperature)

    def _discriminator_step(self, shown, x, weigh, labels):
        of_teacher, of_student = shown
        shown = self._drawn(of_teacher), of_student, targets_of(labels, of_student)
        return super()._discriminator_step(shown, x, weigh, labels)

    def _update_others(self, x, y, sample_weight, teacher, student) -> dict[str, Any]:
        means = super()._update_others(x, y, sample_weight, teacher, student)
        if not self.mode.teacher_plays:
            return means
        weigh, _ = self._weighing(y, sample_weight, student)
        return {**means, "teacher_loss": self._teacher_step(x, weigh, student)}

    def _teacher_step(self, x, weigh, student) -> Any:
        """One update of the teacher: its loss before."""
        (learned,) = student.outputs.values()
        with tf.GradientTape() as tape:
            said = forward(self.learning_teacher, self._teaching.source.inputs_for(inputs_of(x)), training=True)
            (logits,) = said.outputs.values()
            forged = self.mode.teacher(self._score(self._drawn(logits), x, training=False))
            agreement = soft_target_kl(learned, logits, self.temperature)
            loss = weigh({None: self.adversarial_weight * forged + self.mode.gamma * agreement})
            loss += sum(self._aggregate_additional_loss(added) for added in self.learning_teacher.losses)
            scaled = self.teacher_optimizer.scale_loss(loss)
        variables = self.learning_teacher.trainable_variables
        self.teacher_optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return loss

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the distiller anew, its teacher too."""
        teacher = self._teaching.source
        return {
            **super().get_config(),
            "teacher": keras.saving.serialize_keras_object(self.learning_teacher),
            "teacher_inputs": teacher and teacher._select.keys,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ThreePlayerDistiller":
        """Makes a distiller with the teacher that was saved."""
        config = {**config}
        teacher, inputs = keras.saving.deserialize_keras_object(config.pop("teacher")), config.pop("teacher_inputs")
        distiller = super().from_config(config)
        distiller.teacher = teacher and Teacher(teacher, inputs=inputs)
        return distiller


def _check_learning(source: Any, given: Any) -> None:
    """Checks that a teacher is one that can learn and be saved.

    Raises:
        ValueError: If it is not.
    """
    if not (isinstance(source, Teacher) and isinstance(source.model, keras.Model)):
        raise ValueError(f"{OWNER}: the teacher learns, so it must be one Keras model. Received: {given!r}.")
    if source.outputs != "logits" or source.preprocess is not None:
        raise ValueError(
            f"{OWNER}: the teacher learns from its logits, and is saved. Received: `{source.name}` with outputs="
            f"{source.outputs!r}, preprocess={source.preprocess!r}. Give a model that ends in logits and has the "
            "preprocessing inside."
        )
