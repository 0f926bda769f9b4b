"""Features: hints with projectors, and any loss of `keras.distillation`."""

import keras
import numpy as np
import pytest
from keras import layers
from numpy_reference import cross_entropy_values, soft_target_values
from small_models import answers, assert_same, compiled_distiller, cross_entropy, examples, mlp, values_of

import keras_kd as kd

X, Y = examples()
IMAGES = np.random.default_rng(0).normal(size=(12, 8, 8, 1)).astype("float32")


def still(**kwargs):
    """Compile arguments under which nothing moves; eager, for no step is repeated."""
    return {"optimizer": keras.optimizers.SGD(0.0), "run_eagerly": True, **kwargs}


def feature(model, x, layer):
    """What a layer gives, through a model of Keras's own making."""
    return answers(keras.Model(model.inputs[0], model.get_layer(layer).output), x)


def convnet(width, stride=1):
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(width, 3, strides=stride, padding="same", activation="tanh", name="map")(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D(name="pool")(hidden)))


def with_backbone(width):
    backbone_inputs = keras.Input((4,))
    block = layers.Dense(width, "tanh", name="block")(backbone_inputs)
    backbone = keras.Model(backbone_inputs, layers.Dense(width, "relu")(block), name="backbone")
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3, name="head")(backbone(inputs)))


