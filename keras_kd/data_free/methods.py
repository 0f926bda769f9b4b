"""What the generator is after, and who moves when: the two published games."""

from typing import Any

import keras

from keras_kd import losses
from keras_kd.losses import data_free as formulas
from keras_kd.objectives import Objective, SoftTargets
from keras_kd.objectives.class_logits import LogitsObjective
from keras_kd.scalars import checked_number
from keras_kd.signals import EnsembleSignals, Signals, pair_outputs
from keras_kd.taps import Tap
from keras_kd.teachers import Ensemble, Teacher
from keras_kd.weighing import weighted_mean

AllSignals = Signals | EnsembleSignals


@keras.saving.register_keras_serializable(package="keras_kd")
class LogitsMAE(LogitsObjective):
    """The student's logits equal the teacher's, by their absolute differences.

    See `keras_kd.losses.logits_mae` for the formula.

    Args:
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"logits_mae"`.

    Raises:
        ValueError: If the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> LogitsMAE(weight=0.5).get_config()
        {'name': 'logits_mae', 'weight': 0.5, 'outputs': None}

    Reference:
        Fang, Song, Shen, Wang, Chen, Song. Data-Free Adversarial Distillation. 2019. arXiv:1912.11006.
    """

    loss = staticmethod(losses.logits_mae)


class DataFreeMethod:
    """A game between a generator and a student.

    Attributes:
        weights: Factor of each term in the generator's loss.
        student_steps: Updates of the student in a round, each on a batch of its own; with 0 it moves once, on the very
            batch that the generator moves on.
        teacher_taps: Where the generator's loss listens in the teacher, once `prepare` has seen it.
    """

    weights: dict[str, float]
    student_steps: int
    teacher_taps: tuple[str, ...] = ()

    def prepare(self, teacher: Teacher | Ensemble) -> None:
        """Finds where to listen in the teacher.

        Raises:
            ValueError: If there is no such place.
        """

    def default_objective(self) -> Objective:
        """What the student learns by."""
        raise NotImplementedError

    def terms(self, teacher: AllSignals, student: Signals) -> dict[str, Any]:
        """The unweighted terms of the generator's loss, scalars, for a batch that it drew."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the method anew."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DataFreeMethod":
        """Makes the method anew."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_kd")
class DFAD(DataFreeMethod):
    """Data-free adversarial distillation: the generator draws what student and teacher disagree on.

    `min_S max_G mean_k |teacher_k(G(z)) - student_k(G(z))|`: in each round the student moves `student_steps` times, on
    fresh batches, then the generator once.

    Args:
        student_steps: Updates of the student for one of the generator. Defaults to 5.

    Raises:
        ValueError: If `student_steps` is not a whole number >= 1.

    Example:
        >>> DFAD(student_steps=3).get_config()
        {'student_steps': 3}

    Reference:
        Fang, Song, Shen, Wang, Chen, Song. Data-Free Adversarial Distillation. 2019. arXiv:1912.11006. Published for
        MNIST in the authors' code: SGD 0.01 with momentum 0.9 and weight decay 1e-4 for the student, Adam 1e-3 for the
        generator, batches of 512, 2,000 rounds.
    """

    def __init__(self, student_steps: int = 5):
        if not isinstance(student_steps, int) or student_steps < 1:
            raise ValueError(
                f"`DFAD`: `student_steps` must be a whole number >= 1. Received: student_steps={student_steps!r}."
            )
        self.student_steps = student_steps
        self.weights = {"disagreement": -1.0}

    def default_objective(self):
        return LogitsMAE()

    def terms(self, teacher, student):
        pairs = pair_outputs(teacher, student).values()
        return {"disagreement": sum(weighted_mean(formulas.disagreement(*pair)) for pair in pairs)}

    def get_config(self):
        return {"student_steps": self.student_steps}


