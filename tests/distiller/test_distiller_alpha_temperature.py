"""Labels are needed only where alpha weighs them; alpha, temperature and weights move without a retrace."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_reference import cross_entropy_values, soft_target_values
from small_models import answers, assert_same, compiled_distiller, cross_entropy, examples, mlp

import keras_kd as kd

X, Y = examples()


def still(**kwargs):
    return {"optimizer": keras.optimizers.SGD(0.0), **kwargs}


def parts(teacher, student, temperature=4.0):
    """Hard and soft loss of two models on all examples."""
    teacher_logits, student_logits = answers(teacher, X), answers(student, X)
    hard = cross_entropy_values(Y, student_logits).mean()
    return hard, soft_target_values(teacher_logits, student_logits, temperature).mean()


@pytest.fixture(scope="module")
def weights_with_labels():
    """Of a student whose labels were there, and weighed nothing."""
    student = mlp(l2=0.1)
    compiled_distiller(student, mlp(16, seed=1), alpha=0.0).fit(X, Y, batch_size=len(X), verbose=0)
    return student.get_weights()


@pytest.mark.parametrize(
    ("data", "loss"),
    [("arrays", None), ("arrays", "given"), ("dataset", "given"), ("generator", None), ("batches", None)],
)
def test_alpha_zero_needs_no_labels(data, loss, weights_with_labels):
    teacher, student = mlp(16, seed=1), mlp(l2=0.1)
    _, soft = parts(teacher, student)
    penalty = 0.1 * np.square(student.get_weights()[0]).sum()
    distiller = compiled_distiller(
        student, teacher, alpha=0.0, compile_with={"loss": loss and cross_entropy(), "metrics": ["accuracy"]}
    )
    if data == "batches":
        logged = {key: [value] for key, value in distiller.train_on_batch(X, return_dict=True).items()}
    else:
        source = {
            "arrays": lambda: X,
            "dataset": lambda: tf.data.Dataset.from_tensor_slices(X).batch(len(X)),
            "generator": lambda: ((X,) for _ in range(1)),
        }[data]()
        logged = distiller.fit(source, batch_size=len(X) if data == "arrays" else None, verbose=0).history

    assert set(logged) == {"loss", "soft_targets"}
    np.testing.assert_allclose(logged["soft_targets"], [soft], rtol=1e-5)
    np.testing.assert_allclose(logged["loss"], [soft + penalty], rtol=1e-5)
    assert_same(student.get_weights(), weights_with_labels, rtol=1e-6, atol=1e-7)


def test_validation_labels_beside_training_without():
    teacher, student = mlp(16, seed=1), mlp()
    distiller = compiled_distiller(student, teacher, alpha=0.0, compile_with={"metrics": ["accuracy", "agreement"]})
    logged = distiller.fit(X, validation_data=(X, Y), epochs=2, verbose=0).history
    assert set(logged) == {
        *("loss", "soft_targets", "agreement"),
        *("val_loss", "val_student_loss", "val_accuracy", "val_agreement"),
    }
    hard, _ = parts(teacher, student)
    student_classes, teacher_classes = (answers(model, X).argmax(-1) for model in (student, teacher))
    np.testing.assert_allclose(logged["val_loss"][-1], hard, rtol=1e-5)
    np.testing.assert_allclose(logged["val_accuracy"][-1], (student_classes == Y).mean(), rtol=1e-6)
    np.testing.assert_allclose(logged["val_agreement"][-1], (student_classes == teacher_classes).mean(), rtol=1e-6)


def without_labels(data):
    return {
        "arrays": lambda: X,
        "dataset": lambda: tf.data.Dataset.from_tensor_slices(X).batch(4),
        "generator": lambda: ((X,) for _ in range(2)),
    }[data]()


@pytest.mark.parametrize("trained_before", [False, True])
@pytest.mark.parametrize("data", ["arrays", "dataset", "generator"])
def test_alpha_above_zero_needs_labels(data, trained_before):
    distiller = compiled_distiller(mlp(), mlp(8))
    if trained_before:
        distiller.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match=r"alpha=0\.3 weighs the student's own loss, which needs labels.*set alpha=0"):
        distiller.fit(without_labels(data), verbose=0)


@pytest.mark.parametrize("data", ["arrays", "generator"])
def test_alpha_above_zero_needs_a_loss(data):
    distiller = compiled_distiller(mlp(), mlp(8), compile_with={"loss": None})
    arguments = (X, Y) if data == "arrays" else (((X, Y) for _ in range(1)),)
    with pytest.raises(ValueError, match=r"`compile` was given no `loss`. Give one, or set alpha=0"):
        distiller.fit(*arguments, verbose=0)


class CountsTraces(keras.layers.Layer):
    traced = 0

    def call(self, inputs):
        type(self).traced += not hasattr(inputs, "numpy")
        return inputs


def counted_student():
    student = mlp()
    student.add(CountsTraces())
    return student


@pytest.mark.parametrize("how", ["attribute", "assign"])
def test_assignment_moves_the_next_step_without_a_retrace(how):
    teacher, student = mlp(16, seed=1), counted_student()
    distiller = compiled_distiller(student, teacher, compile_with=still())
    distiller.fit(X, Y, batch_size=len(X), verbose=0)
    CountsTraces.traced = 0
    for alpha, temperature, weight in [(0.5, 2.0, 1.0), (1.0, 4.0, 3.0), (0.0, 10.0, 0.25)]:
        if how == "attribute":
            distiller.alpha, distiller.temperature, distiller.objectives[0].weight = alpha, temperature, weight
        else:
            distiller.alpha.assign(alpha)
            distiller.temperature.assign(temperature)
            distiller.objectives[0].weight.assign(weight)
        logged = distiller.fit(X, Y, batch_size=len(X), verbose=0).history
        hard, soft = parts(teacher, student, temperature)
        np.testing.assert_allclose(logged["loss"], [alpha * hard + (1 - alpha) * weight * soft], rtol=1e-4)
        np.testing.assert_allclose(logged["soft_targets"], [soft], rtol=1e-4)
        assert (float(distiller.alpha), float(distiller.temperature)) == (alpha, temperature)
    assert CountsTraces.traced == 0


def test_an_objective_with_a_temperature_of_its_own_keeps_it():
    teacher, student = mlp(16, seed=1), mlp()
    distiller = compiled_distiller(student, teacher, kd.objectives.SoftTargets(2.0), compile_with=still())
    distiller.temperature = 9.0
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(logged["soft_targets"], parts(teacher, student, 2.0)[1], rtol=1e-5)


SCHEDULES = {
    "constant": (lambda target: kd.schedules.Constant(target, 0.25), [0.25, 0.25, 0.25, 0.25]),
    "linear": (lambda target: kd.schedules.Linear(target, 1.0, 0.5, epochs=3), [1.0, 0.75, 0.5, 0.5]),
    "cosine": (lambda target: kd.schedules.Cosine(target, 1.0, 0.2, epochs=3), [1.0, 0.6, 0.2, 0.2]),
    "warm-up": (lambda target: kd.schedules.WarmUp(target, 0.8, epochs=4), [0.2, 0.4, 0.6, 0.8]),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_move_the_loss_epoch_by_epoch(schedule):
    build, expected = SCHEDULES[schedule]
    teacher, student = mlp(16, seed=1), counted_student()
    distiller = compiled_distiller(student, teacher, compile_with=still())
    distiller.fit(X, Y, batch_size=len(X), verbose=0)
    CountsTraces.traced = 0
    for target in ("alpha", "temperature", "soft_targets"):
        standing = {"alpha": 0.3, "temperature": 4.0, "soft_targets": 1.0}
        distiller.alpha, distiller.temperature, distiller.objectives[0].weight = standing.values()
        logged = distiller.fit(X, Y, batch_size=len(X), epochs=4, callbacks=[build(target)], verbose=0).history
        key = "soft_targets_weight" if target == "soft_targets" else target
        np.testing.assert_allclose(logged[key], expected, rtol=1e-6)
        losses = []
        for value in expected:
            moved = {**standing, target: value}
            hard, soft = parts(teacher, student, moved["temperature"])
            losses.append(moved["alpha"] * hard + (1 - moved["alpha"]) * moved["soft_targets"] * soft)
        np.testing.assert_allclose(logged["loss"], losses, rtol=1e-4)
    assert CountsTraces.traced == 0


def test_two_schedules_at_once_and_beside_a_learning_rate():
    teacher, student = mlp(16, seed=1), mlp()
    distiller = compiled_distiller(student, teacher)
    callbacks = [
        kd.schedules.Linear("alpha", 0.0, 1.0, epochs=2),
        kd.schedules.Linear("temperature", 8.0, 2.0, epochs=2),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.0),
    ]
    logged = distiller.fit(X, Y, batch_size=len(X), epochs=2, callbacks=callbacks, verbose=0).history
    np.testing.assert_allclose(logged["loss"], [parts(teacher, student, 8.0)[1], parts(teacher, student)[0]], rtol=1e-4)
    assert logged["learning_rate"] == [0.0, 0.0]


@pytest.mark.parametrize("target", ["beta", "loss", "hint"])
def test_a_schedule_of_what_does_not_exist_is_refused(target):
    distiller = compiled_distiller(mlp(), mlp(8))
    text = rf"`target` must be 'alpha', 'temperature', one of the objectives \['soft_targets'\], or a .*'{target}'\."
    with pytest.raises(ValueError, match=text):
        distiller.fit(X, Y, callbacks=[kd.schedules.Constant(target, 1.0)], verbose=0)


def test_a_schedule_on_a_plain_model_is_refused():
    model = mlp()
    model.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match=r"`Constant`: it moves a `Distiller`. Received a `Sequential`"):
        model.fit(X, Y, callbacks=[kd.schedules.Constant("alpha", 1.0)], verbose=0)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: kd.schedules.Linear("alpha", 0, 1, epochs=1), "`Linear`: `epochs` must be >= 2.*Received: epochs=1"),
        (lambda: kd.schedules.Cosine("alpha", 0, 1, epochs=0), "`Cosine`: `epochs` must be >= 2.*Received: epochs=0"),
        (lambda: kd.schedules.WarmUp("alpha", 1, epochs=0), "`WarmUp`: `epochs` must be >= 1. Received: epochs=0"),
    ],
)
def test_schedules_without_a_way_are_refused(build, text):
    with pytest.raises(ValueError, match=text):
        build()


def test_a_schedule_out_of_range_is_refused_in_its_epoch():
    distiller = compiled_distiller(mlp(), mlp(8))
    with pytest.raises(ValueError, match=r"`alpha` must be >= 0 and <= 1. Received: alpha=1\.5"):
        distiller.fit(X, Y, epochs=2, callbacks=[kd.schedules.Linear("alpha", 0.5, 1.5, epochs=2)], verbose=0)
