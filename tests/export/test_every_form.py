"""Ten architectures in five forms: the file says what Keras says, read by plain LiteRT; or a true refusal."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_kd.export import export_student
from tests.export import architectures as kinds

FORMS = ("float32", "float16", "dynamic", "int8", "int16x8")
INPUTS = {
    kinds.mlp: lambda: kinds.numbers(30, 6),
    kinds.cnn: lambda: kinds.numbers(30, 8, 8, 2),
    kinds.depthwise_cnn: lambda: kinds.numbers(30, 8, 8, 2),
    kinds.residual: lambda: kinds.numbers(30, 8, 8, 2),
    kinds.mobilenet: lambda: kinds.numbers(30, 32, 32, 3),
    kinds.gru: lambda: kinds.words(30, 6),
    kinds.conformer: lambda: kinds.numbers(30, 16, 8),
    kinds.transformer: lambda: kinds.words(30, 8),
    kinds.fusion: lambda: {"image": kinds.numbers(30, 8, 8, 2), "text": kinds.words(30, 6)},
    kinds.two_heads: lambda: kinds.numbers(30, 6),
}
# How TFLite refuses 16 bits: Keras's LayerNormalization negates, its Embedding computes with the ids.
NO_INT16 = {
    kinds.residual: r"NEG at '\S+/layer_normalization\S*/Neg'",
    kinds.mobilenet: r"HARD_SWISH at '\S+/activation\S*/mul'",
    kinds.gru: r"LESS at '\S+/embedding\S*/Less', ADD at '\S+/embedding\S*/add'",
    kinds.conformer: r"NEG at '\S+/layer_normalization\S*/Neg'",
    kinds.transformer: r"LESS at '\S+/embedding\S*/Less', ADD at '\S+/embedding\S*/add'",
    kinds.fusion: r"LESS at '\S+/embedding\S*/Less', ADD at '\S+/embedding\S*/add'",
}
# Largest difference from Keras in steps of 8 bits over the output's range. Errors add up over the six steps of the GRU
# and the fifty layers of MobileNetV3.
STEPS = {"float32": 0.01, "float16": 0.5, "dynamic": 4, "int8": 8, "int16x8": 4}
DEEP_STEPS = STEPS | {"dynamic": 12, "int8": 30}
# Types that tell the forms apart. Keras's weights of under 1,024 elements stay in float as "dynamic".
TYPES = {
    "float32": set(),
    "float16": {np.float16},
    "dynamic": {np.int8},
    "int8": {np.int8},
    "int16x8": {np.int8, np.int16},
}


def built(build):
    kinds.restart()
    return build(), INPUTS[build]()


def from_keras(student, x):
    """Outputs by the name of their key or layer."""
    said = student(x, training=False)
    said = said if isinstance(said, dict) else {student.layers[-1].name: said}
    return {name: np.asarray(array) for name, array in said.items()}


def from_litert(path, x):
    """Outputs as the plain runtime gives them, and the types of all tensors."""
    interpreter = Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner()
    named = x if isinstance(x, dict) else {next(iter(runner.get_input_details())): x}
    types = {details["dtype"] for details in interpreter.get_tensor_details()}
    return runner(**named), types


@pytest.mark.parametrize("build", INPUTS, ids=lambda build: build.__name__)
def test_the_file_says_what_keras_says(build, tmp_path):
    student, x = built(build)
    forms = [form for form in FORMS if form != "int16x8" or build not in NO_INT16]
    report = export_student(student, tmp_path, formats="tflite", quantize=forms, representative_data=x)
    expected = from_keras(student, x)
    steps = DEEP_STEPS if build in (kinds.gru, kinds.mobilenet) else STEPS
    for form, file in zip(forms, report.files, strict=True):
        found, types = from_litert(file.path, x)
        narrow = types & {np.float16, np.int8, np.int16}
        assert narrow == TYPES[form] or (form == "dynamic" and not narrow)
        assert found.keys() == expected.keys()
        for name, wanted in expected.items():
            assert found[name].shape == wanted.shape
            step = np.ptp(wanted) / 255
            assert np.abs(found[name] - wanted).max() <= steps[form] * step, form


@pytest.mark.parametrize("build", NO_INT16, ids=lambda build: build.__name__)
def test_what_16_bits_do_not_do_is_named_with_its_layer(build, tmp_path):
    student, x = built(build)
    with pytest.raises(ValueError, match=rf"Quantize with 'int8', 'dynamic' .* as int16x8 needs {NO_INT16[build]}"):
        export_student(student, tmp_path, formats="tflite", quantize="int16x8", representative_data=x)
    assert list(tmp_path.iterdir()) == []
