"""What a round does: against the same round written out in plain TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd import Ensemble
from keras_kd.data_free import DAFL, DFAD, DataFreeDistiller
from keras_kd.objectives import Hint, SoftTargets
from tests.data_free.data_free_models import dropping, mlp, noise_of, noise_to_features, player, teacher, twin
from tests.distiller.small_models import assert_same

BATCH, L2 = 6, 0.01


class ByHand:
    """The models of a distiller, moved without it: SGD with and without momentum."""

    def __init__(self, distiller, rate=0.1, generator_rate=0.05):
        self.noise = noise_of(distiller)
        self.student, self.generator = twin(distiller.student), twin(distiller.generator)
        self.teacher, self.rates = twin(distiller.teacher), (rate, generator_rate)
        self.speeds = [tf.zeros(variable.shape) for variable in self.student.trainable_variables]
        self.values = []

    def move_student(self, images, loss):
        with tf.GradientTape() as tape:
            value = loss(self.teacher(images, training=False), self.student(images, training=True))
        gradients = tape.gradient(value, [v.value for v in self.student.trainable_variables])
        for index, (variable, gradient) in enumerate(zip(self.student.trainable_variables, gradients, strict=True)):
            self.speeds[index] = 0.9 * self.speeds[index] - self.rates[0] * gradient
            variable.assign_add(self.speeds[index])
        self.values.append(float(value))

    def move_generator(self, loss):
        statistics = [variable.numpy() for variable in self.student.non_trainable_variables]
        with tf.GradientTape() as tape:
            images = self.generator(self.noise(BATCH), training=True)
            value = loss(images, self.student(images, training=True))
            total = value + L2 * tf.reduce_sum(self.generator.layers[0].kernel.value ** 2)
        for variable, kept in zip(self.student.non_trainable_variables, statistics, strict=True):
            variable.assign(kept)
        gradients = tape.gradient(total, [v.value for v in self.generator.trainable_variables])
        for variable, gradient in zip(self.generator.trainable_variables, gradients, strict=True):
            variable.assign_sub(self.rates[1] * gradient)
        return tf.stop_gradient(images), float(total)


def mae(teacher_logits, student_logits):
    return tf.reduce_mean(tf.abs(teacher_logits - student_logits))


def kl(teacher_logits, student_logits):
    p = tf.nn.softmax(teacher_logits)
    losses = tf.nn.softmax_cross_entropy_with_logits(p, student_logits)
    return tf.reduce_mean(losses - tf.nn.softmax_cross_entropy_with_logits(p, teacher_logits))


def check_against(hand, distiller, history, **expected):
    tolerance = {"rtol": 2e-5, "atol": 2e-6}
    assert_same(distiller.student.get_weights(), hand.student.get_weights(), **tolerance)
    assert_same(distiller.generator.get_weights(), hand.generator.get_weights(), **tolerance)
    assert_same(distiller.teacher.get_weights(), hand.teacher.get_weights())
    assert set(history) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(history[name], [value], rtol=2e-5, err_msg=name)


def test_a_round_of_dfad():
    distiller = player(DFAD(student_steps=2), l2=L2)
    hand = ByHand(distiller)
    history = distiller.fit(steps_per_epoch=1, batch_size=BATCH, verbose=0).history

    for _ in range(2):
        hand.move_student(hand.generator(hand.noise(BATCH), training=True), mae)
    disagreement = []

    def loss(images, student_logits):
        disagreement.append(mae(hand.teacher(images, training=False), student_logits))
        return -disagreement[-1]

    _, total = hand.move_generator(loss)
    student = np.mean(hand.values)
    logged = {"loss": student, "logits_mae": student, "disagreement": disagreement[0], "generator_loss": total}
    check_against(hand, distiller, history, **logged)


def test_a_round_of_dafl():
    distiller = player(DAFL("hidden", one_hot_weight=0.7, activation_weight=0.3, entropy_weight=4.0), l2=L2)
    hand = ByHand(distiller)
    history = distiller.fit(steps_per_epoch=1, batch_size=BATCH, verbose=0).history
    terms = {}

    def loss(images, student_logits):
        logits = hand.teacher(images, training=False)
        mean = tf.reduce_mean(tf.nn.softmax(logits), 0)
        terms["one_hot_loss"] = -tf.reduce_mean(tf.reduce_max(tf.nn.log_softmax(logits), -1))
        terms["entropy_loss"] = tf.reduce_sum(mean * tf.math.log(mean)) / np.log(10)
        terms["activation_loss"] = -tf.reduce_mean(tf.abs(hand.teacher.get_layer("hidden")(images)))
        return 0.7 * terms["one_hot_loss"] + 4 * terms["entropy_loss"] + 0.3 * terms["activation_loss"]

    images, total = hand.move_generator(loss)
    hand.move_student(images, kl)
    logged = {"loss": hand.values[0], "soft_targets": hand.values[0], "generator_loss": total, **terms}
    check_against(hand, distiller, history, **logged)


@pytest.mark.parametrize("moves", ["student", "generator"])
def test_the_student_lowers_the_disagreement_and_the_generator_raises_it(moves):
    rates = {"rate": 0.05, "generator_rate": 0.0} if moves == "student" else {"rate": 0.0, "generator_rate": 0.05}
    distiller = player(**rates)

    def disagreement():
        images = distiller.generator(keras.random.normal((200, 2), seed=9), training=True)
        return float(mae(distiller.teacher(images), distiller.student(images, training=True)))

    before = disagreement()
    distiller.fit(steps_per_epoch=5, batch_size=64, verbose=0)
    after = disagreement()
    assert after < before - 0.01 if moves == "student" else after > before + 0.01, (before, after)


@pytest.mark.parametrize(("method", "updates"), [("dfad", (20, 4)), (DFAD(student_steps=2), (8, 4)), ("dafl", (4, 4))])
def test_updates_of_both(method, updates):
    distiller = player(method)
    distiller.fit(steps_per_epoch=2, epochs=2, batch_size=3, verbose=0)
    assert (int(distiller.optimizer.iterations), int(distiller.generator_optimizer.iterations)) == updates


@pytest.mark.parametrize("method", [None, "dafl"], ids=["dfad", "dafl"])
def test_the_student_s_statistics_and_seeds_are_its_own(method):
    """In the generator's update Dropout and BatchNorm work, and nothing of them stays."""
    distiller = player(method, student=dropping())
    distiller._prepare()
    before = [variable.numpy() for variable in distiller.student.variables]
    drawn = distiller.generator.get_weights()
    distiller._generator_step(5)
    assert_same([variable.numpy() for variable in distiller.student.variables], before)
    assert all(
        np.abs(one - other).max() > 0 for one, other in zip(distiller.generator.get_weights(), drawn, strict=True)
    )


