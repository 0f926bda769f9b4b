"""KDGAN: a step of three players equals the step written by hand, and each gains by its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

import keras_kd as kd
from keras_kd.adversarial.kdgan import KDGAN, label_discriminator
from keras_kd.adversarial.three_players import ThreePlayerDistiller
from tests.adversarial.players import X, Y, as_arrays
from tests.adversarial.three_players import RATES, check_refused, sgd, three
from tests.distiller.small_models import answers, assert_same, compiled_distiller, cross_entropy, mlp, twin

WEIGHTS = np.random.default_rng(5).uniform(0.5, 2.0, len(X)).astype("float32")


def drawn(logits, seeds, temperature):
    """A relaxed draw, from the definition of Gumbel noise."""
    uniform = keras.random.uniform(logits.shape, seed=seeds)
    return tf.nn.softmax((logits - tf.math.log(-tf.math.log(uniform))) / temperature)


def kl(target, learner, temperature):
    p, q = (tf.nn.log_softmax(logits / temperature) for logits in (tf.stop_gradient(target), learner))
    return temperature**2 * tf.reduce_sum(tf.exp(p) * (p - q), -1)


def log_true(scores):
    return tf.math.log(tf.sigmoid(scores[:, 0]))


def log_forged(scores):
    return tf.math.log(1 - tf.sigmoid(scores[:, 0]))


def descend(model, loss, tape, rate):
    weights = model.trainable_variables
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        weight.assign_sub(rate * gradient)


def step_by_hand(student, teacher, classes, mode, *, alpha, temperature, weight, steps):
    """Plain TensorFlow; what it logs."""
    seeds, tau, x = keras.random.SeedGenerator(9), mode.concrete_temperature, tf.constant(X)

    def mean(values):
        return tf.reduce_sum(WEIGHTS * values) / len(X)

    def score(labels):
        return tf.reduce_sum(labels * classes(x), -1, keepdims=True)

    said = teacher(x)
    with tf.GradientTape() as tape:
        logits = student(x)
        of_student = drawn(logits, seeds, tau)
        game = mode.alpha * mean(log_forged(score(of_student)))
        labels = mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits))
        soft = mean(kl(said, logits, temperature))
        total = alpha * labels + (1 - alpha) * mode.beta * soft + weight * game
    descend(student, total, tape, RATES["optimizer"])

    losses, right = [], []
    for _ in range(steps):
        of_teacher = drawn(said, seeds, tau)
        with tf.GradientTape() as tape:
            scores = [score(shown) for shown in (tf.one_hot(Y, 3), of_student, of_teacher)]
            told = log_true(scores[0]) + mode.alpha * log_forged(scores[1]) + (1 - mode.alpha) * log_forged(scores[2])
            loss = -mean(told)
        true, forged, taught = (float(np.mean(one > 0)) for one in scores)
        right.append(0.5 * true + 0.5 * (mode.alpha * (1 - forged) + (1 - mode.alpha) * (1 - taught)))
        losses.append(float(loss))
        descend(classes, loss, tape, RATES["discriminator_optimizer"])

    with tf.GradientTape() as tape:
        said = teacher(x)
        forged = (1 - mode.alpha) * mean(log_forged(score(drawn(said, seeds, tau))))
        teacher_loss = weight * forged + mode.gamma * mean(kl(logits, said, temperature)) + sum(teacher.losses)
    descend(teacher, teacher_loss, tape, RATES["teacher_optimizer"])
    return {
        "loss": total, "student_loss": labels, "soft_targets": soft, "adversarial_loss": game,
        "discriminator_loss": np.mean(losses), "discriminator_accuracy": np.mean(right), "teacher_loss": teacher_loss,
    }  # fmt: skip


@pytest.mark.parametrize(("steps", "eager"), [(1, True), (3, True), (1, False)])
def test_a_step_equals_the_step_by_hand(steps, eager):
    mode = KDGAN(alpha=0.3, beta=1.5, gamma=0.4, concrete_temperature=0.7)
    student, teacher, classes = mlp(), mlp(7, seed=1, l2=0.01), mlp(6, seed=3)
    by_hand = twin(student), twin(teacher), twin(classes)
    settings = {"alpha": 0.25, "temperature": 3.0}
    distiller = three(
        student, teacher, label_discriminator(classes), mode=mode, adversarial_weight=0.8, discriminator_steps=steps,
        eager=eager, **settings,
    )  # fmt: skip
    logged = distiller.train_on_batch(X, Y, WEIGHTS, return_dict=True)
    expected = step_by_hand(*by_hand, mode, weight=0.8, steps=steps, **settings)
    for key, value in expected.items():
        assert logged[key] == pytest.approx(float(value), rel=2e-5), key
    for model, other in zip((student, teacher, classes), by_hand, strict=True):
        assert_same(model.get_weights(), other.get_weights(), rtol=2e-5, atol=1e-6)


def gain_of_the_discriminator(distiller):
    """What the discriminator would lose, of the draws that the first step makes."""
    seeds, x = keras.random.SeedGenerator(9), tf.constant(X)
    labels = [drawn(tf.constant(answers(model, X)), seeds, 1.0) for model in (distiller.student, distiller.teacher)]
    true, *forged = (distiller.discriminator([one, x]) for one in (tf.one_hot(Y, 3), *labels))
    alpha = distiller.mode.alpha
    told = log_true(true) + alpha * log_forged(forged[0]) + (1 - alpha) * log_forged(forged[1])
    return float(-tf.reduce_mean(told))


@pytest.mark.parametrize(
    ("mover", "rises"),
    [("optimizer", True), ("teacher_optimizer", True), ("discriminator_optimizer", False)],
)
def test_the_forgers_raise_the_loss_that_the_discriminator_lowers(mover, rises):
    still = dict.fromkeys(RATES, 0.0) | {mover: 0.01}
    distiller = three(objectives=[], alpha=0.0, mode=KDGAN(gamma=0.0), compile_with=sgd(**still))
    if mover == "teacher_optimizer":  # it draws its label in this step third, and not second
        distiller._drawn = lambda logits, first=distiller._drawn: first(logits)
        distiller._discriminator_step = lambda *args: (0.0, 0.0)
    before = gain_of_the_discriminator(distiller)
    distiller.train_on_batch(X, Y)
    after = gain_of_the_discriminator(distiller)
    assert (after > before) is rises
    assert after != before


def test_each_optimizer_moves_its_own_player():
    for name, mover in (("student", "optimizer"), ("discriminator", "discriminator_optimizer"), ("teacher", None)):
        distiller = three(compile_with=sgd(**{one: 0.0 for one in RATES if one != (mover or "teacher_optimizer")}))
        players = {"student": distiller.student, "discriminator": distiller.discriminator, "teacher": distiller.teacher}
        before = {key: as_arrays(model) for key, model in players.items()}
        distiller.train_on_batch(X, Y)
        moved = [key for key in players if any(map(np.any, map(np.subtract, before[key], as_arrays(players[key]))))]
        assert moved == [name]


def test_without_the_game_the_student_is_a_distilled_one():
    student, optimizer = mlp(), keras.optimizers.SGD(RATES["optimizer"])
    plain = compiled_distiller(twin(student), mlp(7, seed=1), compile_with={"optimizer": optimizer})
    played = three(student, mode=KDGAN(gamma=0.0), adversarial_weight=0.0)
    before = as_arrays(played.teacher)
    for _ in range(3):
        plain.train_on_batch(X, Y)
        played.train_on_batch(X, Y)
    assert_same(as_arrays(played.student), as_arrays(plain.student), rtol=1e-5, atol=1e-7)
    assert_same(as_arrays(played.teacher), before)


def test_a_student_with_all_the_share_leaves_the_teacher_out():
    """NaGAN: student and discriminator alone, and not even a decay moves the teacher."""
    logs, weights = [], []
    for seed in (1, 2):
        optimizers = sgd() | {"teacher_optimizer": keras.optimizers.SGD(0.1, weight_decay=0.1)}
        teacher, mode = mlp(7, seed=seed, l2=0.01), KDGAN(alpha=1.0, gamma=0.0)
        distiller = three(teacher=teacher, objectives=[], mode=mode, compile_with=optimizers)
        before = as_arrays(distiller.teacher)
        logs.append(distiller.train_on_batch(X, Y, return_dict=True))
        assert_same(as_arrays(distiller.teacher), before)
        weights.append(as_arrays(distiller.student, distiller.discriminator))
    assert logs[0] == logs[1]
    assert "teacher_loss" not in logs[0]
    assert_same(*weights)


def test_beta_is_the_weight_of_the_soft_targets():
    distiller = three(mode=KDGAN(beta=2.5))
    assert [(type(o), float(o.weight)) for o in distiller.objectives] == [(kd.objectives.SoftTargets, 2.5)]
    own = kd.objectives.LogitsMSE(weight=0.5)
    assert three(None, None, None, own, mode=KDGAN(beta=2.5)).objectives == [own]


def test_the_concrete_temperature_moves_while_training():
    """Where it is high, every draw is even, whatever the student says."""
    classes = mlp(6, seed=3)
    distiller = three(None, None, label_discriminator(classes), mode=KDGAN(alpha=1.0), eager=False)
    distiller.train_on_batch(X, Y)
    distiller.reset_metrics()
    distiller.concrete_temperature = 1e6
    even = answers(classes, X).mean(-1)
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    assert logged["adversarial_loss"] == pytest.approx(np.log(1 - expit(even)).mean(), rel=1e-4)


def test_the_mode_on_a_batch_by_hand():
    mode = KDGAN(alpha=0.2)
    teacher, student, true = (np.array([[score], [-score]], "float32") for score in (1.0, -2.0, 0.5))
    np.testing.assert_allclose(mode.student(student), 0.2 * np.log(1 - expit(student[:, 0])), rtol=1e-5)
    np.testing.assert_allclose(mode.teacher(teacher), 0.8 * np.log(1 - expit(teacher[:, 0])), rtol=1e-5)
    told = np.log(expit(true)) + 0.2 * np.log(1 - expit(student)) + 0.8 * np.log(1 - expit(teacher))
    np.testing.assert_allclose(mode.discriminator(teacher, student, true), -told[:, 0], rtol=1e-5)
    np.testing.assert_allclose(mode.accuracy(teacher, student, true), [0.5 + 0.5 * 0.2, 0.5 * 0.8])
    assert KDGAN.from_config(mode.get_config()).get_config() == {
        "alpha": 0.2, "beta": 1.0, "gamma": 1e-4, "concrete_temperature": 1.0,
    }  # fmt: skip


def test_label_discriminator_weighs_the_scores_of_the_classes():
    classes = mlp(6, seed=3)
    labels = np.random.default_rng(0).dirichlet(np.ones(3), len(X)).astype("float32")
    expected = np.einsum("bk,bk->b", labels, answers(classes, X))
    np.testing.assert_allclose(answers(label_discriminator(classes), [labels, X])[:, 0], expected, rtol=1e-5)


def test_the_default_discriminator_scores_the_classes_of_images():
    def student():
        layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    distiller = ThreePlayerDistiller(student(), student())
    distiller.compile("sgd", loss=cross_entropy(), run_eagerly=True)
    distiller.train_on_batch(np.zeros((2, 8, 8, 1)), np.array([0, 1]))
    assert [shape[1:] for shape in distiller.discriminator.input_shape] == [(3,), (8, 8, 1)]
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    scores = answers(distiller.discriminator, [np.eye(3, dtype="float32"), np.repeat(image, 3, 0)])[:, 0]
    mixed = answers(distiller.discriminator, [np.array([[0.2, 0.3, 0.5]], "float32"), image])
    assert mixed.item() == pytest.approx(scores @ [0.2, 0.3, 0.5], rel=1e-4)


@pytest.mark.parametrize(
    ("argument", "value", "bounds"),
    [
        ("alpha", 1.5, ">= 0 and <= 1"),
        ("beta", -1.0, ">= 0"),
        ("gamma", -1.0, ">= 0"),
        ("concrete_temperature", 0.0, "> 0"),
    ],
)
def test_settings_out_of_range_are_refused(argument, value, bounds):
    with check_refused(f"`KDGAN`: `{argument}` must be {bounds}. Received: {argument}={value!r}."):
        KDGAN(**{argument: value})
