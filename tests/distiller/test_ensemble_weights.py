"""Members of an ensemble that count by class, or by example: a missing modality has nothing to say."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from numpy_reference import soft_target_values
from scipy.special import softmax
from small_models import answers, compiled_distiller, examples, mlp

import keras_kd as kd
from keras_kd.objectives import DenseGuidance
from keras_kd.signals import EnsembleSignals, Signals

X, Y = examples()
BY_CLASS = np.array([[3.0, 1.0, 0.0], [1.0, 1.0, 2.0]])
BY_EXAMPLE = np.random.default_rng(5).uniform(size=(12, 2)).astype("float32")
BY_EXAMPLE[3, 0] = BY_EXAMPLE[7, 1] = 0.0


def teachers():
    return [mlp(width, seed=width) for width in (8, 9)]


def mean_probabilities(logits, weights, temperature):
    """Of members `(n, batch, classes)`, each number for itself; weights `(n, batch or 1, classes or 1)`."""
    logits = np.float64(logits) / temperature
    weights = np.broadcast_to(np.float64(weights), logits.shape)
    mean = np.zeros(logits.shape[1:])
    for i, c in np.ndindex(mean.shape):
        speaks = [weights[m, i, c] * softmax(logits[m, i])[c] for m in range(len(logits))]
        mean[i, c] = sum(speaks) / weights[:, i, c].sum()
    return mean / mean.sum(axis=1, keepdims=True)


def by_name(how):
    """What the user gives, and the same numbers as they count."""
    return {
        "by class": (BY_CLASS, BY_CLASS[:, None, :]),
        "by example": (lambda x: x["trust"], BY_EXAMPLE.T[:, :, None]),
        "where present": (
            lambda x: ops.stack([x["image_present"], x["sound_present"]], axis=-1),
            np.stack([BY_EXAMPLE[:, 0] > 0, BY_EXAMPLE[:, 1] > 0])[:, :, None],
        ),
    }[how]


def batch():
    present = {f"{name}_present": BY_EXAMPLE[:, place] > 0 for place, name in enumerate(("image", "sound"))}
    return {"image": X, "trust": BY_EXAMPLE, **present}


def ensemble_of(members, weights):
    return kd.Ensemble([kd.Teacher(member, inputs=["image"]) for member in members], weights)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("how", ["by class", "by example", "where present"])
def test_the_mean_is_weighed_and_divided_by_the_sum_of_the_weights(how, temperature):
    members, (given, weights) = teachers(), by_name(how)
    signals = ensemble_of(members, given).signals(batch())
    expected = mean_probabilities([answers(member, X) for member in members], weights, temperature)
    said = softmax(np.float64(signals.logits(temperature)["output_0"]) / temperature, -1)
    np.testing.assert_allclose(said, expected, rtol=1e-5)
    if temperature == 1.0:
        np.testing.assert_allclose(np.exp(signals.outputs["output_0"]), expected, rtol=1e-5)


@pytest.mark.parametrize("how", ["by class", "by example", "where present"])
def test_the_student_learns_from_that_mean_in_fit(how):
    members, student, (given, weights) = teachers(), mlp(seed=1), by_name(how)
    mean = 4.0 * np.log(mean_probabilities([answers(member, X) for member in members], weights, 4.0))
    student_logits, bias = answers(student, X), student.layers[-1].bias.numpy()
    expected = soft_target_values(mean, student_logits, 4.0).mean()
    slope = 4.0 * (softmax(student_logits / 4.0, -1) - softmax(mean / 4.0, -1)).mean(0)
    distiller = compiled_distiller(
        student,
        ensemble_of(members, given),
        alpha=0.0,
        student_inputs=["image"],
        compile_with={"optimizer": keras.optimizers.SGD(1.0)},
    )
    logged = distiller.fit(batch(), batch_size=12, verbose=0).history
    np.testing.assert_allclose(logged["soft_targets"], expected, rtol=1e-4)
    np.testing.assert_allclose(bias - student.layers[-1].bias.numpy(), slope, rtol=1e-4, atol=1e-6)


def test_places_of_an_example_share_its_weights():
    said = np.random.default_rng(0).normal(size=(2, 12, 5, 3)).astype("float32")
    weights = BY_EXAMPLE / BY_EXAMPLE.sum(1, keepdims=True)
    signals = EnsembleSignals([Signals.of(one) for one in said], tf.constant(weights))
    expected = np.log(
        sum(w[:, None, None] * softmax(np.float64(one), -1) for w, one in zip(weights.T, said, strict=True))
    )
    np.testing.assert_allclose(signals.outputs["output_0"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "bool"])
def test_weights_by_example_are_float32_and_add_up_to_one(dtype):
    given = np.array([[1, 3], [0, 2]]).astype(dtype)
    weights = kd.Ensemble(teachers(), lambda x: given).weights_for(X[:2])
    assert weights.dtype == tf.float32
    np.testing.assert_allclose(weights, [[0.5, 0.5] if dtype == "bool" else [0.25, 0.75], [0.0, 1.0]])


def test_no_gradient_flows_through_the_weights():
    given = tf.Variable(BY_EXAMPLE)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(kd.Ensemble(teachers(), lambda x: given).weights_for(X) ** 2)
    assert tape.gradient(total, given) is None


def test_fixed_weights_are_numbers_that_add_up_to_one_by_class():
    weights = kd.Ensemble(teachers(), BY_CLASS).weights
    assert weights == [[0.75, 0.5, 0.0], [0.25, 0.5, 1.0]]
    assert kd.Ensemble(teachers(), np.float32([1, 3])).weights == [0.25, 0.75]


def test_teachers_that_guide_each_on_its_own_count_by_example():
    members, student = teachers(), mlp(seed=1)
    weights = BY_EXAMPLE / BY_EXAMPLE.sum(1, keepdims=True)
    values = [soft_target_values(answers(member, X), answers(student, X), 4.0) for member in members]
    expected = np.mean(2 * weights[:, 0] * values[0] + 2 * weights[:, 1] * values[1])
    ensemble = ensemble_of(members, lambda x: x["trust"])
    distiller = compiled_distiller(student, ensemble, DenseGuidance(drop=0), student_inputs=["image"])
    logged = distiller.train_on_batch(batch(), Y, return_dict=True)
    np.testing.assert_allclose(logged["dense_guidance"], expected, rtol=1e-4)


def check_refused(text, function, *args, kind=ValueError, **kwargs):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        function(*args, **kwargs)


def test_teachers_that_guide_each_on_its_own_do_not_count_by_class():
    distiller = compiled_distiller(mlp(), kd.Ensemble(teachers(), BY_CLASS), DenseGuidance(drop=0))
    text = (
        "`DenseGuidance`: each teacher guides on its own, so that there is no mean for weights by class to enter. "
        "Received: an `Ensemble` whose `weights` have a row of classes for each teacher. Give it one weight each, or "
        "let the student learn from the mean, as `SoftTargets()` does."
    )
    check_refused(text, distiller.fit, X, Y, verbose=0)


@pytest.mark.parametrize(
    ("weights", "received"),
    [
        ([[1.0, 1.0, 1.0]], "[[1.0, 1.0, 1.0]]"),
        ([[1.0, 1.0], [1.0, -1.0]], "[[1.0, 1.0], [1.0, -1.0]]"),
        ([[1.0, 0.0], [1.0, 0.0]], "[[1.0, 0.0], [1.0, 0.0]]"),
        ([[1.0, float("nan")], [1.0, 0.0]], "[[1.0, nan], [1.0, 0.0]]"),
        (np.zeros((2, 0)), "[[], []]"),
    ],
)
def test_weights_by_class_that_do_not_weigh_are_refused(weights, received):
    text = (
        f"`Ensemble`: `weights` must be 2 rows of numbers >= 0, of which no column is all zero. Received: {received}."
    )
    check_refused(text, kd.Ensemble, teachers(), weights)


@pytest.mark.parametrize("weights", [[[1.0], [1.0, 2.0]], "half", [[[1.0]], [[2.0]]], 3.0, {"a": 1.0}])
def test_what_is_no_array_of_numbers_is_refused(weights):
    text = (
        "`Ensemble`: `weights` must be 2 numbers >= 0, an array (2, classes) of them, or a function of the inputs. "
        f"Received: {weights!r}."
    )
    check_refused(text, kd.Ensemble, teachers(), weights)


def test_other_numbers_of_classes_are_refused_before_the_first_step():
    distiller = compiled_distiller(mlp(), kd.Ensemble(teachers(), [[1.0, 2.0], [1.0, 1.0]]))
    text = (
        "`Ensemble`: `weights` by class must have as many columns as there are classes. Received: 2 columns; the "
        "output 'output_0' has 3 classes."
    )
    before = distiller.student.get_weights()
    with pytest.raises(ValueError, match=re.escape(text)):
        distiller.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(distiller.student.get_weights()[0], before[0])


@pytest.mark.parametrize("shape", [(12,), (12, 3), (12, 2, 1)])
def test_a_function_that_gives_another_shape_is_refused(shape):
    text = f"`Ensemble`: `weights(x)` must be of shape (batch, 2), a weight for each teacher. Received: shape {shape}."
    check_refused(text, kd.Ensemble(teachers(), lambda x: ops.ones(shape)).signals, X)


@pytest.mark.parametrize("row", [[0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_an_example_without_a_weight_stops_the_step(row):
    weights = BY_EXAMPLE.copy()
    weights[5] = row
    members = teachers()
    distiller = compiled_distiller(mlp(), ensemble_of(members, lambda x: x["trust"]), student_inputs=["image"])
    name = "+".join(member.name for member in members)
    of_teacher = f"the teacher `{name}` gave NaN or infinity in `Ensemble.weights`, in batch 1"
    said = of_teacher if np.isfinite(row).all() else "the data hold NaN or infinity in `x['trust']`, in batch 1"
    with pytest.raises(FloatingPointError, match=re.escape(said)):
        distiller.train_on_batch({**batch(), "trust": weights}, Y)
