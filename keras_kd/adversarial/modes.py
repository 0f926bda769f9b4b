"""The games that student and discriminator play: which formulas of `keras_kd.losses.adversarial` each minimises."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_kd.losses import adversarial as formulas
from keras_kd.scalars import checked_number


class Mode:
    """A game between student and discriminator, without state: what each of them minimises.

    Scores are what the discriminator gives, float32 of shape `(batch, ..., outputs)`; above zero a score says
    "teacher". Methods give one value per score, `(batch, ...)`. Subclasses write `student` and `discriminator`, and
    name in `settings` the arguments of their constructor.

    Attributes:
        reads_labels: Whether the game needs class labels.
        conditional: Whether the default discriminator sees the inputs beside what it judges.
        smooths_labels: Whether the discriminator has labels to smooth.
        may_win: Whether a discriminator that is always right is wanted.
        penultimate: Whether it judges what goes into the last layer, where nothing else is named; else the logits.
        distiller: The subclass of `AdversarialDistiller` that plays it, where there are more players than two.
    """

    reads_labels = False
    conditional = False
    smooths_labels = True
    may_win = False
    penultimate = False
    distiller: type | None = None
    settings: tuple[str, ...] = ()

    def outputs(self, classes: int | None) -> int:
        """How many scores the discriminator gives, where the student names so many classes."""
        return 1

    def student(self, scores: Any, labels: Any = None) -> Any:
        """What the student minimises, of the scores of what it gave."""
        raise NotImplementedError

    def discriminator(self, teacher: Any, student: Any, labels: Any = None, label_smoothing: float = 0.0) -> Any:
        """What the discriminator minimises, of the scores of what either gave."""
        raise NotImplementedError

    def accuracy(self, teacher: Any, student: Any) -> Any:
        """How often the discriminator is right, in [0, 1]; 0.5 where it cannot tell."""
        return formulas.named_right(source(teacher), source(student))

    def penalty(self, score: Callable[[Any], Any], teacher: Any, student: Any, seed: Any) -> Any:
        """What the discriminator minimises besides, `(batch,)`, of what it is shown; `score` asks it. `None`: nothing.

        `seed` is a `keras.random.SeedGenerator`.
        """
        return None

    def regularization(self, discriminator: keras.Model) -> Any:
        """What the discriminator minimises besides, of its weights alone: one number."""
        return ops.zeros(())

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the mode anew."""
        return {name: getattr(self, name) for name in self.settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Mode":
        """Makes the mode anew."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_kd")
class GAN(Mode):
    """The first game: the discriminator names the source. Needs no labels.

    See `keras_kd.losses.adversarial.gan_student` and `gan_discriminator`.

    Example:
        >>> GAN().student(ops.array([[0.0]])).numpy().round(4)   # ln 2
        array([0.6931], dtype=float32)

    Reference:
        Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio. Generative Adversarial Networks.
        2014. arXiv:1406.2661.
    """

    def student(self, scores, labels=None):
        return formulas.gan_student(source(scores))

    def discriminator(self, teacher, student, labels=None, label_smoothing=0.0):
        return formulas.gan_discriminator(source(teacher), source(student), label_smoothing)


@keras.saving.register_keras_serializable(package="keras_kd")
class AC(Mode):
    """The conditional game: the discriminator names the source and the class.

    See `keras_kd.losses.adversarial.ac_student` and `ac_discriminator`. The first score is the source's, the others
    are the classes'.

    Example:
        >>> AC().outputs(10)
        11

    Reference:
        Xu, Hsu, Huang. Training Shallow and Thin Networks for Acceleration via Knowledge Distillation with
        Conditional Adversarial Networks. 2017. arXiv:1709.00513. The paper adds the cross-entropy with the labels and
        the L1 distance of the logits.
    """

    reads_labels = True

    def outputs(self, classes):
        return 1 + classes

    def student(self, scores, labels=None):
        return formulas.ac_student(source(scores), scores[..., 1:], labels)

    def discriminator(self, teacher, student, labels=None, label_smoothing=0.0):
        classes = (teacher[..., 1:], student[..., 1:])
        return formulas.ac_discriminator(source(teacher), source(student), *classes, labels, label_smoothing)


@keras.saving.register_keras_serializable(package="keras_kd")
class ANC(GAN):
    r"""Adversarial network compression: the first game on what goes into the last layer, its discriminator held back.

    Without `regularizer` as `GAN`. `"adversarial"` shows the student's features to the discriminator as the teacher's
    too, `+ λ (-log σ(D(s)))`; `"l1"` and `"l2"` add `λ Σ|w|` or `λ Σw²` of its weights.

    Args:
        regularizer: `"adversarial"`, `"l1"`, `"l2"` or `None`. Defaults to `"adversarial"`, the paper's choice.
        strength: `λ >= 0`. Defaults to 1 for `"adversarial"`, and to 1e-4 for the others.

    Raises:
        ValueError: If an argument is none of these.

    Example:
        >>> ANC("l2").strength
        0.0001

    Reference:
        Belagiannis, Farshad, Galasso. Adversarial Network Compression. 2018. arXiv:1803.10750. The paper adds the
        squared distance of the logits (`LogitsMSE`), uses no labels, and has Dropout before the student's last layer.
        There the student minimises `log(1 - σ(D(s)))`; here it is non-saturating.
    """

    penultimate = True
    settings = ("regularizer", "strength")

    def __init__(self, regularizer: str | None = "adversarial", strength: float | None = None):
        if regularizer not in ("adversarial", "l1", "l2", None):
            raise ValueError(
                "`ANC`: `regularizer` must be 'adversarial', 'l1', 'l2' or None. "
                f"Received: regularizer={regularizer!r}."
            )
        self.regularizer = regularizer
        default = 1e-4 if regularizer in ("l1", "l2") else 1.0
        self.strength = default if strength is None else checked_number(self, "strength", strength, low=0.0)

    def discriminator(self, teacher, student, labels=None, label_smoothing=0.0):
        told_apart = super().discriminator(teacher, student, labels, label_smoothing)
        if self.regularizer != "adversarial":
            return told_apart
        return told_apart + self.strength * formulas.gan_student(source(student))

    def regularization(self, discriminator):
        size = {"l1": ops.abs, "l2": ops.square}.get(self.regularizer)
        if size is None:
            return super().regularization(discriminator)
        return self.strength * sum(ops.sum(size(weight)) for weight in discriminator.trainable_variables)


@keras.saving.register_keras_serializable(package="keras_kd")
class Hinge(Mode):
    """Holistic distillation with the hinge loss: the discriminator judges an output beside the input it is for.

    See `keras_kd.losses.adversarial.critic_student` and `hinge_discriminator`.

    Example:
        >>> Hinge().discriminator(ops.array([[0.5]]), ops.array([[0.5]])).numpy()   # 1 - 0.5 and 1 + 0.5
        array([2.], dtype=float32)

    Reference:
        Liu, Chen, Liu, Qin, Luo, Wang. Structured Knowledge Distillation for Semantic Segmentation. 2019.
        arXiv:1903.04197. The authors' code offers it beside the paper's `WassersteinGP`, and shows the discriminator
        the output alone.
    """

    conditional = True
    smooths_labels = False

    def student(self, scores, labels=None):
        return formulas.critic_student(source(scores))

    def discriminator(self, teacher, student, labels=None, label_smoothing=0.0):
        return formulas.hinge_discriminator(source(teacher), source(student))


@keras.saving.register_keras_serializable(package="keras_kd")
class WassersteinGP(Mode):
    r"""Holistic distillation: the Wasserstein distance, told by a critic whose slope is held at one.

    The critic minimises `D(s) - D(t) + λ (‖∇D(x̂)‖₂ - 1)²` at `x̂ = u t + (1 - u) s`, `u` uniform in [0, 1) for each
    example; the student `-D(s)`. See `keras_kd.losses.adversarial`. Its accuracy is the share of examples whose teacher
    scores above the student. A strong critic is wanted: give it several `discriminator_steps`.

    Args:
        penalty_weight: `λ >= 0`. Defaults to 10.

    Raises:
        ValueError: If `penalty_weight` is negative or no number.

    Example:
        >>> critic = lambda shown: 2.0 * shown   # its slope is 2 everywhere: λ (2 - 1)²
        >>> teacher, student, seed = ops.ones((1, 1)), ops.zeros((1, 1)), keras.random.SeedGenerator(0)
        >>> WassersteinGP().penalty(critic, teacher, student, seed).numpy()
        array([10.], dtype=float32)

    Reference:
        Liu, Chen, Liu, Qin, Luo, Wang. Structured Knowledge Distillation for Semantic Segmentation. 2019.
        arXiv:1903.04197. Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville. Improved Training of Wasserstein GANs. 2017.
        arXiv:1704.00028. The first paper shows its critic the image too, its code the output alone; both weigh the
        game by 0.1.
    """

    conditional = True
    smooths_labels = False
    may_win = True
    settings = ("penalty_weight",)

    def __init__(self, penalty_weight: float = 10.0):
        self.penalty_weight = checked_number(self, "penalty_weight", penalty_weight, low=0.0)

    def student(self, scores, labels=None):
        return formulas.critic_student(source(scores))

    def discriminator(self, teacher, student, labels=None, label_smoothing=0.0):
        return formulas.wasserstein_discriminator(source(teacher), source(student))

    def accuracy(self, teacher, student):
        return formulas.ranked_right(source(teacher), source(student))

    def penalty(self, score, teacher, student, seed):
        share = keras.random.uniform((ops.shape(teacher)[0], *[1] * (len(teacher.shape) - 1)), seed=seed)
        between = share * teacher + (1.0 - share) * student
        with tf.GradientTape() as tape:
            tape.watch(between)
            scores = score(between)
        return self.penalty_weight * formulas.gradient_penalty(tape.gradient(scores, between))


MODES = {"ac": AC, "gan": GAN, "anc": ANC, "wgan-gp": WassersteinGP, "hinge": Hinge}


def as_mode(mode: str | Mode) -> Mode:
    """Reads a mode: a name, or an object with settings of its own.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> as_mode("wgan-gp").penalty_weight
        10.0
    """
    if isinstance(mode, Mode):
        return mode
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(
            f"`AdversarialDistiller`: `mode` must be one of {list(MODES)}, or a mode of `keras_kd.adversarial`. "
            f"Received: mode={mode!r}."
        )
    return MODES[mode]()


def source(scores: Any) -> Any:
    """Of all that a discriminator gives, the score of the source: `(batch, ..., outputs)` -> `(batch, ...)`."""
    return scores[..., 0]
