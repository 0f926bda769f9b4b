"""What is logged, under which key, and that each number is what its name says."""

import keras
import numpy as np
import pytest
from numpy_reference import cross_entropy_values, soft_target_values
from small_models import answers, compiled_distiller, cross_entropy, examples, mlp

import keras_kd as kd

X, Y = examples(11)
OWN = {"loss", "student_loss", "soft_targets"}


def still(**kwargs):
    return {"optimizer": keras.optimizers.SGD(0.0), **kwargs}


def numbers(teacher, student):
    teacher_logits, student_logits = answers(teacher, X), answers(student, X)
    return {
        "student_loss": cross_entropy_values(Y, student_logits).mean(),
        "soft_targets": soft_target_values(teacher_logits, student_logits, 4.0).mean(),
        "agreement": (teacher_logits.argmax(-1) == student_logits.argmax(-1)).mean(),
        "teacher_kl": soft_target_values(teacher_logits, student_logits, 1.0).mean(),
        "accuracy": (student_logits.argmax(-1) == Y).mean(),
    }


@pytest.mark.parametrize("metrics", [None, ["accuracy"], ["teacher_kl", "accuracy", "agreement"]])
def test_keys_and_values_in_fit_and_evaluate(metrics):
    teacher, student = mlp(16, seed=1), mlp()
    distiller = compiled_distiller(student, teacher, compile_with=still(metrics=metrics))
    logged = distiller.fit(X, Y, batch_size=4, validation_data=(X, Y), verbose=0).history
    evaluated = distiller.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)
    asked = set(metrics or ())
    assert set(logged) == OWN | asked | {f"val_{key}" for key in {"loss", "student_loss"} | asked}
    assert set(evaluated) == {"loss", "student_loss"} | asked
    expected = numbers(teacher, student)
    for key in (set(logged) - {"loss", "val_loss"}) & set(expected):
        np.testing.assert_allclose(logged[key], [expected[key]], rtol=1e-5, err_msg=key)
    for key in set(evaluated) - {"loss"}:
        np.testing.assert_allclose(evaluated[key], expected[key], rtol=1e-5, err_msg=key)
        np.testing.assert_allclose(logged[f"val_{key}"], [expected[key]], rtol=1e-5, err_msg=key)


def test_evaluate_as_a_list_has_the_order_of_its_names():
    distiller = compiled_distiller(mlp(), mlp(16, seed=1), compile_with=still(metrics=["accuracy", "agreement"]))
    as_dict = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    as_list = distiller.evaluate(X, Y, verbose=0)
    assert as_list[0] == as_dict["loss"]
    np.testing.assert_allclose(sorted(as_list), sorted(as_dict.values()), rtol=1e-6)


def test_objectives_are_logged_unweighted():
    teacher, student = mlp(16, seed=1), mlp()
    objectives = [kd.objectives.SoftTargets(weight=7.0), kd.objectives.SoftTargets(1.0, weight=0.0, name="cold")]
    logged = compiled_distiller(student, teacher, objectives, compile_with=still()).fit(X, Y, verbose=0).history
    expected = numbers(teacher, student)
    np.testing.assert_allclose(logged["soft_targets"], [expected["soft_targets"]], rtol=1e-5)
    np.testing.assert_allclose(logged["cold"], [expected["teacher_kl"]], rtol=1e-5)
    total = 0.3 * expected["student_loss"] + 0.7 * 7 * expected["soft_targets"]
    np.testing.assert_allclose(logged["loss"], [total], rtol=1e-5)


def test_two_objectives_of_one_class_get_keys_of_their_own():
    teacher, student = mlp(16, seed=1), mlp()
    objectives = [kd.objectives.SoftTargets(temperature) for temperature in (1.0, 2.0, 4.0)]
    distiller = compiled_distiller(
        student, teacher, objectives, compile_with=still(metrics=["soft_targets_1", "soft_targets_2"])
    )
    assert distiller.objective_names == ["soft_targets", "soft_targets_1", "soft_targets_2"]
    logged = distiller.fit(X, Y, verbose=0).history
    evaluated = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    teacher_logits, student_logits = answers(teacher, X), answers(student, X)
    for name, temperature in zip(distiller.objective_names, (1.0, 2.0, 4.0), strict=True):
        expected = soft_target_values(teacher_logits, student_logits, temperature).mean()
        np.testing.assert_allclose(logged[name], [expected], rtol=1e-5)
        if name != "soft_targets":
            np.testing.assert_allclose(evaluated[name], expected, rtol=1e-5)


