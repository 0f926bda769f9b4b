"""Knowledge distillation for Keras 3 and TensorFlow, from a large model to the file on the phone."""

from keras_kd import data, losses, objectives, schedules
from keras_kd.cache import cache_teacher, open_cache
from keras_kd.distiller import Distiller
from keras_kd.export import ExportReport, export_student
from keras_kd.listening import tap
from keras_kd.teachers import Ensemble, Teacher

__version__ = "0.1.0"

__all__ = [
    "Distiller",
    "Ensemble",
    "ExportReport",
    "Teacher",
    "cache_teacher",
    "data",
    "export_student",
    "losses",
    "objectives",
    "open_cache",
    "schedules",
    "tap",
]
