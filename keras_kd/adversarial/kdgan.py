"""KDGAN's game: student and teacher both forge labels, and the discriminator tells theirs from the true ones."""

import keras

from keras_kd.adversarial.modes import Mode, source
from keras_kd.losses import kdgan as formulas
from keras_kd.losses.adversarial import named_right
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class KDGAN(Mode):
    r"""Three players: student and teacher learn from each other, and both to be taken for the true labels.

    `min over student, teacher, max over discriminator of
    log p(y) + α log(1 - p(s)) + (1 - α) log(1 - p(t)) + β L(t, s) + γ L(s, t)`, with `p = σ(D)`, the true label `y`, a
    label `s` that the student draws and a label `t` that the teacher draws, both from concrete distributions, and soft
    targets `L`, of which only the second model learns. See `keras_kd.losses.kdgan`. Scores above zero say "true".

    Args:
        alpha: `α` in [0, 1], the student's share of the forgeries. With 1, and `gamma=0`, the teacher does not play:
            the paper's NaGAN. Defaults to 0.5.
        beta: `β >= 0`, the weight of the student's soft targets, where the distiller is given no objectives. Defaults
            to 1.
        gamma: `γ >= 0`, the weight of the teacher's. Defaults to 1e-4.
        concrete_temperature: `τ > 0` of the concrete distributions: near zero a draw is one class, above it all share.
            Defaults to 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> KDGAN(alpha=0.5).student(keras.ops.array([[0.0]])).numpy().round(4)   # 0.5 ln(1 / 2)
        array([-0.3466], dtype=float32)

    Reference:
        Wang, Zhang, Sun, Qi. KDGAN: Knowledge Distillation with Generative Adversarial Networks. NeurIPS 2018.
        The defaults of α and β are those of the authors' code; it found 0.1 for α and 0.25 to 2 for β, lets τ fall from
        10 to 0.1, and adds the cross-entropy with the labels, as `alpha` of the distiller does.
    """

    reads_labels = True
    smooths_labels = False
    settings = ("alpha", "beta", "gamma", "concrete_temperature")

    def __init__(self, alpha: float = 0.5, beta: float = 1.0, gamma: float = 1e-4, concrete_temperature: float = 1.0):
        self.alpha = checked_number(self, "alpha", alpha, low=0.0, high=1.0)
        self.beta = checked_number(self, "beta", beta, low=0.0)
        self.gamma = checked_number(self, "gamma", gamma, low=0.0)
        self.concrete_temperature = checked_number(
            self, "concrete_temperature", concrete_temperature, low=0.0, open_low=True
        )

    @property
    def teacher_plays(self) -> bool:
        """Whether there is anything that the teacher minimises."""
        return self.alpha < 1 or self.gamma > 0

    def student(self, scores, labels=None):
        return self.alpha * formulas.found_out(source(scores))

    def teacher(self, scores):
        """What the teacher minimises, of the scores of the labels it gave."""
        return (1.0 - self.alpha) * formulas.found_out(source(scores))

    def discriminator(self, teacher, student, true, labels=None, label_smoothing=0.0):
        return formulas.three_way_discrimination(source(teacher), source(student), source(true), self.alpha)

    def accuracy(self, teacher, student, true):
        """How often the discriminator is right about a true label and a forged one."""
        of_student, of_teacher = (named_right(source(true), source(forged)) for forged in (student, teacher))
        return self.alpha * of_student + (1.0 - self.alpha) * of_teacher

    def penalty(self, score, teacher, student, true, seed):
        return None


def label_discriminator(classes: keras.Model) -> keras.Model:
    """A discriminator of labels: a model of the inputs scores every class, and a label the classes that it names.

    `D(x, z) = Σ_k z_k g_k(x)`. For a one-hot label it is the score of its class; as it is linear in the label, it does
    not know a drawn label from a true one by its being soft.

    Args:
        classes: `g`, a model that gives scores `(batch, classes)`; one that was trained to classify is a good start.

    Returns:
        A model of `[labels, inputs]`, `(batch, classes)` and what `classes` takes, that gives scores `(batch, 1)`.

    Example:
        >>> classes = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> judge = label_discriminator(classes)
        >>> judge([keras.ops.array([[0.25, 0.75]]), keras.ops.array([[4.0, 8.0]])]).numpy()   # 0.25 · 4 + 0.75 · 8
        array([[7.]], dtype=float32)

    Reference:
        Wang, Zhang, Sun, Qi. KDGAN: Knowledge Distillation with Generative Adversarial Networks. NeurIPS 2018.
    """
    seen = keras.Input(batch_shape=classes.input_shape, dtype=classes.input_dtype, name="inputs")
    labels = keras.Input(classes.output_shape[1:], dtype="float32", name="labels")
    score = keras.layers.Dot(axes=1, dtype="float32", name="score")([labels, classes(seen)])
    return keras.Model([labels, seen], score, name="discriminator")
