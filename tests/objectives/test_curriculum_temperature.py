"""A temperature that is trained against the student."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax

import keras_kd as kd
from keras_kd.objectives.temperatures import CurriculumTemperature
from keras_kd.signals import Signals
from tests.losses.cases.logits import kl

TEACHER, STUDENT = np.random.default_rng(0).normal(scale=2, size=(2, 6, 4))


def value_at(theta, low=1.0, high=21.0):
    return kl(TEACHER, STUDENT, low + (high - low) * expit(theta)).mean()


def gradients(objective):
    student = tf.Variable(STUDENT, dtype="float32")
    with tf.GradientTape() as tape:
        values = objective.values(Signals.of(np.float32(TEACHER)), Signals.of(student), temperature=9.0)["output_0"]
        mean = tf.reduce_mean(values)
    return float(mean), *(np.asarray(g) for g in tape.gradient(mean, (objective.theta.value, student)))


@pytest.mark.parametrize("theta", [-2.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("reversal", [0.0, 0.25, 1.0, 2.0])
def test_the_gradient_by_theta_is_reversed_and_the_students_is_not(theta, reversal):
    objective = CurriculumTemperature(low=2.0, high=8.0, reversal=reversal)
    objective.theta.assign(theta)
    value, of_theta, of_student = gradients(objective)
    temperature = 2 + 6 * expit(theta)
    np.testing.assert_allclose(float(objective.temperature), temperature, rtol=1e-6)
    np.testing.assert_allclose(value, value_at(theta, 2.0, 8.0), rtol=1e-5)
    rise = (value_at(theta + 1e-4, 2.0, 8.0) - value_at(theta - 1e-4, 2.0, 8.0)) / 2e-4
    np.testing.assert_allclose(of_theta, -reversal * rise, rtol=2e-3, atol=1e-6)
    expected = temperature * (softmax(STUDENT / temperature, -1) - softmax(TEACHER / temperature, -1)) / len(STUDENT)
    np.testing.assert_allclose(of_student, expected, rtol=1e-4, atol=1e-6)


def test_theta_starts_at_1_and_the_reversal_moves_in_a_traced_step():
    objective = CurriculumTemperature()
    assert float(objective.theta) == 1.0
    traced = tf.function(lambda: gradients_in_graph(objective))
    rise = (value_at(1 + 1e-4) - value_at(1 - 1e-4)) / 2e-4
    for reversal in (0.0, 0.5, 2.0):
        objective.reversal = reversal
        np.testing.assert_allclose(traced(), -reversal * rise, rtol=2e-3, atol=1e-6)
    assert traced.experimental_get_tracing_count() == 1


def gradients_in_graph(objective):
    with tf.GradientTape() as tape:
        signals = Signals.of(tf.constant(TEACHER, "float32")), Signals.of(tf.constant(STUDENT, "float32"))
        mean = tf.reduce_mean(objective.values(*signals, temperature=9.0)["output_0"])
    return tape.gradient(mean, objective.theta.value)


def constant(logits):
    bias = keras.initializers.Constant(np.array(logits, "float32"))
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="zeros", bias_initializer=bias)]
    )


def distiller(**arguments):
    made = kd.Distiller(
        constant([2.0, 0.0, 1.0]), constant([0.0, 3.0, 0.5]), CurriculumTemperature(**arguments), alpha=0
    )
    made.compile(keras.optimizers.SGD(0.1))
    return made


def test_a_step_of_training_makes_it_harder_for_the_student():
    made = distiller(low=1.0, high=5.0)
    (objective,) = made.objectives

    def loss_at(theta):
        return kl(np.array([0.0, 3.0, 0.5]), np.array([2.0, 0.0, 1.0]), 1 + 4 * expit(theta))

    rise = (loss_at(1 + 1e-4) - loss_at(1 - 1e-4)) / 2e-4
    logs = made.train_on_batch(np.zeros((4, 2), "float32"), return_dict=True)
    np.testing.assert_allclose(logs["curriculum_temperature"], loss_at(1.0), rtol=1e-5)
    np.testing.assert_allclose(float(objective.theta), 1 + 0.1 * rise, rtol=1e-4)
    assert loss_at(float(objective.theta)) > loss_at(1.0)


def test_the_reversal_follows_a_cosine_of_ten_epochs():
    made = distiller(low=1.0, high=5.0)
    (objective,) = made.objectives
    schedule, seen = kd.schedules.Cosine("curriculum_temperature.reversal", 0.0, 1.0, epochs=11), []
    record = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(float(objective.reversal)))
    made.fit(np.zeros((4, 2), "float32"), epochs=12, verbose=0, callbacks=[schedule, record])
    np.testing.assert_allclose(seen, [(1 - np.cos(np.pi * min(epoch / 10, 1))) / 2 for epoch in range(12)], atol=1e-6)


def test_theta_is_saved_with_the_distiller(tmp_path):
    made = distiller(low=1.0, high=5.0)
    made.fit(np.zeros((4, 2), "float32"), epochs=3, verbose=0)
    (objective,) = made.objectives
    assert abs(float(objective.theta) - 1) > 1e-3
    made.save(tmp_path / "distiller.keras")
    (loaded,) = keras.saving.load_model(tmp_path / "distiller.keras").objectives
    np.testing.assert_array_equal(loaded.theta.numpy(), objective.theta.numpy())
    assert loaded.get_config() == objective.get_config()
    assert [weight.path.split("/")[-1] for weight in loaded.trainable_weights] == ["theta"]