def test_weights_that_the_generator_owns_are_not_the_student_s_to_move():
    distiller = player(generator_rate=0.0)
    before = [variable.numpy() for variable in distiller.generator.trainable_variables]
    distiller.fit(steps_per_epoch=2, batch_size=3, verbose=0)
    assert_same([variable.numpy() for variable in distiller.generator.trainable_variables], before)
    names = [variable.path for variable in distiller.trainable_variables]
    assert names == [variable.path for variable in distiller.student.trainable_variables]


def test_objectives_of_the_user_s_choice_train_the_student():
    distiller = player(objectives=[SoftTargets(2.0), Hint("hidden", "hidden")])
    history = distiller.fit(steps_per_epoch=30, epochs=2, batch_size=32, verbose=0).history
    assert set(history) == {"loss", "soft_targets", "hint", "disagreement", "generator_loss"}
    np.testing.assert_allclose(history["loss"], np.add(history["soft_targets"], history["hint"]), rtol=1e-5)
    assert history["hint"][1] < history["hint"][0]


def test_an_ensemble_teaches():
    other = mlp(8, seed=11)
    student = mlp(5, seed=2)
    distiller = DataFreeDistiller(student, Ensemble([teacher(), other]), noise_to_features(), method=DFAD(1))
    distiller.compile(keras.optimizers.SGD(0.0), generator_optimizer=keras.optimizers.SGD(0.0))
    noise, generator = noise_of(distiller), twin(distiller.generator)
    history = distiller.fit(steps_per_epoch=1, batch_size=BATCH, verbose=0).history
    draws = [generator(noise(BATCH), training=True) for _ in range(2)]
    said = [tf.math.log((tf.nn.softmax(teacher()(x)) + tf.nn.softmax(other(x))) / 2) for x in draws]
    fresh = mlp(5, seed=2)
    values = [float(mae(logits, fresh(x, training=True))) for logits, x in zip(said, draws, strict=True)]
    np.testing.assert_allclose(history["logits_mae"], values[:1], rtol=1e-5)
    np.testing.assert_allclose(history["disagreement"], values[1:], rtol=1e-5)