@pytest.mark.parametrize("names", [["a", "a_1", "a"], ["a", "a", "a_1"]])
def test_a_number_never_meets_a_name_that_a_user_chose(names):
    objectives = [kd.objectives.SoftTargets(float(t), name=name) for t, name in enumerate(names, start=1)]
    teacher, student = mlp(16, seed=1), mlp()
    distiller = compiled_distiller(student, teacher, objectives, compile_with=still())
    assert len(set(distiller.objective_names)) == 3
    logged = distiller.fit(X, Y, verbose=0).history
    teacher_logits, student_logits = answers(teacher, X), answers(student, X)
    for name, temperature in zip(distiller.objective_names, (1.0, 2.0, 3.0), strict=True):
        expected = soft_target_values(teacher_logits, student_logits, temperature).mean()
        np.testing.assert_allclose(logged[name], [expected], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["loss", "student_loss", "agreement", "teacher_kl"])
def test_an_objective_may_not_take_the_name_of_another_metric(name):
    with pytest.raises(ValueError, match=f"`{name}`|'{name}'"):
        kd.Distiller(mlp(), mlp(8), kd.objectives.SoftTargets(name=name))


def test_an_objective_named_as_a_compiled_metric_does_not_hide_it():
    teacher, student = mlp(16, seed=1), mlp()
    distiller = compiled_distiller(
        student,
        teacher,
        kd.objectives.SoftTargets(name="distillation"),
        compile_with=still(metrics=[keras.metrics.SparseCategoricalAccuracy(name="right")]),
    )
    logged = distiller.fit(X, Y, verbose=0).history
    assert set(logged) == {"loss", "student_loss", "distillation", "right"}
    np.testing.assert_allclose(logged["right"], [numbers(teacher, student)["accuracy"]], rtol=1e-6)


def test_agreement_and_kl_of_several_outputs_are_over_all_of_them():
    def heads(width):
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(width, "tanh")(inputs)
        return keras.Model(inputs, [keras.layers.Dense(3, name="a")(hidden), keras.layers.Dense(2, name="b")(hidden)])

    teacher, student = heads(8), heads(5)
    distiller = compiled_distiller(
        student,
        teacher,
        alpha=0.0,
        compile_with=still(loss=[cross_entropy(), cross_entropy()], metrics=["agreement", "teacher_kl"]),
    )
    logged = distiller.fit(X, batch_size=4, verbose=0).history
    pairs = list(zip(answers(teacher, X), answers(student, X), strict=True))
    agreement = np.mean([t.argmax(-1) == s.argmax(-1) for t, s in pairs])
    np.testing.assert_allclose(logged["agreement"], [agreement], rtol=1e-6)
    kl = np.mean([soft_target_values(t, s, 1.0) for t, s in pairs])
    np.testing.assert_allclose(logged["teacher_kl"], [kl], rtol=1e-5)


def test_masked_tokens_are_not_asked_for_agreement():
    def tagger(width):
        layers = [keras.layers.Embedding(9, width, mask_zero=True), keras.layers.Dense(3)]
        return keras.Sequential([keras.Input((5,), dtype="int32"), *layers])

    teacher, student = tagger(8), tagger(4)
    x = np.random.default_rng(0).integers(0, 9, (6, 5))
    distiller = compiled_distiller(student, teacher, compile_with=still(metrics=["agreement", "teacher_kl"]))
    logged = distiller.evaluate(x, x % 3, verbose=0, return_dict=True)
    teacher_logits, student_logits = answers(teacher, x)[x != 0], answers(student, x)[x != 0]
    np.testing.assert_allclose(
        logged["agreement"], (teacher_logits.argmax(-1) == student_logits.argmax(-1)).mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
        logged["teacher_kl"], soft_target_values(teacher_logits, student_logits, 1.0).mean(), rtol=1e-3
    )


def test_a_student_compiled_before_keeps_its_metrics_out():
    teacher, student = mlp(16, seed=1), mlp()
    student.compile("sgd", cross_entropy(), metrics=["sparse_top_k_categorical_accuracy"])
    student.evaluate(X, Y, verbose=0)
    logged = compiled_distiller(student, teacher, compile_with=still(metrics=["accuracy"])).fit(X, Y, verbose=0).history
    assert set(logged) == OWN | {"accuracy"}
    np.testing.assert_allclose(logged["accuracy"], [numbers(teacher, student)["accuracy"]], rtol=1e-6)


def test_each_epoch_starts_its_means_anew():
    teacher, student = mlp(16, seed=1), mlp()
    distiller = compiled_distiller(student, teacher, compile_with=still(metrics=["agreement"]))
    logged = distiller.fit(X, Y, batch_size=4, epochs=3, verbose=0).history
    expected = numbers(teacher, student)
    for key in ("student_loss", "soft_targets", "agreement"):
        np.testing.assert_allclose(logged[key], [expected[key]] * 3, rtol=1e-5)
