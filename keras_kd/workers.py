"""What plain `fit` lacks under `MultiWorkerMirroredStrategy`, where several processes train one student in step."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_kd.backup import BackupAndRestore
from keras_kd.batches import spec_of_one_replica

# What writes files that other workers write too, and does nothing else.
_WRITERS = (keras.callbacks.ModelCheckpoint, keras.callbacks.CSVLogger)


def several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes train with this one."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and strategy.extended._in_multi_worker_mode()


class RunsOnWorkers:
    """The part of a distiller that lets it train in several processes: each step sees a global batch, in shares."""

    _runs_on_workers = True

    def _callbacks_of_this_worker(self, callbacks: Any) -> Any:
        """The callbacks of `fit`, as this process needs them."""
        strategy = self.distribute_strategy
        return _of_this_worker(callbacks, strategy) if several_workers(strategy) else callbacks

    def _may_compile(self) -> bool:
        """Whether XLA may compile the step: it has no collectives on the CPU."""
        return not several_workers(self.distribute_strategy)

    def _refuse_workers(self) -> None:
        """Raises ValueError for what does not run in several processes, where there are such."""
        if not several_workers(self.distribute_strategy):
            return
        if not self._runs_on_workers:
            raise ValueError(
                f"`{type(self).__name__}`: it does not train in several processes. Received a "
                "`MultiWorkerMirroredStrategy`. Make it under a `MirroredStrategy`, or take a `Distiller`."
            )
        if self.steps_per_execution > 1:
            # TensorFlow 2.21 loses a placeholder where a loop of steps asks all workers for the next batch.
            raise ValueError(
                f"`{type(self).__name__}`: several processes take one step at a time. Received: "
                f"steps_per_execution={self.steps_per_execution}. Compile without."
            )

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is None or not several_workers(self.distribute_strategy):
            super()._maybe_symbolic_build(iterator, data_batch)
            return
        self._refuse_workers()
        specs = keras.tree.map_structure(spec_of_one_replica, iterator._distributed_dataset.element_spec)
        with self.distribute_strategy.scope():
            # Keras would read a batch, and take what is spread over the workers for tensors (keras #20585).
            self._symbolic_build(data_batch=specs)

    def _make_function(self, step_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if not several_workers(self.distribute_strategy):
            return super()._make_function(step_function)

        def step(data):
            logs = step_function(data)
            if step_function == self.train_step:
                _average(_statistics(self.student), _rows(data))
            # Keras takes the mean over the first axis of what is logged, and a scalar has none (keras #20329).
            return {name: keras.ops.reshape(value, (1,)) for name, value in logs.items()}

        return super()._make_function(step)

    def _gradients(self, tape: tf.GradientTape, loss: Any, variables: Sequence[keras.Variable], x: Any) -> list[Any]:
        """A replica's gradients; of several workers, each counts by its share of the global batch."""
        if not several_workers(self.distribute_strategy):
            return tape.gradient(loss, variables)
        rows = _rows(x)
        # The last batch may not divide evenly, or into as many.
        share = rows / tf.distribute.get_replica_context().all_reduce("MEAN", rows)
        gradients = tape.gradient(loss, variables, output_gradients=tf.cast(share, loss.dtype))
        return tf.nest.map_structure(lambda values: _zero_without(rows, values), gradients, expand_composites=True)


def _rows(batch: Any) -> tf.Tensor:
    """How many examples a replica has of a batch."""
    return tf.cast(tf.shape(next(leaf for leaf in keras.tree.flatten(batch) if leaf is not None))[0], tf.float32)


def _zero_without(rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The values; zeros where there are no rows, of which BatchNormalization makes NaN. Indices stay as they are."""
    return tf.where(rows > 0, values, tf.zeros((), values.dtype)) if values.dtype.is_floating else values


def _statistics(model: keras.Model) -> list[keras.Variable]:
    """What moves without being trained; not what is frozen, which may be large."""
    own = [variable for layer in model._flatten_layers() for variable in layer._non_trainable_variables]
    return [variable for variable in own if variable.value.dtype.is_floating]


def _average(variables: Sequence[keras.Variable], rows: tf.Tensor) -> None:
    """Gives all replicas the same statistics: Keras 3 leaves to each those of its own BatchNormalization."""
    sums = [_zero_without(rows, rows * tf.cast(variable.value, tf.float32)) for variable in variables]
    *sums, total = tf.distribute.get_replica_context().all_reduce("SUM", [*sums, rows])
    for variable, value in zip(variables, sums, strict=True):
        variable.assign(value / total)


def _of_this_worker(callbacks: Any, strategy: tf.distribute.Strategy) -> Any:
    """The callbacks of `fit`, as a worker needs them: the chief writes, all go on from what it has written."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    callbacks = keras.tree.flatten(callbacks or [])
    if strategy.cluster_resolver.task_id != 0:
        callbacks = [
            _OnlyRestores(one) if isinstance(one, BackupAndRestore | keras.callbacks.BackupAndRestore) else one
            for one in callbacks
            if not isinstance(one, _WRITERS)
        ]
    return [*callbacks, _BeginTogether(strategy)]


class _OnlyRestores(keras.callbacks.Callback):
    """A backup that another worker makes and deletes."""

    def __init__(self, backup: keras.callbacks.Callback):
        super().__init__()
        self._backup = backup

    def on_train_begin(self, logs: Any = None) -> None:
        self._backup.set_model(self.model)
        self._backup.on_train_begin(logs)


class _BeginTogether(keras.callbacks.Callback):
    """Refuses workers that would go on from different epochs, and would then wait for each other for ever."""

    def __init__(self, strategy: tf.distribute.Strategy):
        super().__init__()
        self._strategy = strategy

    def on_train_begin(self, logs: Any = None) -> None:
        own = tf.constant([self.model._initial_epoch or 0])
        everywhere = self._strategy.gather(
            self._strategy.experimental_distribute_values_from_function(lambda context: own), axis=0
        )
        epochs = sorted({*everywhere.numpy().tolist()})
        if len(epochs) > 1:
            raise ValueError(
                f"`Distiller`: all workers must go on from one backup. Received those of the epochs {epochs}. Give "
                "`BackupAndRestore` a folder that every worker reads."
            )
