"""Numbers that move while training: variables a traced step reads anew, set by plain assignment."""

import math
from typing import Any

import keras


class MovableScalar:
    """Attribute of a Keras layer: a float32 variable, set by assigning a number, without a retrace.

    Args:
        low: Least value allowed.
        high: Greatest value allowed. Defaults to no bound.
        open_low: Whether `low` itself is excluded. Defaults to `False`.
    """

    def __init__(self, low: float, high: float = float("inf"), open_low: bool = False):
        self.low, self.high, self.open_low = low, high, open_low

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        return self if layer is None else getattr(layer, f"_{self.name}_variable")

    def __set__(self, layer: keras.Layer, value: float) -> None:
        value = self.checked(layer, value)
        variable = getattr(layer, f"_{self.name}_variable", None)
        if variable is not None:
            variable.assign(value)
            return
        variable = layer.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
            autocast=False,
            name=self.name,
        )
        setattr(layer, f"_{self.name}_variable", variable)

    def checked(self, layer: keras.Layer, value: Any) -> float:
        """Reads a number within the bounds.

        Raises:
            ValueError: If it is none.
        """
        return checked_number(layer, self.name, value, low=self.low, high=self.high, open_low=self.open_low)


def checked_number(
    owner: Any, name: str, value: Any, *, low: float, high: float = float("inf"), open_low: bool = False
) -> float:
    """Reads a number within bounds.

    Raises:
        ValueError: If it is none, in the name of the owner's class.
    """
    try:
        number = float(keras.ops.convert_to_numpy(value))
    except (TypeError, ValueError):
        number = float("nan")
    below = number <= low if open_low else number < low
    if below or number > high or not math.isfinite(number):
        bounds = f"{'>' if open_low else '>='} {low:g}"
        bounds += "" if high == float("inf") else f" and <= {high:g}"
        raise ValueError(f"`{type(owner).__name__}`: `{name}` must be {bounds}. Received: {name}={value!r}.")
    return number


def as_float(variable: Any) -> float:
    """The number a variable holds now."""
    return float(keras.ops.convert_to_numpy(variable))
