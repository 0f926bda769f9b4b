"""Distillation without data: a generator makes up what the student learns from."""

from keras_kd.data_free.distiller import DataFreeDistiller
from keras_kd.data_free.generators import image_generator
from keras_kd.data_free.methods import DAFL, DFAD, LogitsMAE

__all__ = ["DAFL", "DFAD", "DataFreeDistiller", "LogitsMAE", "image_generator"]
