"""`AdversarialDistiller`: a student that learns to be taken for its teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_kd import preparation
from keras_kd.adversarial import checks
from keras_kd.adversarial.discriminators import can_see, discriminator_for
from keras_kd.adversarial.judged import as_judged
from keras_kd.adversarial.modes import Mode, as_mode
from keras_kd.adversarial.saving import SavesBothPlayers
from keras_kd.adversarial.winning import WinningDiscriminator
from keras_kd.distiller import Distiller
from keras_kd.objectives import Objective, as_objectives
from keras_kd.replay import inputs_of
from keras_kd.scalars import MovableScalar, checked_number
from keras_kd.signals import Signals
from keras_kd.weighing import Weighing, weighted_mean


@dataclass(frozen=True)
class JudgedSignals(Signals):
    """What the student says of a batch, and what of it the discriminator is shown."""

    judged: Any = None


@keras.saving.register_keras_serializable(package="keras_kd")
class AdversarialDistiller(SavesBothPlayers, Distiller):
    r"""Trains a student to be taken for its teacher by a discriminator, which learns to tell the two.

    `total = alpha · student_loss + (1 - alpha) · Σ_i weight_i · objective_i + adversarial_weight · adversarial_loss
    + the student's own regularisation`

    In each step the student learns first, with the discriminator as it stands and in inference mode; then the
    discriminator, from what both gave in that step. Neither optimizer moves what is the other's; `discriminator` and
    `discriminator_optimizer` are attributes, to be saved or set on their own. Modes:

    | `mode` | the discriminator | it judges | source |
    |---|---|---|---|
    | `"ac"` | names the source and the class; needs labels | the logits | Xu et al. 2017 |
    | `"gan"` | names the source | the logits | Goodfellow et al. 2014 |
    | `"anc"` | names the source, and is held back | what goes into the last layer | Belagiannis et al. 2018 |
    | `"wgan-gp"` | is a critic with slope one, and sees the inputs | the logits | Liu et al. 2019 |
    | `"hinge"` | has the hinge loss, and sees the inputs | the logits | Liu et al. 2019 |
    | `"kdgan"` | tells true labels from forged ones, `ThreePlayerDistiller` | what both would name | Wang et al. 2018 |

    See `keras_kd.adversarial` for their formulas and settings. Without labels and without soft targets, student and
    discriminator alone: `AdversarialDistiller(student, teacher, objectives=[], alpha=0, mode="gan")`. A discriminator
    that does not see the inputs asks for the teacher's outputs as a whole, and not for those of each example.

    Among the metrics, beside those of `Distiller`: `adversarial_loss`, what the student minimises of the game;
    `discriminator_loss`, all that the discriminator minimises; and `discriminator_accuracy`, how often it is right: at
    0.5 it cannot tell. `fit` warns when it is always right, for then the student has little to learn from it.

    `evaluate`, `predict`, `export` and `student.save` are the student's, without the discriminator. `save` and
    `save_weights` keep both players, so that a loaded distiller goes on as if unbroken.

    Args:
        student: As for `Distiller`.
        teacher: As for `Distiller`.
        discriminator: A `keras.Model` that gives scores, logits `(batch, ..., 1)` (in mode `"ac"` one for the source,
            then one for each class). With two inputs it sees what it judges and the inputs of the student. Defaults to
            `discriminator_for` the shapes.
        objectives: As for `Distiller`; an empty list for none at all.
        adversarial_weight: Weight of the game, `>= 0`. A variable: assign to it while training. Defaults to 0.1.
        on: What is judged: `"logits"`; a tap of both models, as in `"block3"`; or a pair of taps, the teacher's first.
            Where shapes differ, a projector that trains with the student makes its feature fit. Defaults to the mode's.
        mode: One of the names above, or a mode with settings of its own, as in `WassersteinGP(penalty_weight=1.0)`.
            Defaults to `"ac"`.
        alpha: As for `Distiller`. Defaults to 0.3.
        temperature: As for `Distiller`. Defaults to 4.
        student_inputs: As for `Distiller`.
        discriminator_steps: Updates of the discriminator in each step, `>= 1`. For fewer than one, give its optimizer
            `gradient_accumulation_steps`. Defaults to 1.
        label_smoothing: `ε`: what the teacher gave has the label `1 - ε`, in [0, 0.5]. Defaults to 0.
        spectral_normalization: Whether the layers of the default discriminator have spectral norm one. Defaults to
            `False`.
        name: Name of the model. Defaults to `"adversarial_distiller"`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the discriminator fits neither what it is
            shown nor the game.

    Example:
        >>> import numpy as np
        >>> def mlp(width):
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)])
        >>> distiller = AdversarialDistiller(mlp(4), mlp(64))
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> distiller.compile("adam", discriminator_optimizer=keras.optimizers.Adam(1e-4), loss=loss)
        >>> history = distiller.fit(np.ones((32, 8)), np.zeros(32), verbose=0)
        >>> sorted(history.history)[:4]
        ['adversarial_loss', 'discriminator_accuracy', 'discriminator_loss', 'loss']

    Reference:
        Xu, Hsu, Huang. Training Shallow and Thin Networks for Acceleration via Knowledge Distillation with
        Conditional Adversarial Networks. 2017. arXiv:1709.00513. Belagiannis, Farshad, Galasso. Adversarial Network
        Compression. 2018. arXiv:1803.10750. Liu, Chen, Liu, Qin, Luo, Wang. Structured Knowledge Distillation for
        Semantic Segmentation. 2019. arXiv:1903.04197.
    """

    adversarial_weight = MovableScalar(low=0.0)
    _more_means = ("adversarial_loss", "discriminator_loss", "discriminator_accuracy")
    _runs_on_workers = False

    def __new__(cls, *args: Any, mode: str | Mode = "ac", **kwargs: Any) -> "AdversarialDistiller":
        """An instance of the subclass that plays the mode, where the mode names one."""
        player = as_mode(mode).distiller if cls is AdversarialDistiller else None
        return super().__new__(player or cls, *args, mode=mode, **kwargs)

    def __init__(
        self,
        student: keras.Model,
        teacher: Any,
        discriminator: keras.Model | None = None,
        objectives: Objective | Sequence[Objective] | None = None,
        *,
        adversarial_weight: float = 0.1,
        on: str | Sequence[str] | None = None,
        mode: str | Mode = "ac",
        alpha: float = 0.3,
        temperature: float = 4.0,
        student_inputs: Sequence[str] | Sequence[int] | None = None,
        discriminator_steps: int = 1,
        label_smoothing: float = 0.0,
        spectral_normalization: bool = False,
        name: str = "adversarial_distiller",
    ):
        shared = {"alpha": alpha, "temperature": temperature, "student_inputs": student_inputs, "name": name}
        super().__init__(student, None, objectives, **shared)
        self.mode = as_mode(mode)
        self.adversarial_weight = adversarial_weight
        self.discriminator_steps = discriminator_steps
        self.label_smoothing = checked_number(self, "label_smoothing", label_smoothing, low=0.0, high=0.5)
        self.spectral_normalization = bool(spectral_normalization)
        checks.arguments(self, discriminator)
        self.judged = as_judged(checks.default_on(self.mode, student, teacher) if on is None else on)
        self.judged.needs_labels = self.mode.reads_labels
        self.discriminator = discriminator
        self.discriminator_optimizer = None
        self._seeds = keras.random.SeedGenerator()
        self.teacher = teacher

    @staticmethod
    def _read_objectives(objectives: Any) -> list[Objective]:
        """As `Distiller` reads them, but an empty list is none."""
        return [] if isinstance(objectives, list | tuple) and not objectives else as_objectives(objectives)

    @property
    def on(self) -> str | tuple[str, str]:
        """What is judged: `"logits"`, or the taps of teacher and student."""
        return (*self.judged.teacher_taps, *self.judged.student_taps) or "logits"

    @property
    def _listeners(self) -> list[Objective]:
        return [*self.objectives, self.judged]

    def _own(self, variables: list[keras.Variable]) -> list[keras.Variable]:
        judge = {id(variable) for variable in self.discriminator.variables} if self.discriminator else set()
        return [variable for variable in super()._own(variables) if id(variable) not in judge]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        discriminator_optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `Distiller.compile` does.

        Args:
            optimizer: The student's.
            discriminator_optimizer: The discriminator's. Defaults to a second one of the kind and the settings of the
                student's.
            loss: As for `Distiller`.
            metrics: As for `Distiller`.
            **kwargs: Everything else that `keras.Model.compile` takes.

        Raises:
            ValueError: If `discriminator_optimizer` is no optimizer, or the student's own.
        """
        optimizer = keras.optimizers.get(optimizer)
        judge = checks.discriminator_optimizer(optimizer, discriminator_optimizer, self.discriminator)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        self.discriminator_optimizer = judge

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
        """Trains both players, as `Distiller.fit` trains the student.

        Warns, once, when the discriminator was right 99 times of 100 for two epochs, in modes where it should not.
        """
        if not self.mode.may_win:
            callbacks = preparation.with_callback(callbacks, WinningDiscriminator())
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def _has_all_weights(self) -> bool:
        return super()._has_all_weights() and self.discriminator is not None and self.discriminator.built

    def _complete(self, x, y, teacher, student) -> None:
        checks.game(self.mode, student)
        self.judged.log_probabilities = checks.gives_log_probabilities(self._teaching.source, x)
        shape, seen = self.judged.shape, self._select(inputs_of(x), self.student)
        outputs = self.mode.outputs(next(iter(student.outputs.values())).shape[-1])
        if self.discriminator is None:
            beside = (None, *seen.shape[1:]) if self.mode.conditional and can_see(shape, seen) else None
            self.discriminator = discriminator_for(
                shape, outputs, inputs=beside, spectral_normalization=self.spectral_normalization
            )
        labels = y if self.mode.reads_labels else None
        checks.discriminator(self.discriminator, shape, seen, outputs, labels)
        self.build_discriminator_optimizer()

    def _ask_student(self, x, objectives, training: bool) -> Signals:
        student = super()._ask_student(x, objectives, training)
        if not training:
            return student
        said = {field.name: getattr(student, field.name) for field in fields(student)}
        return JudgedSignals(**said, judged=self.judged.of_student(student))

    def _training_losses(self, x, y, sample_weight, teacher, student) -> dict[str, Any]:
        means = super()._training_losses(x, y, sample_weight, teacher, student)
        weigh, labels = self._weighing(y, sample_weight, student)
        scores = self._score(student.judged, x, training=False)
        adversarial = weigh({None: self.mode.student(scores, labels)})
        total = means["loss"] + self.adversarial_weight * adversarial
        return {**means, "loss": total, "adversarial_loss": adversarial}

    def _update_others(self, x, y, sample_weight, teacher, student) -> dict[str, Any]:
        shown = self.judged.of_teacher(teacher, student), ops.stop_gradient(student.judged)
        weighing = self._weighing(y, sample_weight, student)
        steps = [self._discriminator_step(shown, x, *weighing) for _ in range(self.discriminator_steps)]
        loss, accuracy = (sum(values) / self.discriminator_steps for values in zip(*steps, strict=True))
        return {"discriminator_loss": loss, "discriminator_accuracy": accuracy}

    def _discriminator_step(self, shown, x, weigh: Weighing, labels: Any) -> tuple[Any, Any]:
        """One update of the discriminator: its loss and its accuracy before."""

        def score(judged):
            return self._score(judged, x, training=True)

        with tf.GradientTape() as tape:
            scores = [score(judged) for judged in shown]
            loss = weigh({None: self.mode.discriminator(*scores, labels, self.label_smoothing)})
            penalty = self.mode.penalty(score, *shown, self._seeds)
            if penalty is not None:
                loss += weigh({None: penalty})
            own = [*self.discriminator.losses, self.mode.regularization(self.discriminator)]
            loss += sum(self._aggregate_additional_loss(added) for added in own)
            scaled = self.discriminator_optimizer.scale_loss(loss)
        variables = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return loss, weighted_mean(self.mode.accuracy(*scores))

    def _weighing(self, y, sample_weight, student) -> tuple[Weighing, Any]:
        """How the batch weighs the values of the game, and its labels where the game reads them."""
        weighing = Weighing(y, sample_weight, None, list(student.outputs))
        return weighing, next(iter(weighing.labels.values())) if self.mode.reads_labels else None

    def _score(self, judged: Any, x: Any, training: bool) -> Any:
        """What the discriminator gives, float32 `(batch, ..., outputs)`."""
        if checks.sees_inputs(self.discriminator):
            (seen,) = keras.tree.flatten(self._select(inputs_of(x), self.student))
            judged = [judged, ops.convert_to_tensor(seen)]
        return ops.cast(self.discriminator(judged, training=training), "float32")
