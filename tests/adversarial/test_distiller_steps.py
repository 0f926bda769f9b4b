"""One step of both players equals the step written by hand, and each gains by its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.adversarial import ANC, WassersteinGP
from keras_kd.adversarial.modes import as_mode
from tests.adversarial.players import MODES, X, Y, adversarial, as_arrays, judge, judge_for
from tests.distiller.small_models import answers, assert_same, mlp, twin
from tests.losses.test_adversarial import log_sigmoid

INPUTS = tf.constant(X)
ALPHA, TEMPERATURE, WEIGHT, RATE, JUDGE_RATE = 0.25, 3.0, 0.7, 0.2, 0.05


def bce(logits, real):
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.fill(tf.shape(logits), float(real)), logits=logits)


def crossed(labels, logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


# What either player minimises, of the discriminator's outputs, from TensorFlow's own losses.
STUDENT = {
    "gan": lambda d, y: bce(d[:, 0], 1),
    "anc": lambda d, y: bce(d[:, 0], 1),
    "ac": lambda d, y: (bce(d[:, 0], 1) + crossed(y, d[:, 1:])) / 2,
    "hinge": lambda d, y: -d[:, 0],
    "wgan-gp": lambda d, y: -d[:, 0],
}
DISCRIMINATOR = {
    "gan": lambda t, s, y: bce(t[:, 0], 1) + bce(s[:, 0], 0),
    "anc": lambda t, s, y: bce(t[:, 0], 1) + bce(s[:, 0], 0) + bce(s[:, 0], 1),
    "ac": lambda t, s, y: (bce(t[:, 0], 1) + bce(s[:, 0], 0) + crossed(y, t[:, 1:]) + crossed(y, s[:, 1:])) / 2,
    "hinge": lambda t, s, y: tf.nn.relu(1 - t[:, 0]) + tf.nn.relu(1 + s[:, 0]),
    "wgan-gp": lambda t, s, y: s[:, 0] - t[:, 0],
}


def signal(model, x, mode):
    """The logits, or in mode "anc" what goes into the last layer."""
    return model.layers[0](x) if mode == "anc" else model(x)


def step_by_hand(mode, student, teacher, model, projector, x, y, share, steps):
    """Plain TensorFlow, with gradient descent; what it logs."""

    def score(shown):
        return model([shown, INPUTS] if len(model.inputs) == 2 else shown)

    taught = signal(teacher, x, mode)
    with tf.GradientTape() as tape:
        shown = signal(student, x, mode)
        shown = projector(shown) if projector else shown
        game = tf.reduce_mean(STUDENT[mode](score(shown), y))
        labels = tf.reduce_mean(crossed(y, student(x)))
        p, q = tf.nn.log_softmax(teacher(x) / TEMPERATURE), tf.nn.log_softmax(student(x) / TEMPERATURE)
        soft = TEMPERATURE**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(p) * (p - q), -1))
        total = ALPHA * labels + (1 - ALPHA) * soft + WEIGHT * game
    weights = [*student.trainable_variables, *(projector.trainable_variables if projector else [])]
    for weight, gradient in zip(weights, tape.gradient(total, weights), strict=True):
        weight.assign_sub(RATE * gradient)

    losses = []
    for place in range(steps):
        with tf.GradientTape() as tape:
            values = DISCRIMINATOR[mode](score(taught), score(shown), y)
            if mode == "wgan-gp":
                between = share[place] * taught + (1 - share[place]) * shown
                with tf.GradientTape() as inner:
                    inner.watch(between)
                    scores = score(between)
                slope = tf.norm(inner.gradient(scores, between), axis=1)
                values += 10 * (slope - 1) ** 2
            loss = tf.reduce_mean(values)
        for weight, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            weight.assign_sub(JUDGE_RATE * gradient)
        losses.append(float(loss))
    return {"loss": total, "student_loss": labels, "soft_targets": soft, "adversarial_loss": game,
            "discriminator_loss": np.mean(losses)}  # fmt: skip


@pytest.mark.parametrize(("mode", "steps"), [(mode, 1) for mode in MODES] + [("ac", 2), ("wgan-gp", 3)])
def test_a_step_equals_the_step_by_hand(mode, steps):
    teacher, student = mlp(7, seed=1), mlp()
    model = judge(7) if mode == "anc" else judge_for(mode)
    optimizers = {"optimizer": keras.optimizers.SGD(RATE), "discriminator_optimizer": keras.optimizers.SGD(JUDGE_RATE)}
    distiller = adversarial(
        student, teacher, model, mode=mode, alpha=ALPHA, temperature=TEMPERATURE, adversarial_weight=WEIGHT,
        discriminator_steps=steps, compile_with=optimizers, eager=steps == 1,
    )  # fmt: skip
    by_hand, projector = [twin(student), teacher, twin(model)], None
    if mode == "anc":
        distiller.judged.build([(None, 7)], [(None, 5)])
        projector = twin(distiller.judged.projector)
    distiller._seeds = keras.random.SeedGenerator(9)
    noise = keras.random.SeedGenerator(9)
    share = [keras.random.uniform((24, 1), seed=noise) for _ in range(steps)]

    logged = distiller.train_on_batch(X, Y, return_dict=True)
    expected = step_by_hand(mode, *by_hand, projector, X, Y, share, steps)

    for key, value in expected.items():
        assert logged[key] == pytest.approx(float(value), rel=1e-5), key
    assert_same(student.get_weights(), by_hand[0].get_weights(), rtol=1e-5, atol=1e-7)
    assert_same(model.get_weights(), by_hand[2].get_weights(), rtol=1e-5, atol=1e-7)
    if projector:
        assert_same(distiller.judged.projector.get_weights(), projector.get_weights(), rtol=1e-5, atol=1e-7)


class Linear(keras.layers.Layer):
    """Multiplies by one number."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = self.add_weight(shape=(), initializer=keras.initializers.Constant(factor))

    def call(self, inputs):
        return self.factor * inputs


