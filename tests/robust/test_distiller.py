"""A step of robust training is the step by hand, and teaches what it is for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.robust import RobustDistiller, pgd, robust_accuracy
from tests.robust.by_hand import assert_refused, cross_entropy, examples, kernels, linear, mlp, start_of, step

X, Y = examples(12)
TEACHER, STUDENT = kernels()


def distiller_of(student, teacher, *, optimizer=None, metrics=None, loss="labels", **settings):
    settings = {"epsilon": 0.2, "steps": 5, "seed": 7, **settings}
    distiller = RobustDistiller(student, None if settings.get("method") == "at" else teacher, **settings)
    loss = cross_entropy() if loss == "labels" else loss
    distiller.compile(optimizer or keras.optimizers.SGD(0.5), loss, metrics=metrics)
    return distiller


def fit(distiller, *data, **settings):
    history = distiller.fit(*data, **{"batch_size": 12, "shuffle": False, "verbose": 0, **settings}).history
    return {name: values[0] for name, values in history.items()}


@pytest.mark.parametrize(
    ("method", "published", "settings"),
    [
        ("rslad", {"share": 5 / 6, "temperature": 1.0}, {}),
        ("rslad", {"share": 5 / 6, "temperature": 1.0}, {"adversarial_weight": 0.3, "alpha": 0.25}),
        ("ard", {"share": 1.0, "temperature": 30.0}, {}),
        ("ard", {"share": 1.0, "temperature": 30.0}, {"temperature": 2.0, "alpha": 0.4}),
        ("at", {"share": 1.0}, {}),
        ("at", {"share": 1.0}, {"adversarial_weight": 0.5}),
    ],
)
def test_a_step_of_a_linear_student_is_that_of_numpy(method, published, settings):
    expected = {**published, **settings, "share": settings.get("adversarial_weight", published["share"])}
    expected.pop("adversarial_weight", None)
    distiller = distiller_of(linear(STUDENT), linear(TEACHER), method=method, **settings)
    logs, kernel = step(method, TEACHER, STUDENT, X, Y, epsilon=0.2, steps=5, seed=7, rate=0.5, **expected)
    received = fit(distiller, X, Y)
    assert sorted(received) == sorted(logs)
    for name, value in logs.items():
        np.testing.assert_allclose(received[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(distiller.student.get_weights()[0], kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["rslad", "ard", "at"])
def test_a_step_with_statistics_and_penalties_is_that_of_a_tape(method):
    """Natural forward, attack in inference mode, adversarial forward; the statistics move in the forwards alone."""
    teacher = mlp(9, seed=1)
    student, twin = mlp(batch_norm=True, l2=0.1), mlp(batch_norm=True, l2=0.1)
    weights = np.linspace(0.1, 2.0, 12).astype("float32")
    log_p = tf.nn.log_softmax(teacher(X))

    def values(logits):
        if method == "at":
            return tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits)
        scale = 30.0 if method == "ard" else 1.0
        log_t, log_s = (tf.nn.log_softmax(said / scale) for said in (log_p, logits))
        return scale**2 * tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), -1)

    share = 5 / 6 if method == "rslad" else 1.0
    with tf.GradientTape() as tape:
        natural = tf.reduce_mean(weights * values(twin(X, training=True)))
        moved = start_of("normal" if method == "rslad" else "uniform", X, 0.2, seed=7)
        moved = np.clip(np.clip(moved, X - 0.2, X + 0.2), 0, 1)
        for _ in range(5):
            with tf.GradientTape() as climbing:
                moved = tf.Variable(moved)
                logits = twin(moved, training=False)
                climbed = tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits)
                climbed = tf.reduce_sum(values(logits) if method == "rslad" else climbed)
            moved = moved + 0.05 * np.sign(climbing.gradient(climbed, moved))
            moved = np.clip(np.clip(moved, X - 0.2, X + 0.2), 0, 1)
        adversarial = tf.reduce_mean(weights * values(twin(moved, training=True)))
        total = share * adversarial + (1 - share) * natural + 0.1 * tf.reduce_sum(twin.layers[0].kernel ** 2)
    variables = [variable.value for variable in twin.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(total, variables), strict=True):
        variable.assign_sub(0.5 * gradient)

    received = fit(distiller_of(student, teacher, method=method), X, Y, sample_weight=weights)
    np.testing.assert_allclose(received["loss"], total, rtol=1e-4)  # T² is 900 times the rounding of float32
    for one, other in zip(student.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_plain_adversarial_training_is_keras_on_adversarial_examples():
    generator, plain, student = keras.random.SeedGenerator(7), mlp(), mlp()
    plain.compile(keras.optimizers.Adam(0.1), cross_entropy())
    distiller = distiller_of(student, None, method="at", optimizer=keras.optimizers.Adam(0.1), loss=None)
    for _ in range(3):
        moved = pgd(plain, X, Y, epsilon=0.2, steps=5, seed=generator)
        loss = plain.train_on_batch(moved, Y)
        logs = distiller.train_on_batch(X, Y, return_dict=True)
        distiller.reset_metrics()
        plain.reset_metrics()
        np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    for one, other in zip(student.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_teacher_is_asked_once_of_natural_inputs_and_stays_as_it_is():
    seen = []

    @keras.saving.register_keras_serializable(package="tests.robust")
    class Listening(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = mlp(9, seed=1, batch_norm=True)

        def call(self, inputs, training=None):
            if tf.executing_eagerly():
                seen.append((np.asarray(inputs), training))
            return self.inner(inputs, training=training)

    teacher = Listening()
    distiller = distiller_of(mlp(), teacher)
    distiller.run_eagerly = True
    fit(distiller, X)
    before = teacher.get_weights()
    seen.clear()
    distiller.train_on_batch(X, Y)
    ((inputs, training),) = seen
    np.testing.assert_array_equal(inputs, X)
    assert training is False
    for one, other in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_student_of_one_key_is_attacked_there_and_the_teacher_sees_all():
    inputs = {"image": keras.Input((4,), name="image"), "sound": keras.Input((2,), name="sound")}
    logits = keras.layers.Dense(3)(keras.layers.Concatenate()(list(inputs.values())))
    teacher = keras.Model(inputs, logits)
    sound = np.random.default_rng(5).normal(size=(12, 2)).astype("float32")  # outside the range: not attacked
    distiller = distiller_of(linear(STUDENT), teacher, student_inputs=["image"], method="ard", temperature=1.0)
    received = fit(distiller, {"image": X, "sound": sound}, Y)
    kernel, bias = teacher.get_weights()
    taught = np.concatenate([X, sound], axis=-1) @ kernel + bias
    moved = pgd(linear(STUDENT), X, Y, epsilon=0.2, steps=5, seed=keras.random.SeedGenerator(7))
    expected = kd.losses.soft_target_kl(taught, np.asarray(moved) @ np.float32(STUDENT), 1.0)
    np.testing.assert_allclose(received["adversarial_loss"], np.mean(expected), rtol=1e-4)


def test_a_cached_teacher_teaches_the_same(tmp_path):
    live = distiller_of(linear(STUDENT), linear(TEACHER))
    expected = fit(live, X, Y)
    source = tf.data.Dataset.from_tensor_slices((X, Y))
    kd.cache_teacher(linear(TEACHER), source, tmp_path / "cache", dtype="float32", verbose=0)
    cached = distiller_of(linear(STUDENT), None)
    received = fit(cached, kd.open_cache(tmp_path / "cache", source).batch(12), batch_size=None)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=1e-5)
    np.testing.assert_allclose(cached.student.get_weights()[0], live.student.get_weights()[0], rtol=1e-5)


def test_further_objectives_are_of_natural_inputs():
    student, teacher = mlp(), mlp(seed=1)
    distiller = distiller_of(student, teacher, objectives=kd.objectives.Hint("hidden", "hidden", weight=2.0))
    hidden = [
        np.asarray(keras.ops.tanh(X @ model.layers[0].kernel + model.layers[0].bias)) for model in (teacher, student)
    ]
    received = fit(distiller, X, Y)
    np.testing.assert_allclose(received["hint"], np.mean((hidden[0] - hidden[1]) ** 2), rtol=1e-5)
    total = 5 / 6 * received["adversarial_loss"] + 1 / 6 * received["natural_loss"] + 2.0 * received["hint"]
    np.testing.assert_allclose(received["loss"], total, rtol=1e-5)


def test_mixed_precision_takes_nearly_the_same_step():
    exact = distiller_of(linear(STUDENT), linear(TEACHER))
    student = linear(STUDENT, dtype="mixed_float16")
    student.dtype_policy = keras.DTypePolicy("mixed_float16")
    half = distiller_of(student, linear(TEACHER))
    assert isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    expected, received = fit(exact, X, Y), fit(half, X, Y)
    np.testing.assert_allclose(received["loss"], expected["loss"], rtol=2e-2)
    change, half_change = (d.student.get_weights()[0] - np.float32(STUDENT) for d in (exact, half))
    np.testing.assert_allclose(half_change, change, atol=0.02 * np.abs(change).max())


def test_it_learns_what_an_attacker_cannot_take_away():
    """One feature tells nine classes of ten by a wide margin; forty tell all of them by less than ε."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 200)
    signs = 2.0 * y - 1
    wide = 0.3 * signs * np.where(draw.random(200) < 0.9, 1, -1)
    narrow = 0.05 * signs[:, None] + draw.normal(scale=0.02, size=(200, 40))
    x = np.column_stack([wide, narrow]).astype("float32")

    ball = {"epsilon": 0.1, "value_range": (-1, 1), "seed": 0}

    def trained(learner, model):
        learner.compile(keras.optimizers.Adam(0.02), cross_entropy())
        learner.fit(x, y, batch_size=10, epochs=6, verbose=0)
        return robust_accuracy(model, (x, y), **ball)

    natural, teacher, student = (linear(np.zeros((41, 2))) for _ in range(3))
    misled = trained(natural, natural)
    assert misled.natural == 1.0
    assert misled.robust < 0.1
    assert trained(RobustDistiller(teacher, method="at", **ball), teacher).robust > 0.85
    for method in ("rslad", "ard"):
        student.set_weights([np.zeros((41, 2))])
        assert trained(RobustDistiller(student, teacher, method=method, **ball), student).robust > 0.85


