"""Three players are kept and resume exactly, the student's files hold the student alone, and refusals say why."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.adversarial.kdgan import KDGAN, label_discriminator
from keras_kd.adversarial.three_players import OWNER, ThreePlayerDistiller
from tests.adversarial.players import X, Y, as_arrays
from tests.adversarial.three_players import RATES, check_refused, three
from tests.distiller.small_models import answers, assert_same, cross_entropy, mlp


def all_players(distiller):
    optimizers = distiller.optimizer, distiller.discriminator_optimizer, distiller.teacher_optimizer
    return as_arrays(distiller.student, distiller.discriminator, distiller.learning_teacher, *optimizers)


def fresh():
    keras.utils.set_random_seed(4)
    optimizers = {name: keras.optimizers.Adam(0.01 * rate) for name, rate in RATES.items()}
    return three(mode=KDGAN(alpha=0.3, gamma=0.1), compile_with=optimizers, eager=False, noise=None)


SETTINGS = {"batch_size": 8, "shuffle": False, "verbose": 0}


def test_a_loaded_distiller_has_its_teacher_and_goes_on_to_the_bit(tmp_path):
    distiller = fresh()
    distiller.concrete_temperature = 0.5
    distiller.fit(X, Y, **SETTINGS)
    distiller.save(tmp_path / "three.keras")
    loaded = keras.models.load_model(tmp_path / "three.keras")
    assert_same(all_players(loaded), all_players(distiller))
    assert float(loaded.concrete_temperature) == 0.5
    histories = [one.fit(X, Y, epochs=2, **SETTINGS).history for one in (distiller, loaded)]
    assert histories[0] == histories[1]
    assert_same(all_players(loaded), all_players(distiller))


def test_weights_alone_bring_all_three_players_back(tmp_path):
    distiller = fresh()
    distiller.fit(X, Y, **SETTINGS)
    distiller.save_weights(tmp_path / "three.weights.h5")
    other = fresh()
    other.fit(X[:8], Y[:8], **SETTINGS)
    other.load_weights(tmp_path / "three.weights.h5")
    assert_same(all_players(other), all_players(distiller))


def test_a_teacher_that_sees_some_inputs_is_loaded_so():
    first, second = keras.Input((4,), name="first"), keras.Input((2,), name="second")
    both = keras.layers.Concatenate()([first, second])
    student = keras.Model({"first": first, "second": second}, keras.layers.Dense(3)(both))
    distiller = ThreePlayerDistiller(student, kd.Teacher(mlp(7, seed=1), inputs=["first"]))
    loaded = ThreePlayerDistiller.from_config(distiller.get_config())
    np.testing.assert_array_equal(loaded.teacher.inputs_for({"first": X, "second": X[:, :2]}), X)


def test_the_saved_student_is_the_student_alone(tmp_path):
    distiller = fresh()
    distiller.fit(X, Y, **SETTINGS)
    distiller.student.save(tmp_path / "student.keras")
    alone = keras.models.load_model(tmp_path / "student.keras")
    assert_same(alone.get_weights(), distiller.student.get_weights())
    np.testing.assert_array_equal(answers(distiller, X), answers(alone, X))
    assert {id(v) for v in distiller.trainable_variables} == {id(v) for v in distiller.student.trainable_variables}


def test_the_third_optimizer_is_one_of_the_students_settings():
    distiller = ThreePlayerDistiller(mlp(), mlp(7))
    student = keras.optimizers.Adam(0.123, beta_1=0.7)
    distiller.compile(student, loss=cross_entropy())
    assert distiller.teacher_optimizer is not student
    assert distiller.teacher_optimizer.get_config() == student.get_config()


def test_a_teacher_of_mixed_precision_scales_its_loss():
    def moves(policy):
        keras.config.set_dtype_policy(policy)
        try:
            distiller = three(mlp(), mlp(7, seed=1), label_discriminator(mlp(6, seed=3)))
        finally:
            keras.config.set_dtype_policy("float32")
        before = as_arrays(distiller.teacher)
        distiller.train_on_batch(X, Y)
        moved = np.concatenate([(b - a).ravel() for a, b in zip(before, as_arrays(distiller.teacher), strict=True)])
        return distiller, moved

    (mixed, of_mixed), (_, of_float32) = moves("mixed_float16"), moves("float32")
    assert isinstance(mixed.teacher_optimizer, keras.optimizers.LossScaleOptimizer)
    np.testing.assert_allclose(of_mixed, of_float32, rtol=0.05, atol=0.02 * np.abs(of_float32).max())


def test_evaluate_is_the_students():
    distiller = three()
    distiller.train_on_batch(X, Y)
    logits = answers(distiller.student, X)
    expected = float(cross_entropy()(Y, logits))
    assert distiller.evaluate(X, Y, verbose=0, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-5)


def softmaxed():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")], name="sure")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mode": "ac"}, f"{OWNER}: `mode` must be 'kdgan' or a `KDGAN`. Received: mode='ac'."),
        (
            {"on": ("hidden", "hidden")},
            f"{OWNER}: the three players give labels, on='logits'. Received: on=('hidden', 'hidden').",
        ),
        (
            {"teacher": kd.Teacher(softmaxed(), outputs="probabilities")},
            f"{OWNER}: the teacher learns from its logits, and is saved. Received: `sure` with "
            "outputs='probabilities', preprocess=None. Give a model that ends in logits and has the preprocessing "
            "inside.",
        ),
    ],
    ids=["mode", "on", "probabilities"],
)
def test_arguments_that_do_not_fit_are_refused(arguments, text):
    with check_refused(text):
        ThreePlayerDistiller(**{"student": mlp(), "teacher": mlp(7), **arguments})


def test_an_ensemble_cannot_learn():
    with pytest.raises(ValueError, match=f"^{OWNER}: the teacher learns, so it must be one Keras model. Received: \\["):
        ThreePlayerDistiller(mlp(), [mlp(6), mlp(7)])


def test_a_frozen_teacher_is_refused_before_the_first_step():
    teacher = mlp(7, name="frozen")
    teacher.trainable = False
    text = (
        f"{OWNER}: the teacher `frozen` has nothing to train: its layers are frozen. Set its `trainable = True`, or "
        "take an `AdversarialDistiller`, whose teacher is only read."
    )
    with check_refused(text):
        three(teacher=teacher).fit(X, Y, verbose=0)


def test_a_teacher_that_has_learned_is_not_replaced():
    distiller, other = three(teacher=mlp(7, name="first")), mlp(7, name="second")
    distiller.teacher = distiller.teacher
    text = (
        f"{OWNER}: `first` is its teacher and has learned, so no other can take its place; a loaded distiller has the "
        f"teacher that was saved. Received: {other!r}. Make a new distiller for it."
    )
    with check_refused(text):
        distiller.teacher = other


@pytest.mark.parametrize("shared", ["optimizer", "discriminator_optimizer"])
def test_two_players_with_one_optimizer_are_refused(shared):
    optimizers = {name: keras.optimizers.SGD(rate, name="shared") for name, rate in RATES.items()}
    optimizers["teacher_optimizer"] = optimizers[shared]
    text = (
        f"{OWNER}: each of the three players needs an optimizer of its own. Received: `shared` for the teacher and "
        "another. Leave `teacher_optimizer` out for one of the student's settings."
    )
    with check_refused(text):
        three().compile(**optimizers)


def test_the_mode_of_three_players_makes_their_distiller():
    """By name or by settings; equal, step by step, to the class called by its own name."""
    keras.utils.set_random_seed(4)
    named = kd.AdversarialDistiller(mlp(), mlp(7, seed=1), label_discriminator(mlp(6, seed=3)), mode="kdgan")
    assert type(named) is ThreePlayerDistiller
    named._seeds = keras.random.SeedGenerator(9)
    named.compile(**{name: keras.optimizers.SGD(rate) for name, rate in RATES.items()}, loss=cross_entropy())
    by_hand = three(eager=False)
    for one in (named, by_hand):
        one.fit(X, Y, **SETTINGS)
    assert_same(all_players(named), all_players(by_hand))
    with_settings = kd.AdversarialDistiller(mlp(), mlp(7, seed=1), mode=KDGAN(alpha=0.25))
    assert (type(with_settings), with_settings.mode.alpha) == (ThreePlayerDistiller, 0.25)
