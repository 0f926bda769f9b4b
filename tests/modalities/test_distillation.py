"""A teacher of three modalities and its students, through `Distiller`."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.modalities import ModalityDropout, fusion_model
from tests.modalities.three import CLASSES, SUBSETS, THREE, batch, with_presence

TRAIN, LABELS = batch(60)
TEST, TEST_LABELS = batch(30, seed=1)


def model_of(names, width, seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    model = fusion_model({name: THREE[name] for name in names}, CLASSES, width=width, **kwargs)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # the default takes hundreds of steps
    return model


def fitted(model, x, y=None, epochs=15):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss if y is not None else None)
    model.optimizer.build(model.trainable_variables)  # or the step that builds it is traced a second time
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-2 if epoch < epochs else 1e-3)
    model.fit(x, y, epochs=epochs + 4, batch_size=20, callbacks=[rates], verbose=0)
    return model


@pytest.fixture(scope="module")
def teacher():
    return fitted(model_of(THREE, 6, fusion="gated"), TRAIN, LABELS)


def accuracy(model, x):
    return float((np.asarray(model(x)).argmax(axis=1) == TEST_LABELS).mean())


@pytest.mark.parametrize("names", [["image"], ["audio"], ["text"], ["image", "audio"], list(THREE)], ids="+".join)
def test_students_learn_without_labels_from_a_teacher_that_sees_all(teacher, names):
    student = model_of(names, 3, seed=1)
    distiller = kd.Distiller(student, teacher, alpha=0.0, temperature=2.0, student_inputs=names)
    fitted(distiller, TRAIN, epochs=25)
    assert accuracy(teacher, TEST) == 1.0
    # What it sees alone tells the classes apart, in noise.
    assert accuracy(student, {name: TEST[name] for name in names}) >= 0.9
    np.testing.assert_allclose(
        distiller.predict(TEST, verbose=0), student({name: TEST[name] for name in names}), rtol=1e-4, atol=1e-4
    )


def test_the_loss_is_that_of_the_teacher_on_all_and_the_student_on_one(teacher):
    student = model_of(["image"], 3, seed=2)
    distiller = kd.Distiller(student, teacher, alpha=0.0, temperature=2.0, student_inputs=["image"])
    distiller.compile(keras.optimizers.SGD(0.0), metrics=["soft_targets"])
    value = distiller.evaluate(TEST, TEST_LABELS, batch_size=30, verbose=0, return_dict=True)["soft_targets"]
    t, s = (np.asarray(logits, "float64") / 2 for logits in (teacher(TEST), student({"image": TEST["image"]})))
    p, q = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (t, s))
    assert value == pytest.approx(4 * np.mean(np.sum(p * np.log(p / q), axis=1)), rel=1e-4)


@pytest.mark.parametrize("names", [["audio"], list(THREE)], ids="+".join)
def test_hints_go_from_branch_to_branch_between_widths(teacher, names):
    student = model_of(names, 2, seed=3)
    hints = [kd.objectives.Hint(f"{n}_embedding", f"{n}_embedding", name=f"{n}_hint") for n in names]
    distiller = kd.Distiller(student, teacher, hints, alpha=0.0, student_inputs=names)
    before = {name: np.asarray(student.get_layer(f"{name}_embedding").kernel) for name in names}
    distiller.compile(keras.optimizers.Adam(1e-2))
    history = distiller.fit(TRAIN, epochs=15, batch_size=20, verbose=0).history
    for name, hint in zip(names, distiller.objectives, strict=True):
        assert history[f"{name}_hint"][-1] < 0.6 * history[f"{name}_hint"][0]
        assert (np.asarray(student.get_layer(f"{name}_embedding").kernel) != before[name]).any()
        assert [tuple(weight.shape) for weight in hint.trainable_weights] == [(4, 12), (12,)]


EVERYTHING = with_presence(TRAIN, THREE)


@pytest.fixture(scope="module")
def teacher_told_what_is_present():
    return fitted(model_of(THREE, 6, present=True), EVERYTHING, LABELS)


@pytest.mark.parametrize("fusion", ["concat", "attention", "gated"])
def test_a_student_with_dropout_works_with_each_subset(fusion, teacher_told_what_is_present):
    student = model_of(THREE, 4, seed=4, fusion=fusion, present=True, dropout_rates=0.5)
    assert isinstance(student.get_layer("modality_dropout"), ModalityDropout)
    distiller = kd.Distiller(student, teacher_told_what_is_present, alpha=0.0, temperature=2.0)
    fitted(distiller, EVERYTHING, epochs=80)
    table = {"+".join(sorted(subset)): accuracy(student, with_presence(TEST, subset)) for subset in SUBSETS}
    assert len(table) == 7
    assert min(table.values()) >= 0.9, table
    assert table["audio+image+text"] == 1.0
