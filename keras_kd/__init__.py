"""Knowledge distillation for Keras 3 and TensorFlow, from a large model to the file on the phone."""

from typing import TYPE_CHECKING, Any

from keras_kd import data, losses, objectives, schedules
from keras_kd.distiller import Distiller
from keras_kd.export import ExportReport, export_student
from keras_kd.listening import tap
from keras_kd.teachers import Ensemble, Teacher

if TYPE_CHECKING:
    from keras_kd.assistants import AssistantPlan, TeacherAssistantChain, plan_assistants, scale_model
    from keras_kd.cache import cache_teacher, open_cache

__version__ = "0.1.0"

__all__ = [
    "AssistantPlan",
    "Distiller",
    "Ensemble",
    "ExportReport",
    "Teacher",
    "TeacherAssistantChain",
    "cache_teacher",
    "data",
    "export_student",
    "losses",
    "objectives",
    "open_cache",
    "plan_assistants",
    "scale_model",
    "schedules",
    "tap",
]


def __getattr__(name: str) -> Any:
    # Imported on first use, as in `keras_kd.cache`.
    if name in ("cache_teacher", "open_cache"):
        from keras_kd import cache

        return getattr(cache, name)
    if name in ("AssistantPlan", "TeacherAssistantChain", "plan_assistants", "scale_model"):
        from keras_kd import assistants

        return getattr(assistants, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
