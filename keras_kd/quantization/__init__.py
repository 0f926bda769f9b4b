"""Quantisation-aware distillation: students that learn while they compute as their int8 file will."""

from keras_kd.quantization.double_rounding import for_the_converter
from keras_kd.quantization.fake_quantize import FakeQuantize
from keras_kd.quantization.rewriting import fake_quantize, is_fake_quantized

__all__ = ["FakeQuantize", "fake_quantize", "for_the_converter", "is_fake_quantized"]
