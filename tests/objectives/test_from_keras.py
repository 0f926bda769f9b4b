import keras
import numpy as np
import pytest
from keras.distillation import FeatureDistillation, LogitsDistillation

from keras_kd.objectives import FromKeras
from keras_kd.signals import Signals

A, B, C, D = np.random.default_rng(0).normal(scale=2, size=(4, 5, 3)).astype("float32")


def values(loss, teacher, student):
    objective = FromKeras(loss)
    objective.prepare(teacher, student)
    return objective.values(teacher, student, temperature=99.0)


@pytest.mark.parametrize(
    ("loss", "teacher", "student"),
    [
        (LogitsDistillation(2.0, keras.losses.KLDivergence()), A, B),
        (LogitsDistillation(2.0), A, B),
        (LogitsDistillation(3.0, keras.losses.CategoricalCrossentropy(from_logits=True)), A, B),
        (LogitsDistillation(3.0, [keras.losses.KLDivergence(), None]), [A, B], [C, D]),
        (LogitsDistillation(3.0, {"x": keras.losses.KLDivergence(), "y": "mse"}), {"x": A, "y": B}, {"x": C, "y": D}),
        (FeatureDistillation("mse"), A, B),
    ],
)
def test_equals_what_keras_computes_of_the_outputs(loss, teacher, student):
    expected = float(loss.compute_loss(teacher, student))
    (value,) = values(loss, Signals.of(teacher), Signals.of(student)).values()
    np.testing.assert_allclose(value, np.full(5, expected), rtol=1e-6)


def test_equals_what_keras_computes_of_the_layers():
    loss = FeatureDistillation(keras.losses.MeanAbsoluteError(), "t", "s")
    found = values(loss, Signals.of(A, taps={"t": C}), Signals.of(B, taps={"s": D}))
    assert list(found) == [None]
    np.testing.assert_allclose(found[None], np.full(5, np.abs(C - D).mean()), rtol=1e-6)


def test_one_layer_is_compared_with_the_output_of_the_other_model():
    loss = FeatureDistillation("mse", student_layer_name="s")
    objective = FromKeras(loss)
    assert (objective.teacher_taps, objective.student_taps) == ((), ("s",))
    found = values(loss, Signals.of(A), Signals.of(B, taps={"s": D}))[None]
    np.testing.assert_allclose(found, np.full(5, ((A - D) ** 2).mean()), rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "compares"),
    [
        (LogitsDistillation(2.0), True),
        (FeatureDistillation("mse"), True),
        (FeatureDistillation("mse", student_layer_name="s"), True),
        (FeatureDistillation("mse", "t", "s"), False),
    ],
)
def test_says_whether_it_looks_at_outputs(loss, compares):
    assert FromKeras(loss).compares_logits is compares


def test_half_precision_is_compared_in_float32():
    found = values(FeatureDistillation("mse"), Signals.of(A.astype("float16")), Signals.of(B.astype("float16")))[None]
    assert found.dtype == "float32"
    expected = np.mean((np.float64(A.astype("float16")) - B.astype("float16")) ** 2)
    np.testing.assert_allclose(found, np.full(5, expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: FromKeras(keras.losses.KLDivergence()),
            r"`FromKeras`: `loss` must be a `keras.distillation.DistillationLoss`. Received: <",
        ),
        (
            lambda: values(LogitsDistillation(2.0), Signals.of([A, B]), Signals.of(C)),
            r"`LogitsDistillation` teacher outputs, student outputs and its `loss` must have one structure\. "
            r"Received: teacher \['output_0', 'output_1'\], student \['output_0'\]\.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
