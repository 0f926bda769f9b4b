"""What of an adversarial distiller is saved beside the student: the discriminator, its optimizer and the noise."""

import json
from typing import Any

import keras
import numpy as np

from keras_kd.scalars import as_float

KEY = "discriminator"


class SavesBothPlayers:
    """The part of an adversarial distiller that goes to disk and comes back."""

    _serialized = ("dtype", "student", "objectives", "discriminator", "mode", "on")

    def build_discriminator_optimizer(self) -> None:
        """As soon as there is what it moves, so that its state can be restored."""
        judge, optimizer = self.discriminator, self.discriminator_optimizer
        if optimizer is not None and judge is not None and judge.built and not optimizer.built:
            optimizer.build(judge.trainable_variables)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        judge = keras.saving.serialize_keras_object(self.discriminator_optimizer)
        return {**config, "discriminator_optimizer": judge} if config else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        super().compile_from_config(config)
        self.build_discriminator_optimizer()

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.discriminator is not None:
            text = json.dumps(keras.saving.serialize_keras_object(self.discriminator))
            store[KEY] = np.frombuffer(text.encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        saved = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras's store has keys, but no iterator)
        text = saved.pop(KEY, None)
        if text is not None and self.discriminator is None:
            # Keras loads no weights into what is not there, and the default discriminator waits for the first `fit`.
            self.discriminator = keras.saving.deserialize_keras_object(json.loads(np.array(text).tobytes().decode()))
            self.build_discriminator_optimizer()
        super().load_own_variables(saved)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the distiller anew, all but the teacher."""
        return {
            **super().get_config(),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "adversarial_weight": as_float(self.adversarial_weight),
            "on": keras.saving.serialize_keras_object(self.judged),
            "mode": keras.saving.serialize_keras_object(self.mode),
            "discriminator_steps": self.discriminator_steps,
            "label_smoothing": self.label_smoothing,
            # Of a discriminator that is there, the layers know.
            "spectral_normalization": self.spectral_normalization and self.discriminator is None,
        }