REFUSED = {
    "method": (
        lambda: RobustDistiller(mlp(), mlp(9), method="trades"),
        "`RobustDistiller`: `method` must be one of ['rslad', 'ard', 'at']. Received: method='trades'.",
    ),
    "weight": (
        lambda: RobustDistiller(mlp(), mlp(9), adversarial_weight=1.5),
        "`RobustDistiller`: `adversarial_weight` must be >= 0 and <= 1. Received: adversarial_weight=1.5.",
    ),
    "epsilon": (
        lambda: RobustDistiller(mlp(), mlp(9), epsilon=-1),
        "`PGD`: `epsilon` must be a number > 0. Received: epsilon=-1.",
    ),
    "teacher": (
        lambda: RobustDistiller(mlp(), mlp(9), method="at"),
        "`RobustDistiller`: method='at' learns from the labels alone. Received a teacher. Leave it out, or take "
        "method='rslad' or 'ard'.",
    ),
    "softmax": (
        lambda: RobustDistiller(
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")], name="sure"), method="at"
        ),
        "`RobustDistiller`: the model must give logits. Received: `sure`, whose output is a softmax. End it in a layer "
        "without activation.",
    ),
    "metric": (
        lambda: distiller_of(mlp(), mlp(9), metrics=["adversarial_loss"]),
        "`RobustDistiller`: 'adversarial_loss' is always logged while training; `evaluate` does not know it. Ask for "
        "'pgd_accuracy'.",
    ),
    "no teacher": (
        lambda: fit(distiller_of(mlp(), None), X, Y),
        "`Distiller`: there is no teacher to learn from. Assign one, `distiller.teacher = model`; it is not saved "
        "with the student. Or train on a cache, `keras_kd.open_cache(path, dataset)`.",
    ),
    "labels for the attack": (
        lambda: fit(distiller_of(mlp(), mlp(9), method="ard"), X),
        "`RobustDistiller`: the attack of method='ard' needs labels. Received data without. Give `y`, or take "
        "method='rslad'.",
    ),
    "labels to learn": (
        lambda: fit(distiller_of(mlp(), None, method="at"), X),
        "`Distiller`: the objectives ['adversarial_loss', 'natural_loss'] compare with the labels. Received data "
        "without. Give `y`.",
    ),
    "integers": (
        lambda: fit(distiller_of(mlp(), mlp(9)), X.astype("uint8"), Y),
        "`RobustDistiller`: the student must see one floating tensor, to be attacked. Received: ['uint8 (None, 4)']. "
        "Cast and scale it to (0.0, 1.0), or pick one by `student_inputs`.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_train_on_is_refused(case):
    assert_refused(*REFUSED[case])


def test_two_inputs_or_two_outputs_are_refused():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
    two_inputs = keras.Model(inputs, keras.layers.Dense(3)(inputs["a"] + inputs["b"]))
    assert_refused(
        lambda: fit(distiller_of(two_inputs, keras.models.clone_model(two_inputs)), {"a": X, "b": X}, Y),
        "`RobustDistiller`: the student must see one floating tensor, to be attacked. Received: "
        "['float32 (None, 4)', 'float32 (None, 4)']. Cast and scale it to (0.0, 1.0), or pick one by `student_inputs`.",
    )
    image = keras.Input((4,))
    two_outputs = keras.Model(image, {"one": keras.layers.Dense(3)(image), "two": keras.layers.Dense(3)(image)})
    assert_refused(
        lambda: fit(distiller_of(two_outputs, keras.models.clone_model(two_outputs), loss=None), X),
        "`RobustDistiller`: the student must have one output, its logits. Received: ['one', 'two'].",
    )


def test_inputs_outside_the_range_stop_the_first_step():
    with pytest.raises(tf.errors.InvalidArgumentError, match="PGD: scale the inputs to value_range"):
        fit(distiller_of(mlp(), mlp(9)), X * 255, Y)