def linear(factor, width=1):
    return keras.Sequential([keras.Input((width,)), Linear(factor)])


def sigmoid(score):
    return 1 / (1 + np.exp(-score))


def test_the_signs_by_hand():
    """Student s = 1·x, teacher t = 3·x, D(v) = 0.5·v, at x = 2: D(s) = 1 and D(t) = 3."""
    student, teacher, model = linear(1.0), linear(3.0), linear(0.5)
    distiller = adversarial(
        student, teacher, model, [], mode="gan", alpha=0.0, adversarial_weight=1.0,
        compile_with={"optimizer": keras.optimizers.SGD(0.1), "loss": None},
    )  # fmt: skip
    logged = distiller.train_on_batch(np.full((4, 1), 2.0), return_dict=True)

    before = -log_sigmoid(3.0) - log_sigmoid(-1.0)
    assert logged["adversarial_loss"] == logged["loss"] == pytest.approx(-log_sigmoid(1.0), rel=1e-6)
    assert logged["discriminator_loss"] == pytest.approx(before, rel=1e-6)
    assert logged["discriminator_accuracy"] == 0.5  # of the teacher it is right, of the student not
    # d/dw -log σ(0.5·2w) = -σ(-1)·0.5·2; d/dv = -σ(-3)·6 + σ(1)·2
    moved_student = 1.0 + 0.1 * sigmoid(-1.0)
    moved_judge = 0.5 - 0.1 * (2.0 * sigmoid(1.0) - 6.0 * sigmoid(-3.0))
    assert float(student.layers[0].factor) == pytest.approx(moved_student, rel=1e-6)
    assert float(model.layers[0].factor) == pytest.approx(moved_judge, rel=1e-6)
    # The student's update has raised the discriminator's loss, and the discriminator's lowers it.
    assert -log_sigmoid(3.0) - log_sigmoid(-0.5 * 2 * moved_student) > before
    assert -log_sigmoid(moved_judge * 6) - log_sigmoid(-moved_judge * 2) < before


def game_loss(distiller, mode):
    """What the discriminator minimises of the game, on what both models give now."""
    judged = [signal(model, X, distiller.mode_name) for model in (distiller.teacher, distiller.student)]
    sees = len(distiller.discriminator.inputs) == 2
    scores = [distiller.discriminator([one, INPUTS] if sees else one) for one in judged]
    return float(np.mean(mode.discriminator(*scores, Y)))


@pytest.mark.parametrize("mode", MODES)
def test_the_students_step_raises_the_discriminators_loss_and_its_own_step_lowers_it(mode):
    def rise(student_rate, judge_rate):
        distiller = adversarial(
            mlp(), mlp(5, seed=1), judge_for(mode), [], mode=mode, alpha=0.0, adversarial_weight=1.0,
            compile_with={
                "optimizer": keras.optimizers.SGD(student_rate),
                "discriminator_optimizer": keras.optimizers.SGD(judge_rate),
            },
        )  # fmt: skip
        distiller.mode_name = mode
        before = game_loss(distiller, game)
        distiller.train_on_batch(X, Y)
        return game_loss(distiller, game) - before

    # What holds ANC's discriminator back is no part of the game: it serves the student.
    game = ANC(None) if mode == "anc" else as_mode(mode)
    assert rise(student_rate=1e-3, judge_rate=0.0) > 1e-6
    assert rise(student_rate=0.0, judge_rate=1e-3) < -1e-6


