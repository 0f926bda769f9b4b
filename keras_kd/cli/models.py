"""Model files, read with care."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_kd.foreign import ForeignLayer, as_layer, fault_of
from keras_kd.probabilities import scores_by_graph, scores_by_value
from keras_kd.taps import forward
from keras_kd.teachers import Teacher


def load_model(path: str | os.PathLike, role: str) -> keras.Model:
    """Loads a `.keras` file in Keras's safe mode, which runs no code from the file.

    Args:
        path: The file.
        role: "teacher" or "student", for the text of errors.

    Returns:
        The model.

    Raises:
        ValueError: If there is no such file, or Keras cannot or may not read it.
    """
    if not Path(path).is_file():
        raise ValueError(f"the {role} file does not exist: {path}")
    if Path(path).suffix != ".keras":
        raise ValueError(f"the {role} must be a `.keras` file, as `model.save` writes. Received: {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"the {role} file is damaged, or no `.keras` file at all: {path}")
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # zipfile, h5py and Keras raise all kinds of errors on a broken file
        raise ValueError(f"cannot read the {role} file {path}: {fault_of(error)}") from error


def load_teacher(path: str | os.PathLike) -> keras.Layer:
    """Loads a `.keras` file, a SavedModel folder or a `.tflite` file.

    Raises:
        ValueError: If it is none of these, or cannot be read.
    """
    path = Path(path)
    if path.is_dir() or (path.suffix == ".tflite" and path.is_file()):
        return as_layer(path)
    if path.is_file() and path.suffix != ".keras":
        raise ValueError(f"the teacher must be a `.keras` or `.tflite` file or a SavedModel folder. Received: {path}")
    return load_model(path, "teacher")


def teacher_of(model: keras.Layer, probe: Any = None, **arguments) -> Teacher:
    """A teacher that is declared as what its graph ends in; without a graph, as what it says of a probe."""
    scores = scores_by_graph(model)
    if scores is None and probe is not None:
        scores = scores_by_value(forward(model, probe))
    softmax = scores is not None and set(scores.outputs.values()) == {"softmax"}
    return Teacher(model, outputs="probabilities" if softmax else "logits", **arguments)


def single_shapes(model: keras.Model, role: str) -> tuple[tuple[int | None, ...], int]:
    """Shape of a model's one input, without the batch, and the number of its classes.

    Raises:
        ValueError: If the model has more than one input or output.
    """
    try:
        input_shape, output_shape = model.input_shape, model.output_shape
    except AttributeError:
        raise ValueError(
            f"the {role} `{model.name}` does not tell its shapes. Save a Functional or Sequential model, or distil it "
            "in Python."
        ) from None
    if not all(
        isinstance(shape, tuple) and (not shape or not isinstance(shape[0], tuple))
        for shape in (input_shape, output_shape)
    ):
        raise ValueError(f"the {role} `{model.name}` has several inputs or outputs. Distil it in Python.")
    return tuple(input_shape[1:]), output_shape[-1]


def foreign_shape(model: ForeignLayer, role: str) -> tuple[int | None, ...]:
    """Shape of the one input of a model that is no Keras model, without the batch.

    Raises:
        ValueError: If it takes several inputs, or tells no shape.
    """
    inputs = model.inputs
    if len(inputs) > 1 or (inputs and isinstance(model.input, Mapping)):
        raise ValueError(f"the {role} `{model.name}` takes inputs by name, or several. Distil it in Python.")
    if not inputs or inputs[0].shape.rank is None:
        raise ValueError(
            f"the {role} `{model.name}` does not tell the shape of its inputs. Export it with a signature that does, "
            "or call `keras_kd.cache_teacher` in Python."
        )
    return tuple(inputs[0].shape[1:])
