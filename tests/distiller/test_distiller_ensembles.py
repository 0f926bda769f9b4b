"""Several teachers speak as the weighted mean of their softened classes."""

import keras
import numpy as np
import pytest
from numpy_reference import cross_entropy_values, ensemble_logits, soft_target_values
from scipy.special import softmax
from small_models import answers, assert_same, compiled_distiller, cross_entropy, examples, mlp, values_of

import keras_kd as kd

X, Y = examples()
WEIGHTS = [0.5, 0.25, 0.25]


def teachers():
    return [mlp(width, seed=width) for width in (8, 9, 10)]


def given(how, members):
    return {
        "list": lambda: members,
        "tuple": lambda: tuple(members),
        "ensemble": lambda: kd.Ensemble(members),
        "weighted": lambda: kd.Ensemble(members, weights=[4, 2, 2]),
        "with a softmax": lambda: kd.Ensemble(
            [
                *members[:2],
                kd.Teacher(keras.Sequential([members[2], keras.layers.Softmax()]), outputs="probabilities"),
            ]
        ),
    }[how]()


@pytest.mark.parametrize(
    ("how", "temperature"),
    [("list", 4.0), ("tuple", 1.0), ("ensemble", 1.0), ("weighted", 4.0), ("with a softmax", 4.0)],
)
def test_soft_targets_are_of_the_mean_at_the_temperature(how, temperature):
    members, student = teachers(), mlp(seed=1)
    weights = WEIGHTS if how == "weighted" else [1 / 3] * 3
    mean = ensemble_logits([answers(member, X) for member in members], weights, temperature)
    student_logits, before = answers(student, X), [values_of(member.variables) for member in members]
    soft = soft_target_values(mean, student_logits, temperature).mean()
    hard = cross_entropy_values(Y, student_logits).mean()
    slope = temperature * (softmax(student_logits / temperature, -1) - softmax(mean / temperature, -1)) / len(X)
    bias = student.layers[-1].bias.numpy()

    distiller = compiled_distiller(
        student,
        given(how, members),
        temperature=temperature,
        alpha=0.0,
        compile_with={"optimizer": keras.optimizers.SGD(1.0)},
    )
    logged = distiller.train_on_batch(X, Y, return_dict=True)

    np.testing.assert_allclose(logged["soft_targets"], soft, rtol=1e-4)
    np.testing.assert_allclose(logged["student_loss"], hard, rtol=1e-5)
    np.testing.assert_allclose(bias - student.layers[-1].bias.numpy(), slope.sum(0), rtol=1e-4, atol=1e-6)
    for member, values in zip(members, before, strict=True):
        assert_same(values_of(member.variables), values)


def test_the_mean_follows_a_temperature_that_moves():
    members, student = teachers(), mlp(seed=1)
    distiller = compiled_distiller(student, members, compile_with={"optimizer": keras.optimizers.SGD(0.0)})
    said, student_logits = [answers(member, X) for member in members], answers(student, X)
    for temperature in (1.0, 8.0):
        distiller.temperature = temperature
        logged = distiller.train_on_batch(X, Y, return_dict=True)
        mean = ensemble_logits(said, [1 / 3] * 3, temperature)
        distiller.reset_metrics()
        np.testing.assert_allclose(
            logged["soft_targets"], soft_target_values(mean, student_logits, temperature).mean(), rtol=1e-4
        )


def test_agreement_and_kl_are_with_the_mean_of_the_probabilities():
    members, student = teachers(), mlp(seed=1)
    distiller = compiled_distiller(
        student, kd.Ensemble(members, WEIGHTS), compile_with={"metrics": ["agreement", "teacher_kl"]}
    )
    logged = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    mean = sum(w * softmax(answers(m, X), -1) for w, m in zip(WEIGHTS, members, strict=True))
    student_logits = answers(student, X)
    np.testing.assert_allclose(logged["agreement"], (mean.argmax(-1) == student_logits.argmax(-1)).mean(), rtol=1e-6)
    np.testing.assert_allclose(
        logged["teacher_kl"], soft_target_values(np.log(mean), student_logits, 1.0).mean(), rtol=1e-5
    )


def test_a_member_of_weight_zero_does_not_speak():
    one, other = teachers()[:2]
    results = []
    for teacher in (one, kd.Ensemble([one, other], weights=[1, 0])):
        student = mlp(seed=1)
        compiled_distiller(student, teacher).fit(X, Y, shuffle=False, verbose=0)
        results.append(student.get_weights())
    assert_same(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_members_may_see_different_inputs():
    image, sound = X, examples(seed=3, features=6)[0]
    of_image, of_sound, student = mlp(8, seed=1), mlp(8, seed=2, features=6), mlp(seed=3)
    ensemble = kd.Ensemble([kd.Teacher(of_image, inputs=["image"]), kd.Teacher(of_sound, inputs=["sound"])])
    mean = ensemble_logits([answers(of_image, image), answers(of_sound, sound)], [0.5, 0.5], 4.0)
    expected = soft_target_values(mean, answers(student, image), 4.0).mean()
    distiller = compiled_distiller(student, ensemble, student_inputs=["image"])
    logged = distiller.train_on_batch({"image": image, "sound": sound}, Y, return_dict=True)
    np.testing.assert_allclose(logged["soft_targets"], expected, rtol=1e-4)


def test_several_outputs_are_averaged_each_for_itself():
    def heads(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        return keras.Model(
            inputs, {n: keras.layers.Dense(c, name=f"{n}_head")(inputs) for n, c in (("a", 3), ("b", 2))}
        )

    members, student = [heads(1), heads(2)], heads(3)
    said, learnt = [answers(member, X) for member in members], answers(student, X)
    expected = sum(
        soft_target_values(ensemble_logits([one[name] for one in said], [0.5, 0.5], 4.0), learnt[name], 4.0).mean()
        for name in ("a", "b")
    )
    distiller = compiled_distiller(
        student, members, compile_with={"loss": {"a": cross_entropy(), "b": cross_entropy()}}
    )
    logged = distiller.train_on_batch(X, {"a": Y, "b": Y % 2}, return_dict=True)
    np.testing.assert_allclose(logged["soft_targets"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([1.0], r"`weights` must be 3 numbers >= 0, not all zero. Received: \[1\.0\]"),
        ([1, -1, 1], r"Received: \[1\.0, -1\.0, 1\.0\]"),
        ([0, 0, 0], r"Received: \[0\.0, 0\.0, 0\.0\]"),
        ([float("nan"), 1, 1], r"Received: \[nan, 1\.0, 1\.0\]"),
    ],
)
def test_weights_that_do_not_weigh_are_refused(weights, text):
    with pytest.raises(ValueError, match=text):
        kd.Ensemble(teachers(), weights=weights)