@pytest.mark.parametrize("mode", MODES)
def test_neither_optimizer_moves_what_is_the_others(mode):
    for frozen in ("optimizer", "discriminator_optimizer"):
        distiller = adversarial(mode=mode, compile_with={frozen: keras.optimizers.SGD(0.0), **other(frozen)})
        distiller.train_on_batch(X, Y)
        students, judges = [distiller.student, distiller.judged], [distiller.discriminator]
        resting, moving = (students, judges) if frozen == "optimizer" else (judges, students)
        before = as_arrays(*resting), as_arrays(*moving)
        distiller.train_on_batch(X, Y)
        assert_same(as_arrays(*resting), before[0])
        assert all((one != two).any() for one, two in zip(as_arrays(*moving), before[1], strict=True) if two.size > 1)


def other(name):
    names = {"optimizer": "discriminator_optimizer", "discriminator_optimizer": "optimizer"}
    return {names[name]: keras.optimizers.SGD(0.1)}


def test_the_game_alone_needs_no_labels_and_no_soft_targets():
    student, teacher, model = mlp(), mlp(7, seed=1), judge(3)
    distiller = adversarial(
        student, teacher, model, [], mode="gan", alpha=0.0, compile_with={"loss": None}, adversarial_weight=0.4
    )
    by_hand, taught, played = twin(student), answers(teacher, X), twin(model)
    history = distiller.fit(X, batch_size=24, verbose=0).history

    with tf.GradientTape(persistent=True) as tape:
        shown = by_hand(X)
        game = 0.4 * tf.reduce_mean(bce(played(shown), 1))
        told = tf.reduce_mean(bce(played(taught), 1) + bce(played(tf.stop_gradient(shown)), 0))
    for loss, one, received in ((game, by_hand, student), (told, played, model)):
        for weight, gradient in zip(one.weights, tape.gradient(loss, one.weights), strict=True):
            weight.assign_sub(0.1 * gradient)
        assert_same(received.get_weights(), one.get_weights(), rtol=1e-5, atol=1e-7)
    assert sorted(history) == ["adversarial_loss", "discriminator_accuracy", "discriminator_loss", "loss"]
    assert history["loss"] == pytest.approx([float(game)], rel=1e-5)
    assert history["discriminator_loss"] == pytest.approx([float(told)], rel=1e-5)


def test_the_student_comes_to_be_taken_for_its_teacher():
    """By the game alone: a linear discriminator is content where the two have the same mean."""
    teacher, student = mlp(7, seed=1), mlp(9, seed=2)
    student.layers[-1].bias.assign([3.0, -3.0, 2.0])
    scores = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.3))  # without it the players orbit
    distiller = adversarial(
        student, teacher, keras.Sequential([keras.Input((3,)), scores]), [], mode="gan", alpha=0.0,
        adversarial_weight=1.0, eager=False, compile_with={
            "optimizer": keras.optimizers.SGD(0.2), "discriminator_optimizer": keras.optimizers.SGD(0.5), "loss": None
        },
    )  # fmt: skip
    means = answers(teacher, X).mean(0)
    assert np.abs(answers(student, X).mean(0) - means).max() > 2.0
    distiller.fit(tf.data.Dataset.from_tensors(X).repeat(100), verbose=0)
    assert np.abs(answers(student, X).mean(0) - means).max() < 1e-3


def test_the_discriminator_may_take_several_steps_or_one_in_two():
    distiller = adversarial(mode="gan", discriminator_steps=3)
    distiller.fit(X, Y, batch_size=8, verbose=0)
    assert (int(distiller.optimizer.iterations), int(distiller.discriminator_optimizer.iterations)) == (3, 9)

    halved = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    distiller = adversarial(mode="gan", compile_with={"discriminator_optimizer": halved})
    moves = []
    for _ in range(4):
        before = as_arrays(distiller.discriminator) if distiller.discriminator else None
        distiller.train_on_batch(X, Y)
        moves.append(
            before and any((a != b).any() for a, b in zip(as_arrays(distiller.discriminator), before, strict=True))
        )
    assert moves[1:] == [True, False, True]


