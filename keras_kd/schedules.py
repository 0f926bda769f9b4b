"""Alpha, temperature and objective weights that move during training: Keras callbacks that assign variables."""

import math
from typing import Any

import keras

OF_THE_DISTILLER = ("alpha", "temperature")


class Schedule(keras.callbacks.Callback):
    """Sets a number of the distiller at the start of every epoch, and logs it.

    Subclasses write `value(epoch)`.

    Args:
        target: `"alpha"`, `"temperature"`, the name of an objective, whose weight it then is, or
            `"objective.attribute"`, as in `"curriculum_temperature.reversal"`.
    """

    def __init__(self, target: str):
        super().__init__()
        self.target = target

    def value(self, epoch: int) -> float:
        """The value for an epoch, counted from 0."""
        raise NotImplementedError

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        names = getattr(self.model, "objective_names", None)
        if names is None:
            raise ValueError(
                f"`{type(self).__name__}`: it moves a `Distiller`. Received a `{type(self.model).__name__}`."
            )
        objective, _, attribute = self.target.partition(".")
        movable = objective in names and hasattr(self._owner(objective), attribute or "weight")
        if self.target not in OF_THE_DISTILLER and not movable:
            raise ValueError(
                f"`{type(self).__name__}`: `target` must be 'alpha', 'temperature', one of the objectives {names}, or "
                f"a variable of one, as in '{names[0]}.weight'. Received: target={self.target!r}."
            )

    def _owner(self, objective: str) -> Any:
        return self.model.objectives[self.model.objective_names.index(objective)]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = self.value(epoch)
        if self.target in OF_THE_DISTILLER:
            setattr(self.model, self.target, value)
        else:
            objective, _, attribute = self.target.partition(".")
            setattr(self._owner(objective), attribute or "weight", value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            plain = self.target in OF_THE_DISTILLER or "." in self.target
            key = self.target.replace(".", "_") if plain else f"{self.target}_weight"
            logs[key] = self.value(epoch)


class Constant(Schedule):
    """The same value in every epoch.

    Args:
        target: `"alpha"`, `"temperature"`, `"objective"` (its weight), or `"objective.attribute"`.
        value: The value.

    Example:
        >>> [Constant("alpha", 0.5).value(epoch) for epoch in range(3)]
        [0.5, 0.5, 0.5]
    """

    def __init__(self, target: str, value: float):
        super().__init__(target)
        self._value = value

    def value(self, epoch: int) -> float:
        return self._value


class _Ramp(Schedule):
    """From `start` in the first epoch to `end` in the last of `epochs`, and `end` from there on."""

    def __init__(self, target: str, start: float, end: float, epochs: int):
        super().__init__(target)
        if epochs < 2:
            raise ValueError(
                f"`{type(self).__name__}`: `epochs` must be >= 2, to have a way. Received: epochs={epochs}."
            )
        self.start, self.end, self.epochs = start, end, epochs

    def progress(self, epoch: int) -> float:
        """Share of the way that is done, from 0 to 1."""
        return min(epoch / (self.epochs - 1), 1.0)


class Linear(_Ramp):
    """A straight line: `start + (end - start) · epoch / (epochs - 1)`, then `end`.

    Args:
        target: `"alpha"`, `"temperature"`, `"objective"` (its weight), or `"objective.attribute"`.
        start: Value in the first epoch.
        end: Value in the last of the epochs and after.
        epochs: Length of the way, `>= 2`.

    Raises:
        ValueError: If `epochs` is less than 2; when training begins, if there is no such target.

    Example:
        >>> [Linear("temperature", 8.0, 2.0, epochs=3).value(epoch) for epoch in range(4)]
        [8.0, 5.0, 2.0, 2.0]
    """

    def value(self, epoch: int) -> float:
        return self.start + (self.end - self.start) * self.progress(epoch)


class Cosine(_Ramp):
    """Half a cosine: `end + (start - end) · (1 + cos(π · epoch / (epochs - 1))) / 2`, then `end`.

    Args:
        target: `"alpha"`, `"temperature"`, `"objective"` (its weight), or `"objective.attribute"`.
        start: Value in the first epoch.
        end: Value in the last of the epochs and after.
        epochs: Length of the way, `>= 2`.

    Raises:
        ValueError: If `epochs` is less than 2; when training begins, if there is no such target.

    Example:
        >>> [round(Cosine("alpha", 1.0, 0.0, epochs=5).value(epoch), 3) for epoch in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    def value(self, epoch: int) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * self.progress(epoch))) / 2


class WarmUp(Schedule):
    """A linear start: `value · (epoch + 1) / epochs`, then `value`.

    Args:
        target: `"alpha"`, `"temperature"`, `"objective"` (its weight), or `"objective.attribute"`.
        value: What it warms up to.
        epochs: Length of the warm-up, `>= 1`.

    Raises:
        ValueError: If `epochs` is less than 1; when training begins, if there is no such target.

    Example:
        >>> [WarmUp("soft_targets", 1.0, epochs=4).value(epoch) for epoch in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(self, target: str, value: float, epochs: int):
        super().__init__(target)
        if epochs < 1:
            raise ValueError(f"`WarmUp`: `epochs` must be >= 1. Received: epochs={epochs}.")
        self._value, self.epochs = value, epochs

    def value(self, epoch: int) -> float:
        return self._value * min((epoch + 1) / self.epochs, 1.0)
