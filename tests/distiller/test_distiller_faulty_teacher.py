"""A teacher that gives NaN or infinity is found and named in the step it happens."""

import keras
import numpy as np
import pytest
from small_models import assert_same, compiled_distiller, examples, mlp, twin

import keras_kd as kd

X, Y = examples(24)


class Overflowing(keras.layers.Layer):
    """Divides by the first feature."""

    def call(self, inputs):
        return inputs / inputs[:, :1]


class Steps(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.done = []

    def on_train_batch_end(self, batch, logs=None):
        self.done.append(batch)


def faulty_teacher(name):
    return keras.Sequential([keras.Input((4,)), Overflowing(name="overflowing"), keras.layers.Dense(3)], name=name)


@pytest.mark.parametrize("fault", [0.0, float("nan")])
@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=["graph", "eager", "xla"])
def test_a_teacher_that_gives_nan_is_named_in_its_step(mode, fault):
    x = np.abs(X) + 0.1
    x[11, 0] = fault
    said = (
        "the data hold NaN or infinity in `x`" if np.isnan(fault) else "the teacher `broken` gave NaN or infinity in `"
    )
    student, steps = mlp(), Steps()
    teacher, before_fault = faulty_teacher("broken"), twin(student)
    compiled_distiller(before_fault, teacher).fit(x[:8], Y[:8], batch_size=4, shuffle=False, verbose=0)
    distiller = compiled_distiller(student, teacher, compile_with=mode)
    with pytest.raises(FloatingPointError, match=f"{said}.*, in batch 3 of epoch 1"):
        distiller.fit(x, Y, batch_size=4, shuffle=False, callbacks=[steps], verbose=0)
    assert steps.done == [0, 1]
    assert_same(student.get_weights(), before_fault.get_weights(), rtol=1e-6, atol=1e-7)


def test_a_tap_of_the_teacher_that_overflows_is_named():
    student = mlp(4)
    x = X.copy()
    x[0, 0] = 0.0
    distiller = compiled_distiller(student, faulty_teacher("broken"), kd.objectives.Hint("overflowing", "hidden"))
    with pytest.raises(
        FloatingPointError, match=r"the teacher `broken` gave NaN or infinity in `(overflowing|output_0|dense)"
    ):
        distiller.fit(x, Y, shuffle=False, verbose=0)


def test_the_guilty_member_of_an_ensemble_is_among_the_names():
    x = X.copy()
    x[0, 0] = 0.0
    distiller = compiled_distiller(mlp(), [mlp(8, name="sound"), faulty_teacher("broken")])
    with pytest.raises(FloatingPointError, match="broken` gave NaN or infinity"):
        distiller.fit(x, Y, shuffle=False, verbose=0)
