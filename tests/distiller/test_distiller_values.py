"""The loss, its parts and its gradients are the published ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_reference import cross_entropy_values, soft_target_gradient, soft_target_values
from small_models import answers, assert_same, compiled_distiller, constant, examples, mlp

import keras_kd as kd


def reference_step(student, teacher_logits, x, y, *, alpha, temperature, rate):
    """The issue's formula, written out in TensorFlow; returns the weights after one SGD step."""
    with tf.GradientTape() as tape:
        logits = student(x, training=True)
        hard = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        p = tf.nn.softmax(teacher_logits / temperature)
        log_q = tf.nn.log_softmax(logits / temperature)
        soft = temperature**2 * tf.reduce_mean(tf.reduce_sum(p * (tf.math.log(p) - log_q), -1))
        total = alpha * hard + (1 - alpha) * soft + sum(student.losses)
    weights = [variable.value for variable in student.trainable_variables]
    gradients = tape.gradient(total, weights)
    return [(w - rate * g).numpy() for w, g in zip(weights, gradients, strict=True)]


def test_default_loss_and_step_equal_the_formula():
    x, y = examples()
    teacher, student = mlp(16, seed=1), mlp(l2=0.02)
    teacher_logits, student_logits = answers(teacher, x), answers(student, x)
    hard = cross_entropy_values(y, student_logits).mean()
    soft = soft_target_values(teacher_logits, student_logits, 4.0).mean()
    penalty = 0.02 * np.sum(np.float64(student.get_weights()[0]) ** 2)
    stepped = reference_step(student, teacher_logits, x, y, alpha=0.3, temperature=4.0, rate=0.1)

    history = compiled_distiller(student, teacher).fit(x, y, batch_size=len(x), verbose=0).history

    assert set(history) == {"loss", "student_loss", "soft_targets"}
    np.testing.assert_allclose(history["student_loss"], [hard], rtol=1e-5)
    np.testing.assert_allclose(history["soft_targets"], [soft], rtol=1e-5)
    np.testing.assert_allclose(history["loss"], [0.3 * hard + 0.7 * soft + penalty], rtol=1e-5)
    assert_same(student.get_weights(), stepped, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_the_whole_loss_equals_finite_differences():
    x, y = examples()
    teacher, student = mlp(16, seed=1), mlp(width=3)
    teacher_logits, before = answers(teacher, x), student.get_weights()

    def loss_at(weights):
        hidden = np.tanh(np.float64(x) @ weights[0] + weights[1])
        logits = hidden @ weights[2] + weights[3]
        soft = soft_target_values(teacher_logits, logits, 2.0).mean()
        return 0.4 * cross_entropy_values(y, logits).mean() + 0.6 * soft

    distiller = compiled_distiller(
        student, teacher, alpha=0.4, temperature=2.0, compile_with={"optimizer": keras.optimizers.SGD(1.0)}
    )
    distiller.train_on_batch(x, y)
    for index, (old, new) in enumerate(zip(before, student.get_weights(), strict=True)):
        numeric = np.zeros(old.shape)
        for place in np.ndindex(old.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [np.float64(weight) for weight in before]
                moved[index][place] += step
                ends.append(loss_at(moved))
            numeric[place] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(old - new, numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_gradient_is_right_where_clipping_would_lose_it(size, temperature):
    teacher_logits, student_logits = [size, 0.0, 0.0], [0.0, size, 0.0]
    teacher, student = constant(teacher_logits), constant(student_logits)
    distiller = compiled_distiller(
        student,
        teacher,
        alpha=0.0,
        temperature=temperature,
        compile_with={"optimizer": keras.optimizers.SGD(1.0), "loss": None},
    )
    logged = distiller.train_on_batch(np.zeros((2, 4), "float32"), return_dict=True)
    expected = soft_target_gradient(teacher_logits, student_logits, temperature)
    # At 1e4 one float32 step of the bias is 0.001.
    np.testing.assert_allclose(np.array(student_logits) - student.layers[-1].bias, expected, atol=1e-6 * size)
    np.testing.assert_allclose(
        logged["soft_targets"], soft_target_values(teacher_logits, student_logits, temperature), rtol=1e-5
    )


def test_logits_of_ten_thousand_beside_labels():
    x, y = np.zeros((3, 4), "float32"), np.array([0, 1, 2])
    teacher_logits, student_logits = [1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]
    student = constant(student_logits)
    logged = compiled_distiller(student, constant(teacher_logits)).train_on_batch(x, y, return_dict=True)
    hard = cross_entropy_values(y, np.tile(student_logits, (3, 1))).mean()
    soft = soft_target_values(teacher_logits, student_logits, 4.0)
    np.testing.assert_allclose(logged["loss"], 0.3 * hard + 0.7 * soft, rtol=1e-5)


@pytest.mark.parametrize("teacher_policy", ["mixed_float16", "float32"])
@pytest.mark.parametrize("globally", [True, False])
def test_mixed_float16_equals_float32(globally, teacher_policy):
    x, y = examples(32)
    reference_teacher, reference = mlp(16, seed=1), mlp(l2=0.02)
    expected = compiled_distiller(reference, reference_teacher).fit(x, y, batch_size=16, shuffle=False, verbose=0)

    keras.config.set_dtype_policy(teacher_policy)
    teacher = mlp(16, seed=1)
    keras.config.set_dtype_policy("mixed_float16")
    student = mlp(l2=0.02)
    if not globally:
        keras.config.set_dtype_policy("float32")
    before = student.get_weights()
    distiller = compiled_distiller(student, teacher)
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    history = distiller.fit(x, y, batch_size=16, shuffle=False, verbose=0)

    assert student(x[:1]).dtype == "float16"
    for key, value in expected.history.items():
        np.testing.assert_allclose(history.history[key], value, rtol=5e-3)
    moves = [new - old for new, old in zip(student.get_weights(), before, strict=True)]
    wanted = [new - old for new, old in zip(reference.get_weights(), before, strict=True)]
    assert min(np.abs(move).max() for move in wanted) > 1e-3
    assert_same(moves, wanted, rtol=0.05, atol=5e-4)


def test_mixed_float16_at_logits_of_ten_thousand():
    teacher_logits, student_logits = [1e4, 0.0, 0.0], [0.0, 1e4, 0.0]
    keras.config.set_dtype_policy("mixed_float16")
    student = constant(student_logits)
    # Scaled by Keras's first 2**15, a gradient of 4 overflows float16 and Keras skips the step.
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=256.0)
    distiller = compiled_distiller(student, constant(teacher_logits), alpha=0.0, compile_with={"optimizer": optimizer})
    logged = distiller.train_on_batch(np.zeros((8, 4), "float32"), return_dict=True)
    np.testing.assert_allclose(logged["loss"], 4e4, rtol=1e-5)
    np.testing.assert_allclose(
        np.array(student_logits) - student.layers[-1].bias, 0.1 * np.array([-4.0, 4.0, 0.0]), atol=2e-3
    )


def test_predict_gives_what_the_student_gives():
    x, _ = examples()
    student = mlp()
    distiller = kd.Distiller(student, mlp(16))
    np.testing.assert_array_equal(distiller.predict(x, verbose=0), student.predict(x, verbose=0))


def test_regularisation_is_not_weighed_by_alpha():
    x, y = examples()
    student = mlp(l2=0.5)
    penalty = 0.5 * np.sum(np.float64(student.get_weights()[0]) ** 2)
    for alpha in (0.0, 0.5, 1.0):
        distiller = compiled_distiller(
            student, mlp(16, seed=1), alpha=alpha, compile_with={"optimizer": keras.optimizers.SGD(0.0)}
        )
        logged = distiller.train_on_batch(x, y, return_dict=True)
        parts = alpha * logged["student_loss"] + (1 - alpha) * logged["soft_targets"]
        np.testing.assert_allclose(logged["loss"] - parts, penalty, rtol=1e-4)


def test_objectives_add_up_by_weight():
    x, y = examples()
    teacher, student = mlp(16, seed=1), mlp()
    teacher_logits, student_logits = answers(teacher, x), answers(student, x)
    objectives = [kd.objectives.SoftTargets(2.0, weight=0.5), kd.objectives.SoftTargets(weight=3.0, name="warm")]
    logged = compiled_distiller(student, teacher, objectives, alpha=0.25).train_on_batch(x, y, return_dict=True)
    hard = cross_entropy_values(y, student_logits).mean()
    cold = soft_target_values(teacher_logits, student_logits, 2.0).mean()
    warm = soft_target_values(teacher_logits, student_logits, 4.0).mean()
    np.testing.assert_allclose(logged["soft_targets"], cold, rtol=1e-5)
    np.testing.assert_allclose(logged["warm"], warm, rtol=1e-5)
    np.testing.assert_allclose(logged["loss"], 0.25 * hard + 0.75 * (0.5 * cold + 3 * warm), rtol=1e-5)
