"""A finished student as SavedModel and TFLite, with a report on parity, size and latency."""

from keras_kd.export.metadata import read_labels, read_metadata
from keras_kd.export.report import ExportedFile, ExportReport
from keras_kd.export.runtime import LiteRTModel
from keras_kd.export.student import export_student

__all__ = ["ExportReport", "ExportedFile", "LiteRTModel", "export_student", "read_labels", "read_metadata"]
