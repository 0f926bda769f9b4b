import numpy as np
import pytest
import tensorflow as tf

from keras_kd import losses
from tests import battery
from tests.battery import LAWS, Case
from tests.losses.cases import CASES
from tests.losses.cases.logits import kl_of_any_size


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", losses.__all__)
def test_every_public_loss_obeys(name, law):
    assert name in CASES, f"Add `{name}` to the cases in tests/losses/cases."
    assert CASES[name].loss is getattr(losses, name)
    law(CASES[name])


def test_the_battery_holds_public_losses_only():
    assert sorted(CASES) == sorted(losses.__all__)


def clipped(teacher, student):
    p, q = (tf.clip_by_value(tf.nn.softmax(tf.cast(x, "float32")), 1e-7, 1.0) for x in (teacher, student))
    return tf.reduce_sum(p * tf.math.log(p / q), -1)


def in_own_dtype(teacher, student):
    return tf.reduce_mean((tf.stop_gradient(teacher) - student) ** 2, -1)


def leaking(teacher, student):
    return tf.reduce_mean((tf.cast(teacher, "float32") - tf.cast(student, "float32")) ** 2, -1)


def over_the_batch(teacher, student):
    return tf.reduce_mean(leaking(teacher, student)) * tf.ones(len(student))


def mse(teacher, student):
    return np.mean((teacher - student) ** 2, -1)


def kl_at_1(teacher, student):
    return kl_of_any_size(teacher, student, 1.0)


@pytest.mark.parametrize(
    ("law", "loss", "oracle"),
    [
        ("equals_the_oracle", losses.soft_target_kl, kl_at_1),
        ("right_when_large", clipped, kl_at_1),
        ("right_in_float16", in_own_dtype, mse),
        ("float32_whatever_comes_in", in_own_dtype, mse),
        ("no_gradient_to_the_teacher", leaking, mse),
        ("any_leading_dimensions", lambda t, s: losses.hint(t, s)[..., None], mse),
        ("at_its_floor_where_student_is_teacher", losses.soft_target_cross_entropy, kl_at_1),
        ("gradient_equals_finite_differences", losses.hint, lambda t, s: mse(t, s) / 2),
        ("weight_zero_has_no_effect", over_the_batch, mse),
        ("masked_equals_sliced", over_the_batch, mse),
    ],
)
def test_the_battery_refuses_a_wrong_loss(law, loss, oracle):
    with pytest.raises(AssertionError):
        getattr(battery, law)(Case(loss, oracle))
