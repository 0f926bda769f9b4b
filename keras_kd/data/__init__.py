"""Data to distil on: an embedded set, TFDS sets, image folders, and the pipeline that feeds them to `fit`."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_kd.data.digits import digits
from keras_kd.data.inputs import input_transform
from keras_kd.data.loading import load
from keras_kd.data.pipeline import pipeline
from keras_kd.data.source import Source

if TYPE_CHECKING:
    from keras_kd.data import multimodal
    from keras_kd.data.audio_augmentations import random_gain, random_noise, random_time_shift, spec_augment
    from keras_kd.data.augmentations import Augmentation, MixingAugmentation, compose
    from keras_kd.data.image_augmentations import (
        random_colour,
        random_crop,
        random_cutout,
        random_flip,
        random_rotation,
        random_shift,
    )
    from keras_kd.data.mixing import cutmix, mixup

__all__ = [
    "Augmentation",
    "MixingAugmentation",
    "Source",
    "compose",
    "cutmix",
    "digits",
    "input_transform",
    "load",
    "mixup",
    "multimodal",
    "pipeline",
    "random_colour",
    "random_crop",
    "random_cutout",
    "random_flip",
    "random_gain",
    "random_noise",
    "random_rotation",
    "random_shift",
    "random_time_shift",
    "spec_augment",
]

_AUGMENTATIONS = ("augmentations", "image_augmentations", "audio_augmentations", "mixing")


def __getattr__(name: str) -> Any:
    # Imported on first use: `import keras_kd` is to cost little.
    if name == "multimodal":
        return importlib.import_module("keras_kd.data.multimodal")
    if name in __all__:
        for home in (importlib.import_module(f"keras_kd.data.{home}") for home in _AUGMENTATIONS):
            if name in vars(home):
                return vars(home)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
