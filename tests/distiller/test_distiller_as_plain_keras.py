"""With alpha=1 a distiller is plain Keras: same history, same weights, for all that Keras weighs."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import assert_same, assert_same_history, compiled_distiller, cross_entropy, examples, mlp, twin

COUNT, BATCH = 22, 8  # a ragged last batch


@keras.saving.register_keras_serializable(package="tests")
class AddsLoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.05 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def regularised():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu", kernel_regularizer="l2", bias_regularizer="l1"),
            AddsLoss(),
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=7),
            layers.Dense(5, "tanh", activity_regularizer=keras.regularizers.L2(0.1)),
            layers.Dense(3),
        ]
    )


def token_classifier():
    """Logits for each token; token 0 is masked."""
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, mask_zero=True),
            layers.Dense(6, "relu"),
            layers.Dense(3),
        ]
    )


def sequence_classifier():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, mask_zero=True),
            layers.GRU(4),
            layers.Dense(3),
        ]
    )


def two_heads(structure):
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, "relu", kernel_regularizer="l2")(inputs)
    kind, size = layers.Dense(3, name="kind")(hidden), layers.Dense(2, name="size")(hidden)
    outputs = {"tuple": (kind, size), "list": [kind, size], "dict": {"kind": kind, "size": size}}[structure]
    return keras.Model(inputs, outputs)


def tokens():
    rng = np.random.default_rng(5)
    x = rng.integers(1, 9, (COUNT, 5))
    x[np.arange(5) >= rng.integers(1, 6, (COUNT, 1))] = 0
    return x, rng.integers(0, 3, (COUNT, 5))


def two_labels():
    x, kind = examples(COUNT)
    return x, kind, (kind + np.arange(COUNT)) % 2


def assert_plain(student, teacher, x, y, *, compile_with=None, sample_weight=None, **fit_with):
    # The compiled loss keeps state of its own, so each model needs its own arguments.
    compile_with = compile_with or (lambda: {"loss": cross_entropy(), "metrics": ["accuracy"]})
    plain = twin(student)
    plain.compile(optimizer=keras.optimizers.SGD(0.1), **compile_with())
    distiller = compiled_distiller(
        student, teacher, alpha=1.0, compile_with={"optimizer": keras.optimizers.SGD(0.1), **compile_with()}
    )
    arguments = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0, **fit_with}
    arguments["sample_weight"] = sample_weight
    arguments["validation_data"] = (x, y) if sample_weight is None else (x, y, sample_weight)
    expected = plain.fit(x, y, **arguments).history
    received = distiller.fit(x, y, **arguments).history
    assert set(received) - set(expected) == {"student_loss", "val_student_loss", "soft_targets"}
    assert_same_history(received, expected, rtol=1e-5)
    assert_same(student.get_weights(), plain.get_weights(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighing", ["none", "sample_weight", "class_weight"])
def test_regularisers_add_loss_dropout_and_batch_norm(weighing):
    x, y = examples(COUNT)
    weighed = {
        "none": {},
        "sample_weight": {"sample_weight": np.linspace(0, 2, COUNT)},
        "class_weight": {"class_weight": {0: 0.2, 1: 1.0, 2: 3.0}},
    }[weighing]
    assert_plain(
        regularised(),
        mlp(8),
        x,
        y,
        compile_with=lambda: {"loss": cross_entropy(), "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
        **weighed,
    )


@pytest.mark.parametrize("weighing", ["none", "by token"])
def test_masked_tokens(weighing):
    x, y = tokens()
    weights = {"none": None, "by example": np.linspace(0, 2, COUNT)[:, None], "by token": np.linspace(0, 2, 5 * COUNT)}[
        weighing
    ]
    if weighing == "by token":
        weights = weights.reshape(COUNT, 5)
    assert_plain(token_classifier(), token_classifier(), x, y, sample_weight=weights)


def test_masked_sequences():
    x, y = tokens()
    assert_plain(sequence_classifier(), sequence_classifier(), x, y[:, 0])


@pytest.mark.parametrize(
    ("structure", "weighing"),
    [("tuple", "loss_weights"), ("list", "sample_weight"), ("dict", "loss_weights"), ("dict", "sample_weight")],
)
def test_several_outputs(structure, weighing):
    x, *y = two_labels()
    names = ["kind", "size"]

    def by_output(kind, size):
        both = (kind, size) if structure == "tuple" else [kind, size]
        return dict(zip(names, both, strict=True)) if structure == "dict" else both

    def compile_with():
        arguments = {
            "loss": by_output(cross_entropy(), cross_entropy()),
            "metrics": by_output(["accuracy"], ["accuracy", "sparse_categorical_crossentropy"]),
        }
        return arguments | ({"loss_weights": by_output(0.25, 2.0)} if weighing == "loss_weights" else {})

    weights = by_output(np.linspace(0, 2, COUNT), np.linspace(1, 0, COUNT)) if weighing == "sample_weight" else None
    assert_plain(
        two_heads(structure),
        two_heads(structure),
        x,
        by_output(*y),
        compile_with=compile_with,
        sample_weight=weights,
    )


def test_metric_objects_of_several_outputs():
    x, kind, size = two_labels()
    assert_plain(
        two_heads("dict"),
        two_heads("dict"),
        x,
        {"kind": kind, "size": size},
        compile_with=lambda: {
            "loss": {"kind": cross_entropy(), "size": cross_entropy()},
            "metrics": {"size": [keras.metrics.SparseCategoricalAccuracy(name="right")]},
        },
    )


def test_one_loss_for_one_of_two_outputs():
    x, kind, size = two_labels()
    assert_plain(
        two_heads("dict"),
        two_heads("dict"),
        x,
        {"kind": kind, "size": size},
        compile_with=lambda: {"loss": {"kind": cross_entropy()}, "metrics": {"kind": ["accuracy"]}},
    )


def test_a_loss_function_and_one_hot_labels():
    x, y = examples(COUNT)

    def brier(labels, logits):
        return keras.ops.mean(keras.ops.square(labels - keras.ops.softmax(logits)), axis=-1)

    assert_plain(
        mlp(), mlp(8), x, np.eye(3)[y], compile_with=lambda: {"loss": brier, "metrics": ["categorical_accuracy"]}
    )


def test_validation_split():
    x, y = examples(COUNT)
    student = mlp()
    plain = twin(student)
    plain.compile("adam", cross_entropy())
    distiller = compiled_distiller(student, mlp(8), alpha=1.0, compile_with={"optimizer": "adam"})
    arguments = {"validation_split": 0.25, "batch_size": 4, "shuffle": False, "verbose": 0}
    expected = plain.fit(x, y, **arguments).history
    assert_same_history(distiller.fit(x, y, **arguments).history, expected)
    assert_same(student.get_weights(), plain.get_weights(), rtol=1e-6, atol=1e-7)


def test_clipping_averaging_and_accumulating_optimizers():
    x, y = examples(COUNT)
    for arguments in ({"global_clipnorm": 0.1, "use_ema": True}, {"gradient_accumulation_steps": 2}):
        student = mlp()
        plain = twin(student)
        plain.compile(keras.optimizers.Adam(0.05, **arguments), cross_entropy())
        distiller = compiled_distiller(
            student, mlp(8), alpha=1.0, compile_with={"optimizer": keras.optimizers.Adam(0.05, **arguments)}
        )
        for model in (plain, distiller):
            model.fit(x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
        assert_same(student.get_weights(), plain.get_weights(), rtol=1e-6, atol=1e-7)
