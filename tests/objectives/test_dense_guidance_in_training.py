"""Dense guidance in a distiller: its total, its evaluation, and a run that was interrupted."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import softmax

import keras_kd as kd
from keras_kd.objectives import DecoupledKD, DenseGuidance, SoftTargets
from tests.losses.cases.logits import kl
from tests.objectives.test_dense_guidance import kept_in, sums_by_kept

X, Y = np.random.default_rng(1).normal(size=(24, 5)).astype("float32"), np.arange(24) % 3


def mlp(width, seed, name=None, dropout=0.0):
    keras.utils.set_random_seed(seed)
    normal = keras.initializers.RandomNormal(stddev=1.5)
    parts = [layers.Dense(width, "tanh", kernel_initializer=normal), layers.Dropout(dropout, seed=seed)]
    head = layers.Dense(3, kernel_initializer=normal, dtype="float32")
    return keras.Sequential([keras.Input((5,)), *parts, head], name=name)


def teachers():
    """The second says probabilities."""
    second = kd.Teacher(keras.Sequential([mlp(8, 2), layers.Softmax(dtype="float32")]), outputs="probabilities")
    return [mlp(9, 1), second, mlp(7, 3)]


def learning(objective, taught, student=None, rate=0.05, alpha=0.3, **compile_with):
    distiller = kd.Distiller(student or mlp(4, 4), taught, objective, alpha=alpha, temperature=3.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(rate, 0.9), loss, **compile_with)
    return distiller


def softened_kl_of_each(student):
    learnt = np.float64(student(X))
    said = [np.float64(mlp(width, seed)(X)) for seed, width in ((1, 9), (2, 8), (3, 7))]
    return [kl(one, learnt, 3.0).mean() for one in said]


def means_of_batches(distiller, batches):
    """What each batch logs, by itself."""
    logged = []
    for _ in range(batches):
        distiller.reset_metrics()
        logged.append(distiller.train_on_batch(X, Y, return_dict=True))
    return logged


@pytest.mark.parametrize("compile_with", [{"jit_compile": False}, {"jit_compile": True}], ids=["graph", "xla"])
def test_the_total_is_that_of_the_authors(compile_with):
    student = mlp(4, 4)
    distiller = learning(DenseGuidance(seed=2), teachers(), student, rate=0.0, **compile_with)
    sums = sums_by_kept(softened_kl_of_each(student), 1)
    logged = means_of_batches(distiller, 12)
    assert {kept_in(logs["dense_guidance"], sums) for logs in logged} == set(sums)
    for logs in logged:
        np.testing.assert_allclose(
            logs["loss"], 0.3 * logs["student_loss"] + 0.7 * sums[kept_in(logs["dense_guidance"], sums)], rtol=1e-4
        )


def test_evaluation_asks_all_teachers_and_agreement_is_with_their_mean():
    student = mlp(4, 4)
    distiller = learning(DenseGuidance(), teachers(), student, metrics=["agreement", "dense_guidance"])
    results = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(results["dense_guidance"], sum(softened_kl_of_each(student)), rtol=1e-4)
    mean = sum(softmax(np.asarray(mlp(width, seed)(X)), -1) for seed, width in ((1, 9), (2, 8), (3, 7)))
    agreeing = (mean.argmax(-1) == np.asarray(student(X)).argmax(-1)).mean()
    np.testing.assert_allclose(results["agreement"], agreeing, rtol=1e-6)


def test_it_follows_the_distillers_temperature():
    student = mlp(4, 4)
    distiller = learning(DenseGuidance(drop=0), [mlp(9, 1), mlp(7, 3)], student, rate=0.0)
    schedule = kd.schedules.Linear("temperature", 6.0, 2.0, epochs=3)
    history = distiller.fit(X, Y, batch_size=24, epochs=3, verbose=0, callbacks=[schedule]).history
    learnt, said = np.float64(student(X)), [np.float64(mlp(9, 1)(X)), np.float64(mlp(7, 3)(X))]
    expected = [sum(kl(one, learnt, t).mean() for one in said) for t in (6.0, 4.0, 2.0)]
    np.testing.assert_allclose(history["dense_guidance"], expected, rtol=1e-4)
    assert float(DenseGuidance(SoftTargets(2.0)).asks_at(7.0)) == 2.0
    assert DenseGuidance().asks_at(7.0) == 7.0


def test_mixed_precision_computes_in_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student, taught = mlp(4, 4), [mlp(9, 1), mlp(7, 3)]
        distiller = learning(DenseGuidance(drop=0), taught, student, rate=0.0)
        (logged,) = means_of_batches(distiller, 1)
        learnt, said = np.float64(student(X)), [np.float64(one(X)) for one in taught]
    finally:
        keras.config.set_dtype_policy(policy)
    assert distiller.optimizer.name == "loss_scale_optimizer"
    np.testing.assert_allclose(logged["dense_guidance"], sum(kl(one, learnt, 3.0).mean() for one in said), rtol=1e-3)


def test_without_dropping_n_teachers_move_the_student_n_times_as_far_as_their_mean():
    moved = []
    for objective in (DenseGuidance(drop=0), SoftTargets(weight=3.0)):
        student = mlp(4, 4)
        learning(objective, teachers(), student, alpha=0.0).fit(X, epochs=3, shuffle=False, verbose=0)
        moved.append(student.get_weights())
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_it_reads_labels_where_its_objective_does():
    distiller = learning(DenseGuidance(DecoupledKD()), teachers(), alpha=0.0)
    text = "`Distiller`: the objectives ['dense_guidance'] compare with the labels. Received data without. Give `y`."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        distiller.fit(X, verbose=0)


@pytest.mark.parametrize("drop", [3, 4])
def test_when_training_begins_a_teacher_must_be_left(drop):
    text = (
        f"`DenseGuidance`: `drop` must be less than the number of teachers, 3. Received: drop={drop}. Drop fewer, or "
        "give more teachers."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        learning(DenseGuidance(drop=drop), teachers()).fit(X, Y, verbose=0)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def run(seed, *callbacks, distiller=None, **options):
    """Five epochs of three batches, and what they leave behind."""
    distiller = distiller or learning(DenseGuidance(seed=seed), teachers(), mlp(4, 4, dropout=0.3))
    options = {"batch_size": 8, "epochs": 5, "shuffle": False, "verbose": 0, **options}
    history = distiller.fit(X, Y, callbacks=list(callbacks), **options).history
    return history, distiller.student.get_weights()


def assert_goes_on_as(unbroken, resumed):
    (history, weights), (rest, weights_of_resumed) = unbroken, resumed
    assert history["dense_guidance"][2:] == rest["dense_guidance"]
    for one, other in zip(weights_of_resumed, weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_resumed_by_backup_and_restore_goes_on_with_its_draws(tmp_path):
    unbroken = run(5)
    with pytest.raises(KeyboardInterrupt):
        run(5, keras.callbacks.BackupAndRestore(tmp_path), Interrupt())
    # Another seed: what counts is where the draws of the first run had come to.
    assert_goes_on_as(unbroken, run(99, keras.callbacks.BackupAndRestore(tmp_path)))


def test_a_saved_run_goes_on_with_its_draws(tmp_path):
    unbroken, first = run(5), learning(DenseGuidance(seed=5), teachers(), mlp(4, 4, dropout=0.3))
    run(None, distiller=first, epochs=2)
    first.save(tmp_path / "half.keras")
    resumed = keras.models.load_model(tmp_path / "half.keras")
    resumed.teacher = teachers()
    assert_goes_on_as(unbroken, run(None, distiller=resumed, initial_epoch=2))


def test_the_seed_decides_the_draws():
    runs = [run(seed)[0]["dense_guidance"] for seed in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
