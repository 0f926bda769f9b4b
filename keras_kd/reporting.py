"""What of a phase is logged: the means and metrics that it has updated, and no others."""

from typing import Any

import keras

from keras_kd.teacher_metrics import TEACHER_METRICS, update_teacher_metrics


class ReportsThePhase:
    """The part of a distiller that logs."""

    def _report(self, x, y, sample_weight, teacher, student, means: dict[str, Any]) -> dict[str, Any]:
        """Updates the means by batch size and returns the results of all that this phase has updated."""
        own = {mean.name: mean for mean in (self._loss_tracker, *self._means)}
        means = {name: value for name, value in means.items() if value is not None}
        batch_size = keras.ops.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
        for name, value in means.items():
            # Keras divides a loss by the number of replicas, for the gradients to add up.
            own[name].update_state(value * self.distribute_strategy.num_replicas_in_sync, sample_weight=batch_size)
        asked = [name for name in TEACHER_METRICS if name in self._asked and teacher is not None]
        update_teacher_metrics({name: own[name] for name in asked}, teacher, student, self.objectives)
        compiled = {} if y is None else self.compute_metrics(x, y, student.structure, sample_weight)
        compiled = {name: result for name, result in compiled.items() if name not in own}
        return {**{name: own[name].result() for name in (*means, *asked)}, **compiled}

    def _results_as_they_stand(self) -> dict[str, Any]:
        """All that may be logged, by name; without labels the compiled metrics are never built."""
        compiled = self._compile_metrics
        unbuilt = compiled is not None and not compiled.built
        own = {mean.name: mean.result() for mean in (self._loss_tracker, *self._means)}
        return own if unbuilt else {**self.get_metrics_result(), **own}

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        # Keras reports every metric that a model owns; a distiller those that the phase has updated.
        if self._compile_metrics is not None and not self._compile_metrics.built:
            return logs
        results = self.get_metrics_result()
        return {name: results.get(name, value) for name, value in logs.items()}
