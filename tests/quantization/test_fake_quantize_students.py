"""`fake_quantize`: what it makes of a student, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kd.quantization import FakeQuantize, fake_quantize, is_fake_quantized
from tests.quantization.students import attentive, cnn, depthwise, images, residual


@pytest.mark.parametrize("build", [cnn, depthwise, attentive, residual])
def test_only_the_weights_are_rounded_before_the_first_step_and_the_student_is_left_alone(build):
    student, x = build(), images(20)
    before, weights = np.asarray(student(x)), student.get_weights()
    quantized = fake_quantize(student)
    assert (quantized.name, quantized.output_names) == (student.name, [student.layers[-1].name])
    assert [tensor.name for tensor in quantized.inputs] == [tensor.name for tensor in student.inputs]
    difference = np.abs(np.asarray(quantized(x)) - before)
    assert 0 < difference.max() < 0.1 * np.ptp(before)
    quantized(x, training=True)
    for variable in quantized.trainable_variables:
        variable.assign(variable + 1.0)
    np.testing.assert_array_equal(student(x), before)
    assert all(np.array_equal(a, b) for a, b in zip(weights, student.get_weights(), strict=True))
    assert is_fake_quantized(quantized)
    assert not is_fake_quantized(student)


def test_a_kernel_its_normalisation_and_its_relu_are_one():
    student = keras.Sequential(
        [
            keras.Input((8, 8, 2), name="image"),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flat"),
            layers.Dense(3, name="logits"),
        ]
    )
    names = [layer.name for layer in fake_quantize(student).layers]
    assert names == [
        *("image", "image_quantized", "conv", "relu_relu", "relu", "pool", "flat", "logits_kernel", "logits")
    ]


def test_what_others_hear_too_is_not_folded():
    inputs = keras.Input((8, 8, 2))
    conv = layers.Conv2D(2, 3, padding="same", name="conv")(inputs)
    norm = layers.BatchNormalization(name="norm")(conv)
    student = keras.Model(inputs, layers.Add()([conv, layers.ReLU(name="relu")(norm)]))
    quantized, x = fake_quantize(student), images(4)
    assert {"conv_kernel", "conv", "norm"} <= {layer.name for layer in quantized.layers}
    np.testing.assert_allclose(quantized(x), student(x), atol=0.02)


def test_a_layer_called_twice_stays_one_layer():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(3, activation="relu", name="shared")
    student = keras.Model([a, b], layers.Subtract(name="difference")([shared(a), shared(b)]))
    quantized = fake_quantize(student)
    assert len(quantized.trainable_variables) == 2
    x, y = np.eye(4, dtype="float32"), np.ones((4, 4), "float32")
    np.testing.assert_allclose(quantized([x, y]), student([x, y]), atol=0.01)
    quantized([x, y], training=True)
    assert float(quantized.get_layer("shared").steps) == 2


def test_operations_of_keras_and_integer_inputs():
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = layers.Embedding(20, 8)(ids)
    x = ops.relu(ops.transpose(x, (0, 2, 1)) * 2.0)
    student = keras.Model(ids, {"mean": ops.mean(x, axis=-1), "raw": layers.Flatten()(x)})
    quantized, batch = fake_quantize(student), np.arange(12).reshape(2, 6)
    expected = student(batch)
    found = quantized(batch)
    assert sorted(found) == ["mean", "raw"]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6)
    quantized(batch, training=True)
    assert np.abs(np.asarray(quantized(batch)["raw"]) - np.asarray(expected["raw"])).max() > 1e-5


@pytest.mark.parametrize("function", ["gelu", "silu", "hard_silu", "hard_sigmoid", "sigmoid", "tanh", "softmax", "elu"])
def test_functions_that_are_operators_of_their_own(function):
    student = keras.Sequential([keras.Input((6,)), layers.Dense(5, activation=function), layers.Activation(function)])
    quantized, x = fake_quantize(student), np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    np.testing.assert_allclose(quantized(x), student(x), atol=0.02)
    quantized(x, training=True)
    np.testing.assert_allclose(quantized(x), student(x), atol=0.06)
    ranges = {layer.fixed for layer in quantized.layers if isinstance(layer, FakeQuantize)}
    fixed = {"sigmoid": (0, 255 / 256), "silu": (0, 255 / 256), "softmax": (0, 255 / 256), "tanh": (-1, 127 / 128)}
    assert ranges == {None, fixed[function]} if function in fixed else ranges == {None}


def test_frozen_layers_stay_frozen():
    student = cnn()
    student.layers[0].trainable = False
    frozen = len(student.layers[0].weights)
    quantized = fake_quantize(student)
    assert len(quantized.trainable_variables) == len(student.trainable_variables)
    assert frozen == 1


def test_normalisation_over_the_last_axis_by_its_number():
    inputs = keras.Input((8, 8, 2))
    x = layers.LayerNormalization(axis=3)(layers.ReLU()(layers.BatchNormalization(axis=3)(inputs)))
    student, x = keras.Model(inputs, layers.BatchNormalization(axis=3)(x)), images(4)
    np.testing.assert_allclose(fake_quantize(student)(x), student(x), atol=0.02)


def grid_attention():
    inputs = keras.Input((4, 4, 8))
    return keras.Model(inputs, layers.MultiHeadAttention(2, 4, attention_axes=(1, 2), name="grid")(inputs, inputs))


def masked():
    return keras.Sequential([keras.Input((6,)), layers.Embedding(20, 4, mask_zero=True), layers.Flatten()])


def causal():
    inputs = keras.Input((5, 8))
    return keras.Model(inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs, use_causal_mask=True))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def called():
    student = Subclassed()
    student(np.zeros((1, 3)))
    return student


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: keras.Sequential([layers.Dense(3)]),
            "must be a built Sequential or Functional.*Received: <Sequential",
        ),
        (called, "must be a built Sequential or Functional.*Received: <Subclassed"),
        (lambda: "student.keras", "must be a built Sequential or Functional.*Received: 'student.keras'"),
        (lambda: fake_quantize(cnn()), "must be a float model. Received: 'cnn'"),
        (
            lambda: keras.Sequential([keras.Input((5, 2)), layers.GRU(3, name="reader"), layers.Dense(2)]),
            "the layer 'reader' must have a form in int8.*Received: GRU. Replace it, or export with `quantize='dyn",
        ),
        (masked, "must have a form in int8.*without masks. Received: Embedding"),
        (grid_attention, "the layer 'grid' must have a form in int8.*Received: MultiHeadAttention"),
        (lambda: keras.Sequential([keras.Input((4, 3)), layers.LayerNormalization(axis=1)]), "LayerNormalization over"),
        (causal, "'multi_head_attention.*' must be called without masks.*Received: use_causal_mask"),
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softplus", name="odd")]),
            "the activation of 'odd' must be one of elu, gelu, .*Received: 'softplus'",
        ),
    ],
)
def test_students_without_a_form_in_int8_are_refused(build, message):
    with pytest.raises(ValueError, match=f"`fake_quantize`: .*{message}"):
        fake_quantize(build())
