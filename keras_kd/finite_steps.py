"""Training steps that change nothing where a number is none."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_kd.finite import first_unsound, floats, in_order
from keras_kd.replay import inputs_of
from keras_kd.signals import EnsembleSignals, Signals

POLICIES = ("raise", "skip")
FOUND = "nonfinite steps"  # among the logs of a step, until they are handed on


class TakesFiniteSteps:
    """The part of a distiller that takes its training steps, or leaves them."""

    def _watch_steps(self, policy: str) -> None:
        # Not through `setattr`: Keras and TensorFlow would save what is found.
        object.__setattr__(self, "_finite_steps", FiniteSteps(self, policy))

    def make_train_function(self, force: bool = False) -> Any:
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = self._finite_steps.watched(self.train_function, self.steps_per_execution)
        return self.train_function

    def _take_step(
        self,
        learn: Callable[[], dict[str, Any]],
        batch: tuple[Any, Any, Any],
        teacher: Signals | EnsembleSignals,
        student: Signals,
        losses: Mapping[str, Any],
        gradients: Mapping[str, Any],
        before: Sequence[tuple[keras.Variable, Any]],
    ) -> dict[str, Any]:
        """What `learn` logs, if all is finite that NaN and infinity would reach: losses and gradients."""
        x, y, sample_weight = batch
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = {}  # scaled, they may overflow: the optimizer sees to it
        read = {"x": inputs_of(x), "y": y, "sample_weight": sample_weight}
        parts_first = {**{name: value for name, value in losses.items() if name != "loss"}, "loss": losses["loss"]}
        seen = in_order(read, self._speakers(teacher, student), parts_first, gradients)
        sums = floats([*losses.values(), *gradients.values()])
        return self._finite_steps.take(learn, sums, seen, before, self._results_as_they_stand)

    def _speakers(self, teacher: Signals | EnsembleSignals, student: Signals) -> dict[str, Signals]:
        """What was said in a step, by who said it; what a cache holds is finite."""
        source, weights = self._teaching.source, {}
        said = teacher.members if isinstance(teacher, EnsembleSignals) else [teacher]
        if isinstance(teacher, EnsembleSignals) and teacher.weighs_examples:
            weights = {f"the teacher `{source.name}`": Signals.of({"Ensemble.weights": teacher.weights})}
        names = [f"the teacher `{member.name}`" for member in getattr(source, "members", ())]
        return {**dict(zip(names, said, strict=False)), **weights, f"the student `{self.student.name}`": student}


class FiniteSteps:
    """Takes a training step only if all its numbers are finite; otherwise nothing moves, and the reason is told.

    Each step looks at the sum of its losses and gradients, which NaN and infinity reach; at the tensors they came from
    only when that is not finite. What was found is kept in a variable, and read when the step is over, so that XLA and
    several steps per execution find it too.

    Args:
        distiller: Whose steps.
        policy: `"raise"` ends the training, `"skip"` goes on with the next batch.

    Raises:
        ValueError: If the policy is another, or `"skip"` meets a strategy.
    """

    def __init__(self, distiller: keras.Model, policy: str):
        self._owner, self.policy = f"`{type(distiller).__name__}`", policy
        strategy = distiller.distribute_strategy
        with strategy.scope():
            free = tf.__internal__.distribute.strategy_supports_no_merge_call()
        # Elsewhere an update meets the other replicas, or those it might have, which the branch of a condition cannot.
        self._alone = free and strategy.num_replicas_in_sync == 1
        if policy not in POLICIES:
            raise ValueError(
                f"{self._owner}: `on_nonfinite` must be one of {list(POLICIES)}. Received: on_nonfinite={policy!r}."
            )
        if policy == "skip" and not self._alone:
            raise ValueError(
                f"{self._owner}: on_nonfinite='skip' goes without a strategy only, for its replicas would have to skip "
                f"together. Received: {type(strategy).__name__}. Take 'raise', and go on from a backup."
            )
        self._words: list[str] = []
        self._logged: list[str] = []
        self._epoch, self._batch = 0, 0
        with strategy.scope():
            # How many steps were found since it was read, and the place of the first one's first tensor.
            self._found = tf.Variable(
                [0, 0],
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

    def take(
        self,
        learn: Callable[[], dict[str, Any]],
        sums: Sequence[Any],
        seen: Mapping[str, Any],
        before: Sequence[tuple[keras.Variable, Any]],
        results: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """Runs `learn` if the step's numbers are finite.

        Args:
            learn: Moves what trains, and returns what to log.
            sums: What NaN and infinity reach: losses and gradients.
            seen: What the step has read and computed, as `in_order` gives it.
            before: What moves without `learn`, and what it held before the step.
            results: What may be logged, as it stands.
        """
        self._words = list(seen)
        sound = tf.math.is_finite(tf.add_n([tf.reduce_sum(tf.cast(values, "float32")) for values in sums]))

        def learnt():
            logs = learn()
            self._logged = list(logs)
            return logs

        def unharmed():
            for variable, value in before:
                variable.assign(value)
            self._note(seen)
            return {name: value for name, value in results().items() if name in self._logged}

        if self._alone:
            logs = tf.cond(sound, learnt, unharmed)
        else:
            tf.cond(sound, lambda: None, lambda: self._note(seen))
            logs = learn()
        return {**logs, FOUND: tf.cast(tf.identity(self._found)[0], "float32")}

    def _note(self, seen: Mapping[str, tf.Tensor]) -> None:
        count, first = tf.unstack(tf.identity(self._found))
        place = first_unsound([*seen.values()])
        self._found.assign(tf.stack([count + 1, tf.where(count == 0, place, first)]))

    def begin(self, epoch: int, logs: Any = None) -> None:
        """Counts batches from here."""
        self._epoch, self._batch = epoch, 0

    def watched(self, run: Callable[[Any], Any], steps: int) -> Callable[[Any], Any]:
        """Wraps what runs so many steps: afterwards it is told what they have found."""

        def run_and_tell(iterator):
            logs = run(iterator)
            self._batch += steps
            if float(logs.pop(FOUND)):
                self._tell(steps)
            return logs

        return run_and_tell

    def _tell(self, steps: int) -> None:
        records = getattr(self._found, "values", [self._found])  # one for each replica of this process
        counts_and_places = [record.numpy().tolist() for record in records]
        for record in records:
            record.assign([0, 0])
        what = next((self._words[place] for count, place in counts_and_places if count), "there were some elsewhere")
        last, count = self._batch, sum(count for count, _ in counts_and_places)
        batch = f"batch {last}" if steps == 1 else f"one of the batches {last - steps + 1} to {last}"
        found = f"{self._owner}: {what}, in {batch} of epoch {self._epoch + 1}, both counted from 1."
        if self.policy == "skip":
            warnings.warn(f"{found} Skipped: {count}.", stacklevel=2)
            return
        if not self._alone:
            raise FloatingPointError(
                f"{found} The student has learnt from it. Mend the cause, and load the last one saved."
            )
        raise FloatingPointError(
            f"{found} The student learnt nothing from it. Mend the cause, or leave such batches out: "
            "`compile(on_nonfinite='skip')`."
        )
