"""`RobustDistiller`: a student that a small perturbation of its inputs does not mislead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_kd import preparation
from keras_kd.distiller import Distiller
from keras_kd.objectives import Objective, as_objectives
from keras_kd.replay import inputs_of
from keras_kd.robust.accuracy import EVALUATION_SEED, EVALUATION_STEPS, is_right
from keras_kd.robust.attack import PGD, label_loss, refuse_scores
from keras_kd.robust.methods import LABELS, METHODS, NoTeacher, objectives_of
from keras_kd.scalars import as_float, checked_number
from keras_kd.signals import Signals
from keras_kd.taps import forward

PGD_ACCURACY = "pgd_accuracy"


@dataclass(frozen=True)
class AttackedSignals(Signals):
    """What the student says of a batch, and of the adversarial examples beside it."""

    adversarial: Signals | None = None


@keras.saving.register_keras_serializable(package="keras_kd")
class RobustDistiller(Distiller):
    r"""Trains a student on adversarial examples, with what a robust teacher says of the natural ones.

    `total = alpha · student_loss + (1 - alpha) · (β L(x') + (1 - β) L(x)) + the student's own regularisation`, where
    `x'` is what `steps` of PGD make of `x` to raise `A(x')` as far as `|x' - x| <= epsilon` allows.

    | method | `A(x')` | `L(x)` | β | T |
    |---|---|---|---|---|
    | `"rslad"` | `KL(T(x) \|\| S(x'))` | `KL(T(x) \|\| S(x))` | 5/6 | 1 |
    | `"ard"` | `CE(S(x'), y)` | `T² KL(T(x) \|\| S(x))`, both at `T` | 1 | 30 |
    | `"at"` | `CE(S(x'), y)` | `CE(S(x), y)` | 1 | |

    `"at"` is plain adversarial training, without a teacher: the baseline of the same budget. The teacher is asked once
    a step, of the natural inputs, and should itself be robust. The attack sees the student in inference mode, so
    BatchNormalization statistics stay as they are; both forward passes that train it, first that of the natural, then
    that of the adversarial examples, move them.

    Compile, fit, save and export it as a `Distiller`. `"rslad"` needs neither labels nor a `loss`. Among the metrics:
    `adversarial_loss`, `L(x')`, and `natural_loss`, `L(x)`; the compiled metrics are of natural inputs; with
    `"pgd_accuracy"` among them, `evaluate` attacks by 20 steps with the same `epsilon` and `step_size`, for
    `val_pgd_accuracy` to choose an epoch by. The attack restarts with the same noise each time.

    Args:
        student: A `keras.Model` with one output, logits, that sees one floating tensor.
        teacher: As for `Distiller`, caches of `open_cache` included; none for `"at"`. Defaults to `None`.
        objectives: Further objectives, of natural inputs. Defaults to none.
        method: `"rslad"`, `"ard"` or `"at"`. Defaults to `"rslad"`.
        epsilon: Greatest change of an input value, in the units of the inputs, `> 0`. Defaults to 8/255.
        step_size: Change in one step, `> 0`. Defaults to a quarter of `epsilon`.
        steps: Steps of the attack while training, `>= 1`. Defaults to 10.
        value_range: Least and greatest value of the inputs; normalise within the student. Defaults to (0, 1).
        adversarial_weight: `β`, in [0, 1]: the weight of the objective `adversarial_loss`, that of `natural_loss`
            being the rest. Defaults to the method's.
        alpha: Weight of the student's own loss, of natural inputs, in [0, 1]. A variable. Defaults to 0, as published.
        temperature: `T > 0` of the soft targets. A variable. Defaults to the method's.
        student_inputs: Keys of a dict `x` (positions of a tuple) that the student sees. Defaults to all.
        seed: Seed of the attack's random starts. Defaults to Keras's own, that of `set_random_seed`.
        name: Name of the model. Defaults to `"robust_distiller"`.

    Raises:
        ValueError: If an argument is out of range, or a model ends in probabilities; when training begins, if the
            inputs cannot be attacked or the labels that the attack needs are missing.

    Example:
        >>> import numpy as np
        >>> def mlp(width):
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)])
        >>> distiller = RobustDistiller(student=mlp(4), teacher=mlp(64), epsilon=0.1)
        >>> distiller.compile("adam")
        >>> history = distiller.fit(np.ones((32, 8)), verbose=0)
        >>> sorted(history.history)
        ['adversarial_loss', 'loss', 'natural_loss']

    Reference:
        Zi, Zhao, Ma, Jiang. Revisiting Adversarial Robustness Distillation: Robust Soft Labels Make Student Better.
        2021. arXiv:2108.07969 (`"rslad"`, its α is β here).
        Goldblum, Fowl, Feizi, Goldstein. Adversarially Robust Distillation. 2020. arXiv:1905.09747 (`"ard"`, its α is
        `1 - alpha`; with `alpha > 0` the labels of natural inputs count too). Madry, Makelov, Schmidt, Tsipras, Vladu.
        Towards Deep Learning Models Resistant to Adversarial Attacks. 2018. arXiv:1706.06083 (`"at"`).
        Both papers write `KL(S, T)`, and both codes compute `KL(T || S)`, as here, but divide it by the number of
        classes too; both show the student the adversarial examples first. ARD's code attacks the student in training
        mode. Plain adversarial training has no natural forward pass, by which only statistics move here.
    """

    _more_means = (PGD_ACCURACY,)

    def __init__(
        self,
        student: keras.Model,
        teacher: Any = None,
        objectives: Objective | Sequence[Objective] | None = None,
        *,
        method: str = "rslad",
        epsilon: float = 8 / 255,
        step_size: float | None = None,
        steps: int = 10,
        value_range: Sequence[float] = (0.0, 1.0),
        adversarial_weight: float | None = None,
        alpha: float = 0.0,
        temperature: float | None = None,
        student_inputs: Sequence[str] | Sequence[int] | None = None,
        seed: int | None = None,
        name: str = "robust_distiller",
    ):
        if method not in METHODS:
            raise ValueError(
                f"`RobustDistiller`: `method` must be one of {list(METHODS)}. Received: method={method!r}."
            )
        self.method = method
        published = METHODS[method]
        share = published.adversarial_weight if adversarial_weight is None else adversarial_weight
        share = checked_number(self, "adversarial_weight", share, low=0.0, high=1.0)
        self._attack = PGD(epsilon, step_size, steps, value_range, published.start)
        super().__init__(
            student,
            teacher,
            [*objectives_of(published, share), *(as_objectives(objectives) if objectives else [])],
            alpha=alpha,
            temperature=published.temperature if temperature is None else temperature,
            student_inputs=student_inputs,
            name=name,
        )
        refuse_scores("RobustDistiller", student)
        self._seed = seed
        self._starts = keras.random.SeedGenerator(seed)
        self._measures_pgd = False

    @Distiller.teacher.setter
    def teacher(self, teacher: Any) -> None:
        """The teacher as it was given."""
        taught = METHODS[self.method].learns != LABELS
        if teacher is not None and not taught:
            raise ValueError(
                f"`RobustDistiller`: method='{self.method}' learns from the labels alone. Received a teacher. Leave it "
                "out, or take method='rslad' or 'ard'."
            )
        Distiller.teacher.fset(self, teacher)
        if not taught:
            self._teaching.source = NoTeacher()

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Configures training, as `Distiller.compile` does; `metrics` may name `"pgd_accuracy"` too."""
        listed = list(metrics) if isinstance(metrics, list | tuple) else []
        attacked = self.objective_names[0]
        if attacked in listed:
            raise ValueError(
                f"`RobustDistiller`: '{attacked}' is always logged while training; `evaluate` does not know it. Ask "
                f"for '{PGD_ACCURACY}'."
            )
        self._measures_pgd = PGD_ACCURACY in listed
        if self._measures_pgd:
            metrics = [metric for metric in listed if metric != PGD_ACCURACY] or None
        super().compile(optimizer, loss, loss_weights, metrics, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        if config and self._measures_pgd:
            config["metrics"] = [PGD_ACCURACY, *(config["metrics"] or [])]
        return config

    def _complete(self, x, y, teacher, student):
        seen = keras.tree.flatten(self._select(inputs_of(x), self.student))
        if len(seen) != 1 or not seen[0].dtype.is_floating:
            raise ValueError(
                "`RobustDistiller`: the student must see one floating tensor, to be attacked. Received: "
                f"{[f'{spec.dtype.name} {tuple(spec.shape)}' for spec in seen]}. Cast and scale it to "
                f"{self._attack.value_range}, or pick one by `student_inputs`."
            )
        if len(student.outputs) != 1:
            raise ValueError(
                f"`RobustDistiller`: the student must have one output, its logits. Received: {list(student.outputs)}."
            )
        if y is None and METHODS[self.method].climbs == LABELS:
            raise ValueError(
                f"`RobustDistiller`: the attack of method='{self.method}' needs labels. Received data without. Give "
                "`y`, or take method='rslad'."
            )

    def _student_of(self, x: Any) -> tuple[Any, Callable[..., Signals]]:
        """The tensor that the student sees, and what it says of any other in its place."""
        inputs = self._select(inputs_of(x), self.student)

        def says(tensor, training=False):
            with preparation.shared_statistics_kept(self.student, self._teaching.source):
                instead = keras.tree.map_structure(lambda _: tensor, inputs)
                return forward(self.finished_student, instead, training=training)

        return _only(inputs), says

    def _training_losses(self, x, y, sample_weight, teacher, student):
        seen, says = self._student_of(x)

        def climbed(adversarial):
            said = says(adversarial)
            if METHODS[self.method].climbs == LABELS:
                return label_loss(_only(y), _only(said.outputs))
            return _only(self.objectives[0].values(teacher, said, temperature=self.temperature))

        adversarial = says(self._attack(climbed, seen, self._starts), training=True)
        both = AttackedSignals(**vars(student), adversarial=adversarial)
        return super()._training_losses(x, y, sample_weight, teacher, both)

    def _objective_values(self, objectives, teacher, student, *batch, training):
        if not training:
            return super()._objective_values(objectives, teacher, student, *batch, training=False)
        attacked, *others = objectives
        return [
            *super()._objective_values([attacked], teacher, student.adversarial, *batch, training=True),
            *super()._objective_values(others, teacher, student, *batch, training=True),
        ]

    def test_step(self, data):
        logs = super().test_step(data)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self._measures_pgd and y is not None:
            seen, says = self._student_of(x)
            attack = replace(self._attack, steps=EVALUATION_STEPS, start="uniform")
            right = is_right(lambda x: _only(says(x).outputs), seen, _only(y), attack, EVALUATION_SEED)
            mean = next(mean for mean in self._means if mean.name == PGD_ACCURACY)
            mean.update_state(right)
            logs[PGD_ACCURACY] = mean.result()
        return logs

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the distiller anew, all but the teacher."""
        adversarial, _, *others = self.objectives
        return {
            **super().get_config(),
            "objectives": [keras.saving.serialize_keras_object(o) for o in others],
            "method": self.method,
            "epsilon": self._attack.epsilon,
            "step_size": self._attack.step_size,
            "steps": self._attack.steps,
            "value_range": list(self._attack.value_range),
            "adversarial_weight": as_float(adversarial.weight),
            "seed": self._seed,
        }


def _only(structure: Any) -> Any:
    """The one tensor of a structure."""
    (tensor,) = keras.tree.flatten(structure)
    return tensor
