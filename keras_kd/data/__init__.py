"""Data to distil on: an embedded set, TFDS sets, image folders, and the pipeline that feeds them to `fit`."""

from keras_kd.data.augmentations import random_shift
from keras_kd.data.digits import digits
from keras_kd.data.inputs import input_transform
from keras_kd.data.loading import load
from keras_kd.data.pipeline import pipeline
from keras_kd.data.source import Source

__all__ = ["Source", "digits", "input_transform", "load", "pipeline", "random_shift"]