class Subclassed(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.body = layers.Dense(width, "tanh", name="body")
        self.head = layers.Dense(3, name="head")

    def call(self, inputs):
        return self.head(self.body(inputs))


def test_a_hint_is_the_mean_squared_error_and_trains_as_the_formula():
    teacher, student = mlp(seed=1), mlp(seed=2)
    teacher_feature = feature(teacher, X, "hidden")
    kernel, bias = student.get_layer("hidden").get_weights()
    student_feature = np.tanh(X @ kernel + bias)
    expected = np.square(student_feature - teacher_feature).mean()
    slope = 2 * (student_feature - teacher_feature) / student_feature.size * (1 - student_feature**2)

    distiller = compiled_distiller(
        student,
        teacher,
        kd.objectives.Hint("hidden", "hidden", weight=3.0),
        alpha=0.0,
        compile_with={"optimizer": keras.optimizers.SGD(1.0), "loss": None},
    )
    logged = distiller.train_on_batch(X, return_dict=True)

    assert distiller.objectives[0].projector is None
    np.testing.assert_allclose(logged["hint"], expected, rtol=1e-5)
    np.testing.assert_allclose(logged["loss"], 3 * expected, rtol=1e-5)
    moved = student.get_layer("hidden").get_weights()
    np.testing.assert_allclose(kernel - moved[0], 3 * X.T @ slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias - moved[1], 3 * slope.sum(0), rtol=1e-4, atol=1e-6)


def test_a_projector_bridges_widths_and_trains():
    teacher, student = mlp(9, seed=1), mlp(5, seed=2)
    hint = kd.objectives.Hint("hidden", "hidden")
    distiller = compiled_distiller(student, teacher, hint, alpha=0.0, compile_with=still(loss=None))
    teacher_feature, student_feature = feature(teacher, X, "hidden"), feature(student, X, "hidden")
    distiller.train_on_batch(X)
    kernel, bias = hint.projector.get_weights()
    assert kernel.shape == (5, 9)
    error = student_feature @ kernel + bias - teacher_feature

    distiller.compile(keras.optimizers.SGD(0.5))
    logged = distiller.train_on_batch(X, return_dict=True)

    np.testing.assert_allclose(logged["hint"], np.square(error).mean(), rtol=1e-5)
    moved = hint.projector.get_weights()
    np.testing.assert_allclose(
        kernel - moved[0], 0.5 * student_feature.T @ (2 * error / error.size), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(bias - moved[1], 0.5 * (2 * error / error.size).sum(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("teacher", "student", "taps"),
    [
        (lambda: convnet(6), lambda: convnet(6), ("map", "map")),
        (lambda: convnet(6), lambda: convnet(4), ("map", "map")),
        (lambda: convnet(6, stride=2), lambda: convnet(4), ("map", "map")),
        (lambda: convnet(6), lambda: convnet(4), ("pool", "map")),
    ],
    ids=["same", "channels", "grid", "vector"],
)
def test_maps_are_fitted_to_the_teachers(teacher, student, taps):
    teacher, student = teacher(), student()
    hint = kd.objectives.Hint(*taps)
    distiller = compiled_distiller(student, teacher, hint, compile_with=still())
    logged = distiller.train_on_batch(IMAGES, Y, return_dict=True)
    target, given = feature(teacher, IMAGES, taps[0]), feature(student, IMAGES, taps[1])
    fitted = given if hint.projector is None else hint.projector(given, training=True).numpy()
    assert fitted.shape == target.shape
    np.testing.assert_allclose(logged["hint"], np.square(fitted - target).mean(), rtol=1e-4)


def test_a_users_own_projector_is_used_as_it_is():
    teacher, student = mlp(9, seed=1), mlp(5, seed=2)
    projector = layers.Dense(9, "tanh")
    hint = kd.objectives.Hint("hidden", "hidden", projector=projector)
    logged = compiled_distiller(student, teacher, hint, compile_with=still()).train_on_batch(X, Y, return_dict=True)
    assert hint.projector is projector
    fitted = projector(feature(student, X, "hidden")).numpy()
    np.testing.assert_allclose(logged["hint"], np.square(fitted - feature(teacher, X, "hidden")).mean(), rtol=1e-5)


def test_taps_reach_into_nested_models_inputs_and_subclasses():
    nested, subclassed, flat = with_backbone(5), Subclassed(5), mlp(5, seed=3)
    subclassed(X)
    block = feature(nested.get_layer("backbone"), X, "block")
    body = subclassed.body(X).numpy()
    hidden = feature(flat, X, "hidden")
    cases = [
        (nested, flat, ("backbone/block", "hidden"), block - hidden),
        (flat, nested, ("hidden", "backbone/block"), block - hidden),
        (subclassed, flat, ("body", "head:input"), body - hidden),
        (flat, subclassed, ("head:input", "head:input"), body - hidden),
    ]
    for teacher, student, taps, difference in cases:
        objectives = [kd.objectives.SoftTargets(), kd.objectives.Hint(*taps)]
        distiller = compiled_distiller(student, teacher, objectives, compile_with=still())
        logged = distiller.train_on_batch(X, Y, return_dict=True)
        np.testing.assert_allclose(logged["hint"], np.square(difference).mean(), rtol=1e-5)


def test_an_unbuilt_student_and_teacher_can_be_tapped():
    teacher, student = Subclassed(7), keras.Sequential([layers.Dense(5, name="first"), layers.Dense(3)])
    hint = kd.objectives.Hint("body", "first", projector="auto")
    distiller = compiled_distiller(student, teacher, hint, compile_with=still())
    logged = distiller.fit(X, Y, batch_size=len(X), verbose=0).history
    fitted = hint.projector(student.layers[0](X)).numpy()
    np.testing.assert_allclose(logged["hint"], [np.square(fitted - teacher.body(X).numpy()).mean()], rtol=1e-5)


def test_evaluate_runs_the_projector_as_in_inference():
    teacher, student = convnet(6), convnet(4)
    hint = kd.objectives.Hint("map", "map")
    distiller = compiled_distiller(student, teacher, hint, compile_with={"metrics": ["hint"]})
    distiller.fit(IMAGES, Y, batch_size=4, verbose=0)
    before = values_of(hint.variables)
    logged = distiller.evaluate(IMAGES, Y, batch_size=5, verbose=0, return_dict=True)
    fitted = hint.projector(feature(student, IMAGES, "map"), training=False).numpy()
    np.testing.assert_allclose(logged["hint"], np.square(fitted - feature(teacher, IMAGES, "map")).mean(), rtol=1e-4)
    assert_same(values_of(hint.variables), before)


LOSSES = {
    "logits": lambda: keras.distillation.LogitsDistillation(temperature=2.0),
    "logits by kl object": lambda: keras.distillation.LogitsDistillation(
        loss=keras.losses.KLDivergence(), temperature=3.0
    ),
    "logits by mse": lambda: keras.distillation.LogitsDistillation(loss="mse", temperature=3.0),
    "features": lambda: keras.distillation.FeatureDistillation("mse", "hidden", "hidden"),
    "features by object": lambda: keras.distillation.FeatureDistillation(keras.losses.Huber(), "hidden", "hidden"),
    "final outputs": lambda: keras.distillation.FeatureDistillation("mse"),
}


def what_keras_computes(loss, teacher, student):
    if getattr(loss, "teacher_layer_name", None):
        return loss.compute_loss(feature(teacher, X, "hidden"), feature(student, X, "hidden"))
    return loss.compute_loss(answers(teacher, X), answers(student, X))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_keras_gives_the_value_that_keras_computes(name):
    teacher, student = mlp(seed=1), mlp(seed=2)
    expected = float(what_keras_computes(LOSSES[name](), teacher, student))
    hard = cross_entropy_values(Y, answers(student, X)).mean()
    distiller = compiled_distiller(student, teacher, LOSSES[name](), compile_with=still())
    logged = distiller.fit(X, Y, batch_size=len(X), verbose=0).history
    (key,) = distiller.objective_names
    assert key == ("logits_distillation" if name.startswith("logits") else "feature_distillation")
    np.testing.assert_allclose(logged[key], [expected], rtol=1e-5)
    np.testing.assert_allclose(logged["loss"], [0.3 * hard + 0.7 * expected], rtol=1e-5)


def test_keras_losses_mix_with_ours_and_take_a_weight():
    teacher, student = mlp(seed=1), mlp(seed=2)
    of_keras = keras.distillation.FeatureDistillation("mse", "hidden", "hidden")
    objectives = [kd.objectives.SoftTargets(), kd.objectives.FromKeras(of_keras, weight=2.0, name="body")]
    soft = soft_target_values(answers(teacher, X), answers(student, X), 4.0).mean()
    body = float(what_keras_computes(of_keras, teacher, student))
    distiller = compiled_distiller(student, teacher, objectives, alpha=0.0, compile_with=still(loss=None))
    logged = distiller.train_on_batch(X, return_dict=True)
    np.testing.assert_allclose(logged["body"], body, rtol=1e-5)
    np.testing.assert_allclose(logged["loss"], soft + 2 * body, rtol=1e-5)


def test_a_loss_of_keras_for_several_outputs():
    def heads(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        return keras.Model(inputs, {name: layers.Dense(3, name=f"{name}_head")(inputs) for name in ("a", "b")})

    teacher, student = heads(1), heads(2)
    loss = keras.distillation.LogitsDistillation(loss={"a": "mse", "b": keras.losses.KLDivergence()}, temperature=2.0)
    expected = float(loss.compute_loss(answers(teacher, X), answers(student, X)))
    distiller = compiled_distiller(
        student, teacher, loss, alpha=0.0, compile_with=still(loss={"a": cross_entropy(), "b": cross_entropy()})
    )
    logged = distiller.train_on_batch(X, return_dict=True)
    np.testing.assert_allclose(logged["logits_distillation"], expected, rtol=1e-5)


def test_a_loss_of_keras_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    teacher, student = mlp(seed=1), mlp(seed=2)
    loss = LOSSES["features"]()
    expected = np.square(np.float32(feature(teacher, X, "hidden")) - np.float32(feature(student, X, "hidden"))).mean()
    logged = compiled_distiller(student, teacher, loss, compile_with=still()).train_on_batch(X, Y, return_dict=True)
    # Eager steps round to bfloat16 otherwise than a graph.
    np.testing.assert_allclose(logged["feature_distillation"], expected, rtol=2e-2)