@keras.saving.register_keras_serializable(package="keras_kd")
class DAFL(DataFreeMethod):
    """Data-free learning: the generator draws what the teacher takes for the data it was trained on.

    `min_G one_hot_weight · one_hot + activation_weight · activation + entropy_weight · information_entropy`, the terms
    of `keras_kd.losses.data_free`: the teacher is certain of each image, excited by it, and sees all classes alike
    often. The student learns from the teacher on the same batch, in the same step, and has no say in what is drawn.

    Args:
        tap: Where to listen for the feature that the activation loss reads. Defaults to what goes into the teacher's
            last layer with weights.
        one_hot_weight: Defaults to 1.
        activation_weight: Defaults to 0.1. With 0 nothing is tapped, and the teacher may be an `Ensemble`.
        entropy_weight: Defaults to 5.

    Raises:
        ValueError: If a weight is negative or the tap is none; when training begins, if the teacher has no such layer.

    Example:
        >>> DAFL("features", entropy_weight=20.0).get_config()
        {'tap': 'features', 'one_hot_weight': 1.0, 'activation_weight': 0.1, 'entropy_weight': 20.0}

    Reference:
        Chen, Wang, Xu, Yang, Liu, Shi, Xu, Xu, Tian. Data-Free Learning of Student Networks. 2019. arXiv:1904.01186.
        The weights are those of the authors' code for MNIST, where the student learns by `KL(teacher || student)` at
        temperature 1; the paper writes the cross-entropy, whose gradient is the same.
    """

    student_steps = 0

    def __init__(
        self,
        tap: str | None = None,
        *,
        one_hot_weight: float = 1.0,
        activation_weight: float = 0.1,
        entropy_weight: float = 5.0,
    ):
        if tap is not None:
            Tap.parse(tap)
        self.tap = tap
        given = {"one_hot": one_hot_weight, "activation": activation_weight, "entropy": entropy_weight}
        checked = {term: checked_number(self, f"{term}_weight", weight, low=0.0) for term, weight in given.items()}
        self._arguments = {f"{term}_weight": weight for term, weight in checked.items()}
        self.weights = {f"{term}_loss": weight for term, weight in checked.items()}

    def prepare(self, teacher):
        if not self.weights["activation_loss"]:
            return
        if isinstance(teacher, Ensemble):
            raise ValueError(
                f"`DAFL`: features of several teachers have no mean, so there is no activation loss. Received: "
                f"`{teacher.name}`. Give one teacher, or `DAFL(activation_weight=0)`."
            )
        self.teacher_taps = (self.tap or _last_input(teacher.model),)

    def default_objective(self):
        return SoftTargets()

    def terms(self, teacher, student):
        outputs = teacher.logits(1.0).values()
        values = {
            "one_hot_loss": sum(weighted_mean(formulas.one_hot(logits)) for logits in outputs),
            "entropy_loss": sum(weighted_mean(formulas.information_entropy(logits)) for logits in outputs),
            "activation_loss": sum(weighted_mean(formulas.activation(feature)) for feature in teacher.taps.values()),
        }
        return {name: value for name, value in values.items() if self.weights[name]}

    def get_config(self):
        return {"tap": self.tap, **self._arguments}


METHODS = {"dfad": DFAD, "dafl": DAFL}


def as_method(method: str | DataFreeMethod) -> DataFreeMethod:
    """Reads what a user may hand over as a method.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(method, DataFreeMethod):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    raise ValueError(
        f"`DataFreeDistiller`: `method` must be one of {list(METHODS)}, a `DFAD` or a `DAFL`. Received: "
        f"method={method!r}."
    )


def _last_input(model: keras.Layer) -> str:
    """The tap of what goes into the last layer with weights, in whatever model it is nested."""
    path = []
    while weighted := [layer for layer in getattr(model, "layers", ()) if layer.weights]:
        model = weighted[-1]
        path.append(model.name)
    if not path:
        raise ValueError(
            f"`DAFL`: the teacher `{model.name}` has no layers with weights to listen at. Name a place to listen, "
            "`DAFL(tap=...)`."
        )
    return "/".join(path) + ":input"
