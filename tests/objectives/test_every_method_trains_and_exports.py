"""Any method, on two models of different width and grid, trains and exports a student that is the student alone."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd import objectives as o
from keras_kd.export import LiteRTModel

X = np.random.default_rng(0).normal(size=(16, 16, 16, 1)).astype("float32")
Y = np.arange(16) % 4


def network(widths, strides, name):
    """Three stages, each tapped before and after its ReLU, a pool and a head."""
    stack = [keras.Input((16, 16, 1), name="image")]
    for stage, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        stack += [layers.Conv2D(width, 3, stride, padding="same", name=f"conv{stage}")]
        stack += [layers.BatchNormalization(name=f"norm{stage}"), layers.ReLU(name=f"stage{stage}")]
    return keras.Sequential(
        [*stack, layers.GlobalAveragePooling2D(name="pool"), layers.Dense(4, name="head")], name=name
    )


def teacher():
    return network((6, 8, 10), (1, 2, 2), "teacher")


def student():
    return network((3, 4, 5), (2, 2, 2), "student")


PRE, LAST, EMBEDDING = ("stage2:input", "stage2:input"), ("stage3", "stage3"), ("head:input", "head:input")
ENDS = (["stage1", "stage3"], ["stage1", "stage3"])
METHODS = {
    "SoftTargets": lambda: o.SoftTargets(4.0),
    "SoftCrossEntropy": lambda: o.SoftCrossEntropy(4.0),
    "HardLabels": o.HardLabels,
    "LogitsMSE": o.LogitsMSE,
    "ReverseKL": o.ReverseKL,
    "JensenShannon": o.JensenShannon,
    "StandardizedSoftTargets": o.StandardizedSoftTargets,
    "CurriculumTemperature": o.CurriculumTemperature,
    "DecoupledKD": o.DecoupledKD,
    "NormalizedKD": o.NormalizedKD,
    "WeightedSoftLabels": o.WeightedSoftLabels,
    "DIST": o.DIST,
    "MultiLevel": o.MultiLevel,
    "DenseGuidance": o.DenseGuidance,
    "Hint": lambda: o.Hint(*LAST),
    "AttentionTransfer": lambda: o.AttentionTransfer(*LAST),
    "ChannelWise": lambda: o.ChannelWise(*LAST),
    "NeuronSelectivity": lambda: o.NeuronSelectivity(*LAST),
    "InterChannelCorrelation": lambda: o.InterChannelCorrelation(*LAST),
    "FlowOfSolution": lambda: o.FlowOfSolution(*ENDS),
    "ActivationBoundary": lambda: o.ActivationBoundary(*PRE, weight=0.003),
    "VariationalInformation": lambda: o.VariationalInformation(*LAST, weight=1e-3),
    "Overhaul": lambda: o.Overhaul(*PRE, weight=1e-3),
    "FactorTransfer": lambda: o.FactorTransfer(*LAST),
    "SimilarityPreserving": lambda: o.SimilarityPreserving(*LAST),
    "Relational": lambda: o.Relational(*EMBEDDING),
    "ProbabilisticTransfer": lambda: o.ProbabilisticTransfer(*EMBEDDING),
    "CorrelationCongruence": lambda: o.CorrelationCongruence(*EMBEDDING),
    "BatchAffinity": lambda: o.BatchAffinity(*EMBEDDING, teacher_temperature=0.1, student_temperature=0.1),
    "Contrastive": lambda: o.Contrastive(*EMBEDDING, dim=6, bank_size=12),
    "Review": lambda: o.Review(*ENDS),
    "SimKD": lambda: o.SimKD("pool:input", "pool:input"),
}


def test_every_method_is_here():
    public = {name for name in o.__all__ if isinstance(getattr(o, name), type)}
    assert public - {"Objective", "FromKeras"} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_trains_and_exports_a_student_without_projector_or_teacher(name, plain_file, tmp_path):
    keras.utils.set_random_seed(0)
    objective, learner, taught_by = METHODS[name](), student(), teacher()
    distiller = kd.Distiller(learner, taught_by, objective, alpha=0.0)
    distiller.compile(keras.optimizers.Adam(1e-2), metrics=["teacher_kl"])
    of_teacher = taught_by.get_weights()
    # The weights of these soft labels grow with what the student gets wrong, and their sum with them.
    falling = "teacher_kl" if name == "WeightedSoftLabels" else distiller.objective_names[0]
    history = distiller.fit(X, Y, batch_size=8, epochs=12, verbose=0).history[falling]
    assert history[-1] < history[0]
    for now, then in zip(taught_by.get_weights(), of_teacher, strict=True):
        np.testing.assert_array_equal(now, then)
    trained = {id(variable) for variable in distiller.trainable_variables}
    assert trained == {id(weight) for weight in (*objective.trainable_weights, *learner.trainable_weights)}

    if name != "SimKD":
        assert distiller.finished_student is learner
        learner.set_weights(plain_weights())
    report = kd.export_student(distiller, tmp_path, formats="tflite")
    finished = distiller.finished_student
    np.testing.assert_allclose(LiteRTModel(tmp_path / "student.tflite")(X), finished(X, training=False), atol=1e-4)
    assert report.parameters == finished.count_params()
    if name != "SimKD":
        assert model_in(tmp_path / "student.tflite") == plain_file


def plain_weights():
    """Neither those that a student begins with nor those that training leaves."""
    rng = np.random.default_rng(1)
    return [rng.uniform(0.1, 1, weight.shape) for weight in student().get_weights()]


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory):
    """What a student becomes that no teacher has met."""
    folder, plain = tmp_path_factory.mktemp("plain"), student()
    plain.set_weights(plain_weights())
    kd.export_student(plain, folder, formats="tflite")
    return model_in(folder / "student.tflite")


def model_in(file):
    """Without what follows, and is no part of the model: the names of the teacher and the objectives."""
    return file.read_bytes().partition(b"PK\x03\x04")[0]
