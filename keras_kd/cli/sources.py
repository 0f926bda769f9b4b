"""What a data set and a model file are to each other: shapes, classes and scale."""

import os
from pathlib import Path

import keras
import tensorflow as tf

from keras_kd import data
from keras_kd.cli.models import foreign_shape, single_shapes
from keras_kd.foreign import ForeignLayer

PROBE_EXAMPLES = 1000


def steady_name(name_or_path: str) -> str:
    """The name of a data set, wherever the next command is run: folders by their whole path."""
    folder = name_or_path != "digits" and os.path.isdir(name_or_path)
    return str(Path(name_or_path).resolve()) if folder else name_or_path


def probe_of(source: data.Source, shape: tuple[int | None, ...]) -> tf.Tensor:
    """A small batch for a model of such inputs."""
    x, _ = next(iter(data.pipeline(source.validation.take(2), transform=data.input_transform(source, shape))))
    return x


def checked_shape(model: keras.Layer, role: str, source: data.Source) -> tuple[int | None, ...]:
    """Shape of a model's one input, without the batch.

    Raises:
        ValueError: If it has several inputs or outputs, tells no shape, or has other classes than the data set.
    """
    if isinstance(model, ForeignLayer):
        shape = foreign_shape(model, role)
        said = keras.tree.flatten(model(probe_of(source, shape)))
        classes = said[0].shape[-1] if len(said) == 1 else None
    else:
        shape, classes = single_shapes(model, role)
    if classes is None:
        raise ValueError(f"the {role} `{model.name}` has several outputs. Distil it in Python.")
    if classes != source.num_classes:
        raise ValueError(
            f"the {role} `{model.name}` has {classes} classes, but the data set {source.name} has {source.num_classes}."
        )
    return shape


def accuracy(model: keras.Layer, dataset: tf.data.Dataset) -> float:
    """Share of examples whose class a model names."""
    right = keras.metrics.SparseCategoricalAccuracy()
    for x, y in dataset:
        right.update_state(y, model(x, training=False))
    return float(right.result())


def scale_for(
    model: keras.Layer, shape: tuple[int | None, ...], source: data.Source, role: str = "teacher"
) -> float | None:
    """What the stored values are multiplied by: nothing, where the model was plainly trained on them as they are."""
    if not source.train.element_spec[0].dtype.is_integer:
        return None
    probe = source.validation.take(PROBE_EXAMPLES)
    scaled, stored = (
        accuracy(model, data.pipeline(probe, transform=data.input_transform(source, shape, scale=scale)))
        for scale in (None, 1.0)
    )
    heirs = ", for the student too" if role == "teacher" else ""
    print(
        f"The {role} is right on {scaled:.1%} of validation examples scaled to [0, 1] or [-1, 1], on {stored:.1%} as "
        f"stored: {'scaled' if scaled >= stored else 'stored'} values it is{heirs}."
    )
    return None if scaled >= stored else 1.0
