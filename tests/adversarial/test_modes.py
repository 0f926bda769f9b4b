"""What each game makes of scores, against loops on a batch of four, and who gains by what."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.adversarial import AC, ANC, GAN, Hinge, WassersteinGP
from keras_kd.adversarial.modes import MODES, as_mode
from tests.adversarial.players import judge
from tests.cache.caching import refusal_of
from tests.losses.test_adversarial import class_entropy, log_sigmoid

# What a discriminator gave: a score for the source, and three for the classes.
TEACHER = np.array([[2.0, 1.0, 0.0, -1.0], [0.5, 0.0, 2.0, 0.0], [-1.0, 3.0, 1.0, 1.0], [4.0, 0.0, 0.0, 1.0]])
STUDENT = np.array([[-2.0, 0.0, 0.0, 1.0], [1.5, 1.0, -2.0, 0.5], [-0.5, 1.0, 1.0, 1.0], [0.25, 2.0, 0.0, -1.0]])
LABELS = np.array([0, 1, 0, 2])


def gan_student(s, row, label):
    return -log_sigmoid(s)


def gan_discriminator(t, s, *more):
    return -log_sigmoid(t) - log_sigmoid(-s)


def ac_student(s, row, label):
    return 0.5 * (-log_sigmoid(s) + class_entropy(row, label))


def ac_discriminator(t, s, teacher_row, student_row, label):
    named = class_entropy(teacher_row, label) + class_entropy(student_row, label)
    return 0.5 * (gan_discriminator(t, s) + named)


def shown_as_the_teachers_too(t, s, *more):
    return gan_discriminator(t, s) - 0.5 * log_sigmoid(s)


def hinge(t, s, *more):
    return max(0.0, 1 - t) + max(0.0, 1 + s)


ORACLES = {
    "gan": (GAN(), gan_student, gan_discriminator),
    "ac": (AC(), ac_student, ac_discriminator),
    "anc": (ANC(strength=0.5), gan_student, shown_as_the_teachers_too),
    "anc l2": (ANC("l2"), gan_student, gan_discriminator),
    "hinge": (Hinge(), lambda s, *_: -s, hinge),
    "wgan-gp": (WassersteinGP(), lambda s, *_: -s, lambda t, s, *_: s - t),
}


@pytest.mark.parametrize("name", ORACLES)
def test_what_the_student_minimises(name):
    mode, student, _ = ORACLES[name]
    expected = [student(row[0], row[1:], label) for row, label in zip(STUDENT, LABELS, strict=True)]
    np.testing.assert_allclose(mode.student(tf.constant(STUDENT), LABELS), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ORACLES)
def test_what_the_discriminator_minimises(name):
    mode, _, discriminator = ORACLES[name]
    rows = zip(TEACHER, STUDENT, LABELS, strict=True)
    expected = [discriminator(t[0], s[0], t[1:], s[1:], label) for t, s, label in rows]
    received = mode.discriminator(tf.constant(TEACHER), tf.constant(STUDENT), LABELS)
    np.testing.assert_allclose(received, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["gan", "ac", "anc"])
def test_smoothed_labels_are_the_teachers_alone(name):
    mode, _, discriminator = ORACLES[name]
    expected = []
    for t, s, label in zip(TEACHER, STUDENT, LABELS, strict=True):
        plain = discriminator(t[0], s[0], t[1:], s[1:], label)
        moved = 0.2 * (log_sigmoid(t[0]) - log_sigmoid(-t[0]))
        expected.append(plain + (0.5 if name == "ac" else 1.0) * moved)
    received = mode.discriminator(tf.constant(TEACHER), tf.constant(STUDENT), LABELS, label_smoothing=0.2)
    np.testing.assert_allclose(received, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ORACLES)
def test_what_serves_the_student_harms_the_discriminator(name):
    """The student's gain has the sign of the discriminator's loss, score by score, wherever both have a gradient."""
    mode, *_ = ORACLES[name]
    game = ANC(None) if name == "anc" else mode  # its regularizer is no part of the game
    scores = tf.Variable(STUDENT[:, :1] * np.ones((1, 4)))
    with tf.GradientTape(persistent=True) as tape:
        student = mode.student(scores, LABELS)
        discriminator = game.discriminator(tf.constant(TEACHER), scores, LABELS)
    of_student, of_discriminator = (tape.gradient(loss, scores)[:, 0] for loss in (student, discriminator))
    moved = [0, 1, 2, 3] if name != "hinge" else [1, 2, 3]  # beyond -1 the hinge is content
    assert (np.array(of_student) < 0).all()
    assert (np.array(of_discriminator)[moved] > 0).all()


def test_accuracies():
    # Teacher right 3 of 4, student right 2 of 4; three of four teachers score above their students.
    for mode in (GAN(), AC(), ANC(), Hinge()):
        assert float(np.mean(mode.accuracy(tf.constant(TEACHER), tf.constant(STUDENT)))) == pytest.approx(5 / 8)
    ranked = WassersteinGP().accuracy(tf.constant(TEACHER), tf.constant(STUDENT))
    np.testing.assert_array_equal(ranked, [1.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize(("regularizer", "size"), [("l1", np.abs), ("l2", np.square)])
def test_anc_holds_the_weights_back(regularizer, size):
    model = judge(3)
    expected = 0.3 * sum(size(weight).sum() for weight in model.get_weights())
    assert float(ANC(regularizer, strength=0.3).regularization(model)) == pytest.approx(expected, rel=1e-6)
    assert float(ANC().regularization(model)) == float(GAN().regularization(model)) == 0.0


def slope_by_differences(model, shown, step=1e-3):
    slopes = np.zeros(shown.shape)
    for index in np.ndindex(shown.shape):
        ends = []
        for sign in (1, -1):
            moved = shown.astype("float64").copy()
            moved[index] += sign * step
            ends.append(float(model(moved.astype("float32"))[index[0], 0]))
        slopes[index] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def test_the_gradient_penalty_is_that_of_the_slope_between():
    teacher, student = np.random.default_rng(2).normal(scale=2, size=(2, 5, 3)).astype("float32")
    model = judge(3)
    received = WassersteinGP(penalty_weight=7.0).penalty(
        model, tf.constant(teacher), tf.constant(student), keras.random.SeedGenerator(11)
    )
    share = np.array(keras.random.uniform((5, 1), seed=keras.random.SeedGenerator(11)))
    assert len(set(share.ravel())) == 5
    slopes = slope_by_differences(model, share * teacher + (1 - share) * student)
    np.testing.assert_allclose(received, 7.0 * (np.sqrt((slopes**2).sum(1)) - 1) ** 2, rtol=2e-3, atol=2e-3)


def test_the_gradient_penalty_of_maps_takes_one_share_and_one_norm_for_each_example():
    teacher, student = np.random.default_rng(2).normal(size=(2, 2, 3, 4, 5)).astype("float32")
    weights = np.random.default_rng(3).normal(size=(3, 4, 5)).astype("float32")
    seen = []

    def score(shown):
        seen.append(np.array(shown))
        return tf.reduce_sum(shown * weights, axis=(1, 2, 3))[:, None]

    received = WassersteinGP().penalty(score, tf.constant(teacher), tf.constant(student), keras.random.SeedGenerator(1))
    np.testing.assert_allclose(received, [10 * (np.sqrt((weights**2).sum()) - 1) ** 2] * 2, rtol=1e-5)
    shares = (seen[0] - student) / (teacher - student)
    for share in shares:
        np.testing.assert_allclose(share, np.full((3, 4, 5), share[0, 0, 0]), atol=1e-4)


def test_the_critic_learns_from_its_penalty():
    """Its gradient by the critic's weights, the second derivative, equals finite differences."""
    model, seed = judge(3), 4
    teacher, student = np.random.default_rng(2).normal(size=(2, 5, 3)).astype("float32")

    def penalty():
        generator = keras.random.SeedGenerator(seed)
        return tf.reduce_mean(WassersteinGP().penalty(model, tf.constant(teacher), tf.constant(student), generator))

    with tf.GradientTape() as tape:
        value = penalty()
    kernel = model.layers[0].kernel
    gradient, weights = np.array(tape.gradient(value, kernel)), np.array(kernel)
    for index in [(0, 0), (1, 3), (2, 5)]:
        ends = []
        for step in (1e-3, -1e-3):
            moved = weights.copy()
            moved[index] += step
            kernel.assign(moved)
            ends.append(float(penalty()))
        kernel.assign(weights)
        np.testing.assert_allclose(gradient[index], (ends[0] - ends[1]) / 2e-3, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", MODES)
def test_a_name_stands_for_the_mode_with_its_defaults(name):
    mode = as_mode(name)
    assert type(mode) is MODES[name]
    assert mode.get_config() == MODES[name]().get_config()
    assert mode.outputs(7) == (8 if name == "ac" else 1)


@pytest.mark.parametrize(
    "mode",
    [GAN(), AC(), ANC("l1", 0.02), ANC(None), Hinge(), WassersteinGP(3.5)],
    ids=lambda mode: f"{type(mode).__name__}-{mode.get_config()}",
)
def test_a_mode_goes_to_json_and_back(mode):
    config = keras.saving.serialize_keras_object(mode)
    back = keras.saving.deserialize_keras_object(config)
    assert type(back) is type(mode)
    assert back.get_config() == mode.get_config()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: as_mode("wgan"),
            "`AdversarialDistiller`: `mode` must be one of ['ac', 'gan', 'anc', 'wgan-gp', 'hinge', 'kdgan'], or a "
            "mode of `keras_kd.adversarial`. Received: mode='wgan'.",
        ),
        (
            lambda: ANC("dropout"),
            "`ANC`: `regularizer` must be 'adversarial', 'l1', 'l2' or None. Received: regularizer='dropout'.",
        ),
        (lambda: ANC(strength=-1), "`ANC`: `strength` must be >= 0. Received: strength=-1."),
        (
            lambda: WassersteinGP("ten"),
            "`WassersteinGP`: `penalty_weight` must be >= 0. Received: penalty_weight='ten'.",
        ),
    ],
)
def test_what_is_no_mode_is_refused(make, text):
    assert refusal_of(make) == text
