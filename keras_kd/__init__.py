"""Knowledge distillation for Keras 3 and TensorFlow, from a large model to the file on the phone."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_kd import (
    adversarial,
    data,
    data_free,
    losses,
    modalities,
    objectives,
    quantization,
    robust,
    schedules,
)
from keras_kd.adversarial import AdversarialDistiller  # registered, so that saved models load
from keras_kd.data_free import DataFreeDistiller
from keras_kd.distiller import Distiller
from keras_kd.listening import tap
from keras_kd.modalities import ModalityDropout  # models that hold its layers must load
from keras_kd.robust import RobustDistiller
from keras_kd.teachers import Ensemble, Teacher

if TYPE_CHECKING:
    from keras_kd import export, page, pruning
    from keras_kd.assistants import AssistantPlan, TeacherAssistantChain, plan_assistants, scale_model
    from keras_kd.backup import BackupAndRestore
    from keras_kd.cache import cache_teacher, open_cache
    from keras_kd.calibration import calibrate_bias
    from keras_kd.export import ExportReport, export_student

__version__ = "0.1.0"

__all__ = [
    "AdversarialDistiller",
    "AssistantPlan",
    "BackupAndRestore",
    "DataFreeDistiller",
    "Distiller",
    "Ensemble",
    "ExportReport",
    "ModalityDropout",
    "RobustDistiller",
    "Teacher",
    "TeacherAssistantChain",
    "adversarial",
    "cache_teacher",
    "calibrate_bias",
    "data",
    "data_free",
    "export",
    "export_student",
    "losses",
    "modalities",
    "objectives",
    "open_cache",
    "page",
    "plan_assistants",
    "pruning",
    "quantization",
    "robust",
    "scale_model",
    "schedules",
    "tap",
]


_LAZY = {
    "BackupAndRestore": "backup",
    **dict.fromkeys(("AssistantPlan", "TeacherAssistantChain", "plan_assistants", "scale_model"), "assistants"),
    **dict.fromkeys(("cache_teacher", "open_cache"), "cache"),
    "calibrate_bias": "calibration",
    **dict.fromkeys(("ExportReport", "export_student"), "export"),
}
_LAZY_MODULES = ("export", "page", "pruning")


def __getattr__(name: str) -> Any:
    # Imported on first use, as in `keras_kd.cache`.
    if name in _LAZY:
        return getattr(importlib.import_module(f"keras_kd.{_LAZY[name]}"), name)
    if name in _LAZY_MODULES:
        return importlib.import_module(f"keras_kd.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
