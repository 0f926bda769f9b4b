"""`TeacherAssistantChain`: a teacher, assistants and a student, each distilled from those before it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from keras_kd.assistants.hop import Hop, measured
from keras_kd.assistants.lessons import Lessons, cached
from keras_kd.assistants.per_hop import OWNER, holds_arrays, is_flat, objectives_per_hop, per_hop
from keras_kd.assistants.records import HopFolder, HopRecord, claim
from keras_kd.assistants.table import as_table
from keras_kd.cache.fingerprints import teacher_fingerprint
from keras_kd.distiller import Distiller
from keras_kd.locking import writing
from keras_kd.preparation import check_teacher
from keras_kd.teachers import Ensemble, Teacher, as_teacher


class TeacherAssistantChain:
    """Distils a large teacher into a small student by way of assistants of sizes between.

    A hop is `Distiller(model, teacher).fit`: the first assistant learns from the teacher, the next from the first, the
    student from the last. Each hop's best weights by a validation metric are kept, and are those that teach the next.

    Given once, or as a list of one for each hop: `alpha`, `temperature`, `objectives` (a list of lists), what `compile`
    and `fit` take. A list of callbacks or metrics is that of all hops; several outputs take a dict of losses.

    Args:
        models: The teacher, assistants from large to small, the student: one assistant, several or none. The teacher is
            anything that `Distiller` takes; the others are Keras models that give logits.
        alpha: Weight of each model's own loss, in [0, 1]. Defaults to 0.3.
        temperature: `T > 0`. Defaults to 4.
        objectives: As in `Distiller`. Defaults to `SoftTargets()`.
        dense: `True`: all larger models teach each smaller one, one of them left out of each batch at random
            (`keras_kd.objectives.DenseGuidance`, of each objective). `"ensemble"`: the mean of all larger models does.
            Defaults to `False`, the next larger model alone.
        train_teacher: Whether the teacher is untrained, and is trained on the labels, as hop 0. Lists for `compile` and
            `fit` begin with its own value then. Defaults to `False`.

    Raises:
        ValueError: If there are fewer than two models, one of them comes twice, or an argument is none of these.

    Example:
        >>> import numpy as np
        >>> def mlp(width):
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)])
        >>> x, y = np.random.default_rng(0).random((64, 8), "float32"), np.arange(64) % 3
        >>> chain = TeacherAssistantChain([mlp(64), mlp(16), mlp(4)])
        >>> chain.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
        >>> history = chain.fit(x, y, validation_data=(x, y), epochs=[1, 2], verbose=0)
        >>> [len(of_hop["val_accuracy"]) for of_hop in history], chain.student.count_params()
        ([1, 2], 51)

    Reference:
        Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh. Improved Knowledge Distillation via Teacher Assistant.
        2020. arXiv:1902.03393. Their code chooses the weights of each hop on the test set, and divides the KL by the
        number of classes. Son, Na, Choi, Hwang. Densely Guided Knowledge Distillation using Multiple Teacher
        Assistants. 2021. arXiv:2009.08825.
    """

    def __init__(
        self,
        models: Sequence[Any],
        *,
        alpha: float | list[float] = 0.3,
        temperature: float | list[float] = 4.0,
        objectives: Any = None,
        dense: bool | str = False,
        train_teacher: bool = False,
    ):
        self.models = list(models)
        self._teachers = self._checked_teachers(train_teacher)
        self._check_dense(dense)
        self._dense, self._first = dense, 0 if train_teacher else 1
        taught = len(self.models) - 1
        self._alphas = [Distiller.alpha.checked(self, one) for one in per_hop("alpha", alpha, taught)]
        self._temperatures = [
            Distiller.temperature.checked(self, one) for one in per_hop("temperature", temperature, taught)
        ]
        self._objectives = objectives_per_hop(objectives, taught, dense)
        for larger, smaller, of_hop in zip(self._teachers, self.models[1:], self._objectives, strict=False):
            check_teacher(larger, smaller, of_hop)
        self._compiling: list[dict[str, Any]] = []
        self._records: list[HopRecord] = []
        self._of_teacher: list[HopRecord] = []

    def _checked_teachers(self, train_teacher: bool) -> list[Teacher | Ensemble]:
        """The models, the student too, as those who teach."""
        if len(self.models) < 2:
            raise ValueError(
                f"`{OWNER}`: `models` must be a teacher, assistants and a student. Received: {self.models!r}."
            )
        trained = self.models if train_teacher else self.models[1:]
        for model in trained:
            if not isinstance(model, keras.Model):
                raise ValueError(f"`{OWNER}`: what is trained must be a `keras.Model`. Received: {model!r}.")
        teachers = [as_teacher(model) for model in self.models]
        if teachers[0] is None:
            raise ValueError(f"`{OWNER}`: the first of `models` must be a teacher. Received: None.")
        members = [member.model for teacher in teachers for member in teacher.members]
        if len({id(model) for model in members}) < len(members):
            raise ValueError(f"`{OWNER}`: each of `models` must be another. Received: {self.models!r}.")
        return teachers

    def _check_dense(self, dense: bool | str) -> None:
        if not isinstance(dense, bool) and dense != "ensemble":
            raise ValueError(f"`{OWNER}`: `dense` must be False, True or 'ensemble'. Received: dense={dense!r}.")
        if dense and len(self._teachers) > 2 and len(self._teachers[0].members) > 1:
            raise ValueError(
                f"`{OWNER}`: several models teach each other one where `dense` is set, so the first must be one model. "
                f"Received: the ensemble of {self._teachers[0].name}. Give one of them, or leave dense=False."
            )

    @property
    def student(self) -> keras.Model:
        """The last and smallest model."""
        return self.models[-1]

    @property
    def records(self) -> list[HopRecord]:
        """What came of each hop that is done."""
        return list(self._records)

    @property
    def history(self) -> list[dict[str, list[float]]]:
        """The logs of each hop that is done, by metric, as `keras.callbacks.History.history` has them."""
        return [record.history for record in self._records]

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, metrics: Any = None, **kwargs: Any) -> None:
        """Configures the training of each hop, as `keras.Model.compile` does.

        Args:
            optimizer: As in Keras; an optimizer that is given once is made anew for each hop.
            loss: Each model's own loss.
            metrics: As in Keras, and in `Distiller.compile`. `fit` and `summary` report them on the validation data.
            **kwargs: Everything else that `keras.Model.compile` takes, for all hops.

        Raises:
            ValueError: If a list has not one for each hop.
        """
        hops = len(self.models) - self._first
        optimizers, losses = per_hop("optimizer", optimizer, hops), per_hop("loss", loss, hops)
        metrics = per_hop("metrics", metrics, hops, is_flat)
        self._compiling = [
            {"optimizer": optimizers[hop], "loss": losses[hop], "metrics": metrics[hop], **kwargs}
            for hop in range(hops)
        ]

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        validation_data: Any = None,
        epochs: int | list[int] = 1,
        batch_size: int | list[int] | None = None,
        callbacks: Any = None,
        folder: str | Path | None = None,
        cache: bool | Mapping[str, Any] = False,
        monitor: str | list[str] | None = None,
        verbose: Any = "auto",
        **kwargs: Any,
    ) -> list[dict[str, list[float]]]:
        """Trains one model after the other.

        Args:
            x: As in `keras.Model.fit`: arrays, or a data set of batches. A list of data sets is one for each hop.
            y: Labels, where `x` is arrays.
            validation_data: As in Keras. Each hop's best weights are chosen by it.
            epochs: How many.
            batch_size: As in Keras.
            callbacks: As in Keras. What they count, as `EarlyStopping` does, begins anew where a hop goes on.
            folder: Where hops are kept as they finish, and the hop in progress after each epoch: the same call goes on
                where an interrupted one was, with the same weights if the data come in the same order. Defaults to a
                temporary folder.
            cache: Whether each teacher is asked once (`keras_kd.cache_teacher`), and its answers are replayed; or a
                dict of that function's arguments, `{"views": 4, "augment": f}`. Features that objectives compare are
                kept too. `x` must be in a stable order then: single examples, which are shuffled and batched here
                unless `shuffle=False` is given, or batches, which stay as they are.
            monitor: The validation metric that the best weights are chosen by. Defaults to `"val_accuracy"`, or else
                the first that names an accuracy, or else `"val_loss"`. Without validation, the last weights are kept.
            verbose: As in Keras.
            **kwargs: Everything else that `keras.Model.fit` takes, for all hops.

        Returns:
            The history of each hop.

        Raises:
            ValueError: If it was not compiled, a list has not one for each hop, or `folder` holds another chain or is
                written to by another process.
        """
        if not self._compiling:
            raise ValueError(f"`{OWNER}`: call `compile()` before `fit()`.")
        hops = len(self._compiling)
        columns = [
            per_hop("x", x, hops, holds_arrays),
            per_hop("y", y, hops, holds_arrays),
            per_hop("validation_data", validation_data, hops),
            per_hop("epochs", epochs, hops),
            per_hop("batch_size", batch_size, hops),
            per_hop("callbacks", callbacks, hops, is_flat),
            per_hop("monitor", monitor, hops),
        ]
        is_cached, more = cache is not False, {"verbose": verbose, **kwargs}
        lessons = [Lessons(*of_hop, more=more, in_stable_order=is_cached) for of_hop in zip(*columns, strict=True)]
        options = None if cache is False else {} if cache is True else cache
        with _kept_in(folder) as root:
            claim(root, self._settings(lessons))
            self._records, self._of_teacher = [], self._measured_teacher(lessons[0])
            for hop, of_hop in zip(self._planned(), lessons, strict=True):
                self._records.append(self._run(hop, of_hop, root, options))
        return self.history

    def _run(self, hop: Hop, lessons: Lessons, root: Path, options: Any) -> HopRecord:
        folder = HopFolder(root / f"hop_{hop.index}")
        if (record := folder.finished()) is not None:
            hop.restore(lessons, folder)
            return record
        if lessons.more["verbose"]:
            taught = " and ".join(teacher.name for teacher in hop.teachers) or "the labels"
            print(f"Hop {hop.index} of {len(self.models) - 1}: {hop.student.name} learns from {taught}.")
        if options is not None and hop.teachers:
            teachers = dict(zip(range(hop.index - len(hop.teachers), hop.index), hop.teachers, strict=True))
            taps = list(dict.fromkeys(tap for objective in hop.objectives for tap in objective.teacher_taps))
            wanted = {"temperature": hop.temperature, "taps": taps, **options}
            lessons = cached(lessons, teachers, root / "signals", wanted)
        return hop.train(lessons, folder)

    def _planned(self) -> Iterator[Hop]:
        """The hops, each with the teachers as they are when its turn comes."""
        if self._first == 0:
            yield Hop(0, self.models[0], [], [], 1.0, 1.0, self._compiling[0])
        for index, (alpha, temperature, objectives) in enumerate(
            zip(self._alphas, self._temperatures, self._objectives, strict=True), start=1
        ):
            teachers = self._teachers[:index] if self._dense else [self._teachers[index - 1]]
            compiling = self._compiling[index - self._first]
            yield Hop(index, self.models[index], teachers, objectives, alpha, temperature, compiling, self._teachers[0])

    def _settings(self, lessons: Sequence[Lessons]) -> dict[str, Any]:
        """What tells this chain from another."""
        trained = self.models[self._first :]
        # What has no weights yet cannot be counted, and will have them when the same chain is fitted again.
        parameters = [model.count_params() for model in trained] if all(model.built for model in trained) else None
        return {
            "teacher": teacher_fingerprint(self._teachers[0]) if self._first else None,
            **({"parameters": parameters} if parameters else {}),
            "alpha": self._alphas,
            "temperature": self._temperatures,
            "objectives": [[[type(o).__name__, o.get_config()] for o in of_hop] for of_hop in self._objectives],
            "dense": self._dense,
            "epochs": [of_hop.epochs for of_hop in lessons],
            "monitor": [of_hop.monitor for of_hop in lessons],
            "cached": lessons[0].in_stable_order,
        }

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Prints a table: parameters, size, what each model reaches on the validation data, its agreement with the
        teacher, the time of its hop.

        Args:
            print_fn: What is called with the table. Defaults to `print`.
        """
        print_fn(as_table([*self._of_teacher, *self._records]))

    def _measured_teacher(self, lessons: Lessons) -> list[HopRecord]:
        """What a trained teacher is, where it is one Keras model."""
        model = self.models[0]
        if self._first == 0 or not isinstance(model, keras.Model) or not model.built:
            return []
        results = Hop(0, model, [], [], 1.0, 1.0, self._compiling[0]).evaluate(lessons)
        return [measured(model, results=results)]


@contextmanager
def _kept_in(folder: str | Path | None) -> Iterator[Path]:
    if folder is not None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder, f"`{OWNER}`"):
            yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