@pytest.mark.parametrize("mode", MODES)
def test_sample_weights_weigh_both_players_values_and_not_the_accuracy(mode):
    weights = np.linspace(0.0, 2.0, 24)
    mode = WassersteinGP(penalty_weight=0.0) if mode == "wgan-gp" else as_mode(mode)
    distiller = adversarial(mlp(), mlp(5, seed=1), judge_for(name_of(mode)), mode=mode)
    scores = [
        np.array(distiller.discriminator(shown(distiller, model))) for model in (distiller.teacher, distiller.student)
    ]
    logged = distiller.train_on_batch(X, Y, sample_weight=weights, return_dict=True)
    student, judged = np.array(mode.student(scores[1], Y)), np.array(mode.discriminator(*scores, Y))
    assert logged["adversarial_loss"] == pytest.approx((weights * student).mean(), rel=1e-5)
    assert logged["discriminator_loss"] == pytest.approx((weights * judged).mean(), rel=1e-5)
    assert logged["discriminator_accuracy"] == pytest.approx(np.mean(mode.accuracy(*scores)), rel=1e-6)


def name_of(mode):
    return next(name for name in MODES if type(as_mode(name)) is type(mode))


def shown(distiller, model):
    judged = signal(model, X, name_of(distiller.mode))
    return [judged, INPUTS] if len(distiller.discriminator.inputs) == 2 else judged


def test_label_smoothing_and_the_discriminators_own_regularisation_are_in_its_loss():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.3))])
    distiller = adversarial(mlp(), mlp(5, seed=1), model, mode="gan", label_smoothing=0.2)
    t, s = (np.array(model(answers(one, X)))[:, 0] for one in (distiller.teacher, distiller.student))
    penalty = 0.3 * float((np.array(model.layers[0].kernel) ** 2).sum())
    told = np.array(bce(t, 0.8) + bce(s, 0.0)).mean()
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    assert logged["discriminator_loss"] == pytest.approx(told + penalty, rel=1e-5)


def test_the_weight_of_the_game_moves_without_a_retrace():
    distiller = adversarial(mode="gan", eager=False)
    totals, traced = [], []
    for weight in (0.0, 2.0):
        distiller.adversarial_weight = weight
        distiller.reset_metrics()  # which Keras 3.12 does not between batches
        logged = distiller.train_on_batch(X, Y, return_dict=True)
        rest = 0.3 * logged["student_loss"] + 0.7 * logged["soft_targets"]
        totals.append((logged["loss"], rest + weight * logged["adversarial_loss"]))
        traced.append(distiller.train_function)
    assert traced[0] is traced[1]
    for received, expected in totals:
        assert received == pytest.approx(expected, rel=1e-5)


def test_an_ensemble_and_its_student_are_judged_by_their_log_probabilities():
    members, student, model = [mlp(7, seed=1), mlp(6, seed=2)], mlp(), judge(3)
    distiller = adversarial(student, members, model, mode="gan")
    mean = sum(np.exp(tf.nn.log_softmax(answers(member, X))) for member in members) / 2
    t, s = model(np.log(mean)), model(tf.nn.log_softmax(answers(student, X)))
    expected = float(tf.reduce_mean(bce(t, 1) + bce(s, 0)))
    assert distiller.train_on_batch(X, Y, return_dict=True)["discriminator_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_teacher_that_declares_probabilities_is_judged_by_their_logarithms():
    student, model, inner = mlp(), judge(3), mlp(7, seed=1)
    teacher = kd.Teacher(keras.Sequential([inner, keras.layers.Softmax()]), outputs="probabilities")
    distiller = adversarial(student, teacher, model, mode="gan")
    t, s = (model(tf.nn.log_softmax(answers(one, X))) for one in (inner, student))
    expected = float(tf.reduce_mean(bce(t, 1) + bce(s, 0)))
    assert distiller.train_on_batch(X, Y, return_dict=True)["discriminator_loss"] == pytest.approx(expected, rel=1e-5)


def test_taps_name_what_is_judged():
    student, teacher, model = mlp(7), mlp(7, seed=1), judge(7)
    distiller = adversarial(student, teacher, model, mode="gan", on=("hidden", "head:input"))
    assert distiller.on == ("hidden", "head:input")
    t, s = (model(one.layers[0](X)) for one in (teacher, student))
    expected = float(tf.reduce_mean(bce(t, 1) + bce(s, 0)))
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    assert logged["discriminator_loss"] == pytest.approx(expected, rel=1e-5)
    assert distiller.judged.projector is None
    assert adversarial(mode="gan", on="hidden").on == ("hidden", "hidden")
    assert adversarial(mode="gan").on == "logits"
