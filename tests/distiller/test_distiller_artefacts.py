"""What is saved, checkpointed and exported holds the student and what trains with it, never the teacher."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy_reference import soft_target_values
from small_models import (
    answers,
    assert_same,
    assert_same_history,
    compiled_distiller,
    cross_entropy,
    examples,
    mlp,
    twin,
    values_of,
)

import keras_kd as kd

X, Y = examples(24)
TEACHER_WIDTH = 17  # no other shape holds a 17


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.body, self.head = layers.Dense(width, "tanh", name="hidden"), layers.Dense(3, name="head")

    def call(self, inputs):
        return self.head(self.body(inputs))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def distiller_of(student=None, teacher=None, hint=True, **kwargs):
    """A distiller with Adam and, where there is a hint, a projector."""
    objectives = [kd.objectives.SoftTargets()]
    if hint:
        projector = layers.Dense(TEACHER_WIDTH - 1, name="projector")
        objectives.append(kd.objectives.Hint("squeezed", "hidden", projector=projector, weight=0.5))
    return compiled_distiller(
        student or mlp(),
        teacher_model() if teacher is None else teacher,
        objectives,
        compile_with={"optimizer": keras.optimizers.Adam(0.05), "metrics": ["accuracy", "agreement"]},
        **kwargs,
    )


def teacher_model():
    keras.utils.set_random_seed(9)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(TEACHER_WIDTH, "tanh"),
            layers.Dense(TEACHER_WIDTH - 1, "tanh", name="squeezed"),
            layers.Dense(TEACHER_WIDTH),
            layers.Dense(3),
        ],
        name="wise_teacher",
    )


def shapes_in_h5(file):
    shapes = []
    with h5py.File(file) as group:
        group.visititems(
            lambda name, item: shapes.append(tuple(item.shape)) if isinstance(item, h5py.Dataset) else None
        )
    return shapes


def teacher_shapes(shapes):
    return [shape for shape in shapes if TEACHER_WIDTH in tuple(shape)]


def fitted(**kwargs):
    distiller = distiller_of(**kwargs)
    distiller.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return distiller


STUDENTS = {
    "sequential": mlp,
    "functional": lambda: keras.Model(*(lambda i: (i, layers.Dense(3)(layers.Dense(5, "tanh", name="hidden")(i))))(
        keras.Input((4,))
    )),
    "subclassed": lambda: Subclassed(5),
    "unbuilt": lambda: keras.Sequential([layers.Dense(5, "tanh", name="hidden"), layers.Dense(3)]),
}  # fmt: skip


@pytest.mark.parametrize("student", STUDENTS)
def test_a_keras_file_holds_no_teacher_predicts_and_evaluates_alike_and_goes_on_as_if_unbroken(student, tmp_path):
    teacher = teacher_model()
    distiller = fitted(student=STUDENTS[student](), teacher=teacher)
    distiller.alpha, distiller.temperature = 0.6, 2.5
    path = tmp_path / "distiller.keras"
    distiller.save(path)

    with zipfile.ZipFile(path) as archive:
        assert "wise_teacher" not in archive.read("config.json").decode()
        shapes = shapes_in_h5(io.BytesIO(archive.read("model.weights.h5")))
    assert teacher_shapes(shapes) == []
    assert (5, TEACHER_WIDTH - 1) in shapes

    loaded = keras.models.load_model(path)
    assert loaded.teacher is None
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), distiller.predict(X, verbose=0))
    assert_same(loaded.student.get_weights(), distiller.student.get_weights())
    assert_same(values_of(loaded.optimizer.variables), values_of(distiller.optimizer.variables))
    expected = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    del expected["agreement"]
    assert loaded.evaluate(X, Y, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-6)
    assert_goes_on(loaded, distiller, teacher)


def test_a_loaded_distiller_without_projector_goes_on_as_if_unbroken(tmp_path):
    teacher = teacher_model()
    distiller = fitted(teacher=teacher, hint=False)
    distiller.alpha, distiller.temperature = 0.6, 2.5
    distiller.save(tmp_path / "distiller.keras")
    assert_goes_on(keras.models.load_model(tmp_path / "distiller.keras"), distiller, teacher)


def assert_goes_on(loaded, distiller, teacher):
    loaded.teacher = teacher
    histories = [one.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history for one in (distiller, loaded)]
    assert set(histories[1]) == set(histories[0])
    assert_same_history(histories[1], histories[0], rtol=1e-5)
    assert_same(loaded.student.get_weights(), distiller.student.get_weights(), rtol=1e-5, atol=1e-6)
    assert_same(values_of(loaded.optimizer.variables), values_of(distiller.optimizer.variables), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def distiller():
    """Fitted; only to be read."""
    return fitted()


def test_a_keras_file_loads_in_a_process_that_never_saw_the_models(distiller, tmp_path):
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras", safe_mode=True)
    assert type(loaded) is kd.Distiller
    assert loaded.objective_names == ["soft_targets", "hint"]


@pytest.mark.parametrize("call", ["fit", "train_on_batch"])
def test_a_loaded_distiller_asks_for_its_teacher(call, distiller, tmp_path):
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    with pytest.raises(
        ValueError, match=r"no teacher to learn from. Assign one, `distiller.teacher = model`; it is not"
    ):
        getattr(loaded, call)(X, Y)


def test_weights_files_hold_no_teacher_and_restore(distiller, tmp_path):
    path = tmp_path / "distiller.weights.h5"
    distiller.save_weights(path)
    assert teacher_shapes(shapes_in_h5(path)) == []
    fresh = distiller_of(student=mlp(seed=5))
    fresh.fit(X, Y, verbose=0)
    fresh.load_weights(path)
    np.testing.assert_array_equal(fresh.predict(X, verbose=0), distiller.predict(X, verbose=0))
    assert_same(fresh.objectives[1].get_weights(), distiller.objectives[1].get_weights())
    assert_same(values_of(fresh.optimizer.variables), values_of(distiller.optimizer.variables))


def test_weights_load_into_a_distiller_that_has_not_trained_yet(tmp_path):
    teacher = teacher_model()

    def fresh():
        objectives = [kd.objectives.SoftTargets(), kd.objectives.Hint("squeezed", "hidden")]
        return compiled_distiller(mlp(), teacher, objectives, compile_with={"optimizer": keras.optimizers.SGD(0.1)})

    distiller, other = fresh(), fresh()
    distiller.fit(X, Y, shuffle=False, verbose=0)
    distiller.save_weights(tmp_path / "distiller.weights.h5")
    other.load_weights(tmp_path / "distiller.weights.h5")
    histories = [one.fit(X, Y, shuffle=False, verbose=0).history for one in (distiller, other)]
    assert_same_history(histories[1], histories[0], rtol=1e-5)
    assert_same(other.objectives[1].get_weights(), distiller.objectives[1].get_weights(), rtol=1e-5, atol=1e-6)


def test_the_students_own_files_hold_the_student_alone(distiller, tmp_path):
    distiller.student.save(tmp_path / "student.keras")
    distiller.student.save_weights(tmp_path / "student.weights.h5")
    shapes = sorted(tuple(weight.shape) for weight in distiller.student.weights)
    assert sorted(shapes_in_h5(tmp_path / "student.weights.h5")) == shapes
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert type(loaded) is keras.Sequential
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), distiller.predict(X, verbose=0))


def test_a_tensorflow_checkpoint_holds_no_teacher_and_restores(distiller, tmp_path):
    path = tf.train.Checkpoint(distiller).write(str(tmp_path / "checkpoint"))
    shapes = [shape for _, shape in tf.train.list_variables(path)]
    assert teacher_shapes(shapes) == []
    assert shapes.count([5, TEACHER_WIDTH - 1]) >= 3  # the projector and its two Adam moments
    fresh = distiller_of(student=mlp(seed=5))
    fresh.fit(X, Y, verbose=0)
    tf.train.Checkpoint(fresh).read(path).assert_existing_objects_matched()
    assert_same(fresh.student.get_weights(), distiller.student.get_weights())
    assert_same(fresh.objectives[1].get_weights(), distiller.objectives[1].get_weights())


@pytest.mark.parametrize("exported", ["distiller", "student"])
def test_an_export_is_the_student_alone(exported, distiller, tmp_path):
    plain = twin(distiller.student)
    models = {"received": distiller if exported == "distiller" else distiller.student, "expected": plain}
    folders = [tmp_path / name for name in models]
    for name, model in models.items():
        model.export(str(tmp_path / name), verbose=False)
    received, expected = (tf.train.list_variables(str(folder / "variables/variables")) for folder in folders)
    assert sorted(shape for _, shape in received) == sorted(shape for _, shape in expected)
    served = tf.saved_model.load(str(folders[0]))
    np.testing.assert_allclose(served.serve(X), answers(plain, X), rtol=1e-5, atol=1e-6)


def test_teacher_shared_layers_are_saved_with_the_student_once(tmp_path):
    body, inputs = layers.Dense(5, "tanh", name="hidden"), keras.Input((4,))
    teacher = keras.Model(inputs, layers.Dense(3)(layers.Dense(TEACHER_WIDTH)(body(inputs))))
    student = keras.Model(inputs, layers.Dense(3)(body(inputs)))
    distiller = fitted(student=student, teacher=teacher, hint=False)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), distiller.predict(X, verbose=0))


@pytest.mark.parametrize("policy_at_load", ["mixed_float16", "float32"])
def test_a_mixed_precision_distiller_reloads_with_its_loss_scale(policy_at_load, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    teacher, student = teacher_model(), mlp()
    distiller = fitted(student=student, teacher=teacher, hint=False)
    distiller.save(tmp_path / "distiller.keras")
    keras.config.set_dtype_policy(policy_at_load)
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.teacher = teacher
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    assert_same(values_of(loaded.optimizer.variables), values_of(distiller.optimizer.variables))
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), distiller.predict(X, verbose=0))
    histories = [one.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history for one in (distiller, loaded)]
    assert_same_history(histories[1], histories[0], rtol=1e-4)


def test_another_teacher_may_take_over():
    first, second, student = mlp(8, seed=1), mlp(9, seed=2), mlp(seed=3)
    distiller = compiled_distiller(student, first, compile_with={"optimizer": keras.optimizers.SGD(0.0)})
    for teacher in (first, second, [first, second]):
        distiller.teacher = teacher
        assert distiller.teacher is teacher
        logged = distiller.fit(X, Y, batch_size=len(X), verbose=0).history
        if isinstance(teacher, list):
            continue
        expected = soft_target_values(answers(teacher, X), answers(student, X), 4.0).mean()
        np.testing.assert_allclose(logged["soft_targets"], [expected], rtol=1e-4)


def test_a_copy_of_the_student_is_free_of_the_distiller(distiller):
    copy = twin(distiller.student)
    copy.compile("sgd", cross_entropy())
    before = distiller.student.get_weights()
    copy.fit(X, Y, verbose=0)
    assert_same(distiller.student.get_weights(), before)
    assert len(distiller.student.weights) == 4
