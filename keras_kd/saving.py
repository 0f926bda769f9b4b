"""What of a distiller is saved and exported: the student and what trains with it, never the teacher."""

from typing import Any

import keras

from keras_kd.scalars import as_float
from keras_kd.seeds import load_seeds, save_seeds


class SavesTheStudent:
    """The part of a distiller that goes to disk and comes back."""

    _serialized: tuple[str, ...] = ("dtype", "student", "objectives")

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        save_seeds(self, store)

    def load_own_variables(self, store: Any) -> None:
        saved = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras's store has keys, but no iterator)
        load_seeds(self, saved)
        super().load_own_variables(saved)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        if not config:
            return config
        metrics = [*self._asked, *(config["metrics"] or [])] if self._asked else config["metrics"]
        return {**config, "metrics": metrics, "on_nonfinite": self._finite_steps.policy}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # Keras calls `compile` for models that do not override it only.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Exports the student alone, as `keras.Model.export` does."""
        return self.finished_student.export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the distiller anew, all but the teacher."""
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "student": keras.saving.serialize_keras_object(self.student),
            "objectives": [keras.saving.serialize_keras_object(o) for o in self.objectives],
            "alpha": as_float(self.alpha),
            "temperature": as_float(self.temperature),
            "student_inputs": self._select.keys,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes a distiller without a teacher."""
        arguments = {**config}
        for key in cls._serialized:
            arguments[key] = keras.saving.deserialize_keras_object(config[key])
        policy = arguments.pop("dtype")
        distiller = cls(teacher=None, **arguments)
        # Keras 3.15 does not keep the policy of a Functional student, by which `compile` decides on loss scaling.
        distiller.dtype_policy = policy
        return distiller