def test_inputs_with_keys():
    def model(width, seed):
        keras.utils.set_random_seed(seed)
        inputs = {key: keras.Input((2,), name=key) for key in ("left", "right")}
        hidden = layers.Dense(width, "tanh")(layers.Concatenate()(list(inputs.values())))
        return keras.Model(inputs, layers.Dense(3)(hidden))

    noise = keras.Input((3,))
    generator = keras.Model(noise, {"left": layers.Dense(2)(noise), "right": layers.Dense(2)(noise)})
    distiller = DataFreeDistiller(model(3, 0), model(6, 1), generator, method=DFAD(1))
    distiller.compile(keras.optimizers.SGD(0.0), generator_optimizer=keras.optimizers.SGD(0.1))
    history = distiller.fit(steps_per_epoch=40, epochs=2, batch_size=32, verbose=0).history
    assert history["disagreement"][1] > history["disagreement"][0] + 0.01
    drawn = distiller.generate(4, seed=1)
    assert {key: value.shape for key, value in drawn.items()} == {"left": (4, 2), "right": (4, 2)}
    np.testing.assert_array_equal(drawn["left"], distiller.generate(4, seed=1)["left"])


def test_agreement_is_of_what_is_drawn_in_training_and_of_the_data_in_evaluation():
    distiller = player(rate=0.0, generator_rate=0.0, metrics=["agreement"])
    noise, generator, student = noise_of(distiller), twin(distiller.generator), twin(distiller.student)
    history = distiller.fit(steps_per_epoch=1, batch_size=50, verbose=0).history
    images = generator(noise(50), training=True)
    agree = np.argmax(teacher()(images), -1) == np.argmax(student(images, training=True), -1)
    assert history["agreement"] == pytest.approx([np.mean(agree)])
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    results = distiller.evaluate(x, verbose=0, return_dict=True)
    expected = np.mean(np.argmax(teacher()(x), -1) == np.argmax(distiller.student(x), -1))
    assert results == {"agreement": pytest.approx(expected)}


def test_validation_is_the_student_s_alone():
    distiller = player()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"])
    x, y = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 3
    history = distiller.fit(steps_per_epoch=2, batch_size=4, validation_data=(x, y), verbose=0).history
    logits = distiller.student(x)
    assert {key for key in history if key.startswith("val_")} == {"val_loss", "val_student_loss", "val_accuracy"}
    assert history["val_loss"] == pytest.approx([float(loss(y, logits))], rel=1e-5)
    assert history["val_accuracy"] == pytest.approx([np.mean(np.argmax(logits, -1) == y)])
    assert "student_loss" not in history


def test_mixed_precision_scales_both_losses_and_learns_the_same():
    single = player()
    single.fit(steps_per_epoch=2, batch_size=32, verbose=0)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = player()
        mixed.fit(steps_per_epoch=2, batch_size=32, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(mixed.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    assert_same(mixed.student.get_weights(), single.student.get_weights(), rtol=0.1, atol=0.02)
    assert_same(mixed.generator.get_weights(), single.generator.get_weights(), rtol=0.1, atol=0.02)
