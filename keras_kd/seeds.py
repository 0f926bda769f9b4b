"""The states of a model's random generators, which Keras 3.15 leaves out of what it saves.

Without them a resumed run would draw its Dropout masks from the start again.
"""

from typing import Any

import keras


def save_seeds(model: keras.Model, store: Any) -> None:
    """Adds the states to a store of variables."""
    for index, seed in enumerate(_seeds(model)):
        store[f"seed_{index}"] = keras.ops.convert_to_numpy(seed)


def load_seeds(model: keras.Model, saved: dict[str, Any]) -> None:
    """Takes the states out of saved variables."""
    seeds = {key: saved.pop(key) for key in list(saved) if key.startswith("seed_")}
    for index, seed in enumerate(_seeds(model)):
        if f"seed_{index}" in seeds:
            seed.assign(seeds[f"seed_{index}"])


def _seeds(model: keras.Model) -> list[keras.Variable]:
    known = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in known]
