"""Half-precision students and teachers of any policy: what is compared is compared in float32."""

import keras
import numpy as np
import pytest
from numpy_reference import cross_entropy_values, soft_target_values
from small_models import answers, compiled_distiller, examples, mlp

import keras_kd as kd

X, Y = examples(16)


@pytest.fixture
def of_policy():
    """Makes a model under a policy."""

    def make(policy, *args, **kwargs):
        keras.config.set_dtype_policy(policy)
        return mlp(*args, **kwargs)

    yield make
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("mixed_float16", "float64"), ("mixed_bfloat16", "mixed_float16"), ("float16", "mixed_bfloat16")],
)
def test_losses_of_half_precision_outputs_are_those_of_float64_arithmetic(student, teacher, of_policy):
    """From the models' own rounded outputs, eagerly, for a graph rounds elsewhere; a half softmax is off by 1/1000."""
    teacher, student = of_policy(teacher, 5, seed=1), of_policy(student)
    keras.config.set_dtype_policy("float32")
    said, learnt = (np.float64(answers(model, X)) for model in (teacher, student))
    hidden = [np.float64(keras.Model(m.inputs[0], m.get_layer("hidden").output)(X)) for m in (teacher, student)]
    objectives = [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")]
    distiller = compiled_distiller(student, teacher, objectives, compile_with={"run_eagerly": True})
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    expected = {
        "soft_targets": soft_target_values(said, learnt, 4.0).mean(),
        "hint": np.square(hidden[0] - hidden[1]).mean(),
        "student_loss": cross_entropy_values(Y, learnt).mean(),
    }
    expected["loss"] = 0.3 * expected["student_loss"] + 0.7 * (expected["soft_targets"] + expected["hint"])
    for name, value in expected.items():
        np.testing.assert_allclose(logged[name], value, rtol=2e-6, err_msg=name)


@pytest.mark.parametrize(("policy", "scaled"), [("mixed_float16", True), ("mixed_bfloat16", False)])
def test_a_half_precision_step_is_the_step_of_float32_and_only_float16_scales(policy, scaled, of_policy):
    moves = []
    for name in (policy, "float32"):
        teacher, student = of_policy("float32", 5, seed=1), of_policy(name)
        keras.config.set_dtype_policy("float32")
        before = student.get_weights()
        distiller = compiled_distiller(student, teacher, kd.objectives.Hint("hidden", "hidden"))
        distiller.train_on_batch(X, Y)
        moves.append([after - start for after, start in zip(student.get_weights(), before, strict=True)])
        assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer) == (scaled and name == policy)
    digits = {"mixed_float16": 11, "mixed_bfloat16": 8}[policy]
    for half, full in zip(*moves, strict=True):
        np.testing.assert_allclose(half, full, atol=8 * 2**-digits * np.abs(full).max())
