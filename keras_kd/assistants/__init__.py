"""Teacher assistants: models of sizes between, which hand on what the teacher knows."""

from keras_kd.assistants.chain import TeacherAssistantChain
from keras_kd.assistants.planning import AssistantPlan, plan_assistants
from keras_kd.assistants.scaling import scale_model

__all__ = ["AssistantPlan", "TeacherAssistantChain", "plan_assistants", "scale_model"]
