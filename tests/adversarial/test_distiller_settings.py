"""Replicas, precisions, compilers, caches: the game is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from tests.adversarial.players import X, Y, adversarial, both_players, judge, judge_for
from tests.cache.caching import batched, refusal_of
from tests.distiller.small_models import assert_same, assert_same_history, cross_entropy, mlp

ROOT = Path(__file__).parents[2]
MODES = ["ac", "anc", "hinge"]


@pytest.fixture(scope="module")
def replicas():
    program = Path(__file__).with_name("replicas_program.py")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(program), json.dumps(MODES)]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd=ROOT)
    lines = [line for line in finished.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, finished.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT"))


@pytest.mark.parametrize("mode", MODES)
def test_two_replicas_play_as_one_device_does(mode, replicas):
    result = replicas[mode]
    assert not isinstance(result, str), result
    (one, one_weights), (two, two_weights) = result
    assert set(two) == set(one)
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, rtol=1e-4, err_msg=key)
    assert_same([np.array(w) for w in two_weights], [np.array(w) for w in one_weights], rtol=1e-4, atol=1e-6)


def test_xla_compiles_both_players():
    """Of the hinge: XLA draws other noise from the same seed."""
    runs = []
    for setting in ({"run_eagerly": True}, {"run_eagerly": False, "jit_compile": True}):
        distiller = adversarial(mlp(), mlp(7, seed=1), judge_for("hinge"), mode="hinge", compile_with=setting)
        runs.append((distiller.train_on_batch(X, Y, return_dict=True), both_players(distiller)))
    assert_same_history(runs[1][0], runs[0][0], rtol=1e-5)
    assert_same(runs[1][1], runs[0][1], rtol=1e-5, atol=1e-6)


def test_a_mixed_precision_game_scales_the_loss_of_either_player():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = [mlp(), mlp(7, seed=1), judge(3)]
    finally:
        keras.config.set_dtype_policy("float32")
    full = [mlp(), mlp(7, seed=1), judge(3)]
    runs = []
    for models in (half, full):
        distiller = adversarial(*models, mode="gan", discriminator_steps=2)
        logged = distiller.train_on_batch(X, Y, return_dict=True)
        runs.append((logged, [*distiller.student.get_weights(), *distiller.discriminator.get_weights()]))
        scaled = isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == isinstance(distiller.discriminator_optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (models is half)
    assert_same_history(*[run[0] for run in runs], rtol=5e-3)
    assert_same(*[run[1] for run in runs], rtol=2e-2, atol=2e-3)


def test_the_default_discriminator_of_a_half_precision_student_needs_no_scale():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        distiller = adversarial(mode="ac")
        distiller.train_on_batch(X, Y)
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(distiller.discriminator_optimizer, keras.optimizers.SGD)
    assert distiller.discriminator.dtype_policy.name == "float32"


@pytest.mark.parametrize("mode", ["ac", "anc"])
def test_a_cache_plays_as_its_teacher_does(mode, tmp_path):
    teacher, taps = mlp(7, seed=1), ["head:input"] if mode == "anc" else []
    kd.cache_teacher(teacher, batched((X, Y), 8), tmp_path / "cache", taps=taps, dtype="float32")
    cached = kd.open_cache(tmp_path / "cache", batched((X, Y), 8))
    on = ("head:input", "head:input") if mode == "anc" else None
    runs = []
    for data, source in ((batched((X, Y), 8), teacher), (cached, None)):
        keras.utils.set_random_seed(1)
        model = judge(7) if mode == "anc" else judge_for(mode)
        distiller = adversarial_of(mlp(), source, model, mode=mode, on=on)
        if mode == "anc":
            keras.utils.set_random_seed(2)
            distiller.judged.build([(None, 7)], [(None, 5)])
        history = distiller.fit(data, verbose=0).history
        runs.append((history, both_players(distiller)))
    # A cache keeps features in float16, to 2^-11.
    tolerance = {"rtol": 5e-4, "atol": 1e-5} if mode == "anc" else {"rtol": 1e-5, "atol": 1e-6}
    assert_same_history(runs[1][0], runs[0][0], **tolerance)
    assert_same(runs[1][1], runs[0][1], **tolerance)


def adversarial_of(student, teacher, model, **arguments):
    distiller = kd.AdversarialDistiller(student, teacher, model, **arguments)
    distiller.compile(keras.optimizers.SGD(0.1), loss=cross_entropy(), run_eagerly=True)
    return distiller


def test_a_cache_that_holds_a_few_classes_is_refused(tmp_path):
    kd.cache_teacher(mlp(7, seed=1), batched((X, Y), 8), tmp_path / "cache", top_k=2, temperature=4.0)
    cached = kd.open_cache(tmp_path / "cache", batched((X, Y), 8))
    assert refusal_of(adversarial_of(mlp(), None, judge(3), mode="gan", objectives=[]).fit, cached) == (
        "`JudgedLogits`: it needs the teacher's logits of all classes. The cache holds 'output_0' as top_k. Make it "
        "without `top_k` and `samples`, or use `SoftTargets`."
    )


class Counted(keras.layers.Layer):
    """Counts its eager runs on real numbers."""

    runs = 0

    def call(self, inputs):
        if hasattr(inputs, "numpy"):
            type(self).runs += 1
        return inputs


def test_evaluate_and_predict_are_the_students():
    model = keras.Sequential([keras.Input((3,)), Counted(), keras.layers.Dense(1)])
    distiller = adversarial(None, None, model, mode="gan", compile_with={"metrics": ["accuracy"]})
    distiller.train_on_batch(X, Y)
    assert Counted.runs == 3  # for the student's loss, and of either signal for its own
    plain = keras.models.clone_model(distiller.student)
    plain.set_weights(distiller.student.get_weights())
    plain.compile(loss=cross_entropy(), metrics=["accuracy"])
    logged = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    expected = plain.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(logged) == {"loss", "student_loss", "accuracy"}
    assert {key: logged[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(distiller.predict(X, verbose=0), plain.predict(X, verbose=0), rtol=1e-5)
    assert Counted.runs == 3


def test_one_forward_of_student_and_teacher_a_step():
    class Student(Counted):
        runs = 0

    class Teacher(Counted):
        runs = 0

    def counted(layer, width, seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(width, "tanh"), keras.layers.Dense(3)])

    student, teacher = counted(Student(), 5, 0), counted(Teacher(), 7, 1)
    distiller = adversarial(student, teacher, mode="anc", discriminator_steps=3)
    distiller.train_on_batch(X, Y)
    Student.runs = Teacher.runs = 0
    distiller.train_on_batch(X, Y)
    assert (Student.runs, Teacher.runs) == (1, 1)


def test_the_students_loss_leaves_the_discriminators_statistics_alone():
    """It asks in inference mode; only the discriminator's own step trains."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.5), keras.layers.Dense(1)])
    distiller = adversarial(None, None, model, mode="gan", adversarial_weight=0.0)
    taught, learnt = (np.array(one(X)) for one in (distiller.teacher, distiller.student))
    distiller.train_on_batch(X, Y)
    expected = 0.5 * (0.5 * np.zeros(3) + 0.5 * taught.mean(0)) + 0.5 * learnt.mean(0)
    np.testing.assert_allclose(model.layers[0].moving_mean, expected, rtol=1e-4, atol=1e-6)


def test_generators_and_datasets_without_a_known_size_play_too():
    distiller = adversarial(mode="wgan-gp")
    distiller.fit(((X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)), steps_per_epoch=3, verbose=0)
    assert int(distiller.discriminator_optimizer.iterations) == 3
    assert distiller.discriminator.input_shape == [(None, 3), (None, 4)]


def test_the_discriminators_optimizer_is_a_second_one_of_the_same_settings():
    optimizer = keras.optimizers.AdamW(0.03, weight_decay=0.2, clipnorm=1.0)
    distiller = adversarial(compile_with={"optimizer": optimizer})
    second = distiller.discriminator_optimizer
    assert second is not optimizer
    assert type(second) is keras.optimizers.AdamW
    assert second.get_config() == optimizer.get_config()
    tf.debugging.assert_equal(second.learning_rate, optimizer.learning_rate)
    distiller.compile("adam", "sgd")
    assert isinstance(distiller.discriminator_optimizer, keras.optimizers.SGD)
