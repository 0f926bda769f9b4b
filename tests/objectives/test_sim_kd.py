import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.export import LiteRTModel
from keras_kd.objectives import SimKD

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 8)).astype("float32"), np.arange(16) % 3


def network(width, name, dropout=0.0):
    hidden = layers.Dense(width, "relu", name="hidden")
    return keras.Sequential(
        [keras.Input((8,), name="x"), hidden, layers.Dropout(dropout), layers.Dense(3, name="head")], name=name
    )


def distilled(teacher=None, epochs=2, **options):
    keras.utils.set_random_seed(0)
    student = network(4, "student")
    distiller = kd.Distiller(student, teacher or network(6, "teacher"), SimKD("hidden", "hidden"), alpha=0, **options)
    distiller.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", "agreement"],
    )
    history = distiller.fit(X, Y, validation_data=(X, Y), epochs=epochs, verbose=0).history
    return distiller, history


def by_hand(distiller, feature):
    """The projector and the teacher's head at rest."""
    for layer in distiller.objectives[0].projector.layers:
        if isinstance(layer, layers.Dense):
            feature = feature @ layer.kernel.numpy()
        elif isinstance(layer, layers.BatchNormalization):
            mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
            scale = layer.gamma.numpy() / np.sqrt(variance + 1e-3)
            feature = np.maximum((feature - mean) * scale + layer.beta.numpy(), 0.0)
    head = distiller.teacher.get_layer("head")
    return feature, feature @ head.kernel.numpy() + head.bias.numpy()


def test_the_finished_student_ends_in_the_teachers_classifier():
    distiller, history = distilled()
    hidden = distiller.student.get_layer("hidden")
    feature, logits = by_hand(distiller, np.maximum(X @ hidden.kernel.numpy() + hidden.bias.numpy(), 0))
    np.testing.assert_allclose(distiller.finished_student(X), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(distiller.predict(X, verbose=0), logits, rtol=1e-4, atol=1e-5)
    assert history["val_accuracy"][-1] == np.mean(logits.argmax(-1) == Y)
    taught = distiller.teacher(X).numpy()
    assert history["val_agreement"][-1] == np.mean(logits.argmax(-1) == taught.argmax(-1))
    evaluated = kd.Distiller(distiller.student, distiller.teacher, distiller.objectives[0], alpha=0)
    evaluated.compile(metrics=["sim_kd"])
    teacher_feature = distiller.teacher.get_layer("hidden")(X).numpy()
    result = evaluated.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(result["sim_kd"], np.mean((teacher_feature - feature) ** 2), rtol=1e-4)


class Counting(layers.Dense):
    """Counts the steps that it trains in."""

    def build(self, input_shape):
        super().build(input_shape)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=None):
        if training:
            self.steps.assign_add(1.0)
        return super().call(x)


def test_the_projector_runs_once_a_step():
    projector = Counting(6)
    objective = SimKD("hidden", "hidden", projector=projector)
    distiller = kd.Distiller(network(4, "student"), network(6, "teacher"), objective, alpha=0)
    distiller.compile("adam", metrics=["sim_kd"])
    distiller.fit(X, batch_size=4, verbose=0)
    assert projector.steps == 4
    distiller.evaluate(X, verbose=0)
    assert projector.steps == 4


def test_batch_norm_and_dropout_of_the_teacher_rest_while_the_student_trains():
    teacher = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, "relu", name="hidden"),
            layers.BatchNormalization(),
            layers.Dropout(0.9),
            layers.Dense(3, name="head"),
        ]
    )
    before = teacher.get_weights()
    distiller, _ = distilled(teacher)
    for now, then in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    classifier = distiller.finished_student.layers[-1]
    np.testing.assert_array_equal(classifier(X[:, :6], training=True), classifier(X[:, :6], training=False))


def test_what_is_exported_is_finished_and_holds_no_more_of_the_teacher(tmp_path):
    distiller, _ = distilled()
    report = kd.export_student(distiller, tmp_path, evaluation_data=(X, Y))
    expected = distiller.predict(X, verbose=0)
    np.testing.assert_allclose(LiteRTModel(tmp_path / "student.tflite")(X), expected, rtol=1e-4, atol=1e-5)
    hidden, head = 8 * 4 + 4, 6 * 3 + 3
    projector = 4 * 3 + 3 * 3 + 3 * 6 + 4 * (3 + 3 + 6)
    assert report.parameters == hidden + projector + head
    assert report.keras_accuracy == np.mean(expected.argmax(-1) == Y)


def test_what_is_saved_holds_nothing_of_the_teacher_and_comes_back_with_it(tmp_path):
    distiller, _ = distilled()
    distiller.save(tmp_path / "distiller.keras")
    again = keras.saving.load_model(tmp_path / "distiller.keras")
    student, projector = distiller.student, distiller.objectives[0].projector
    assert sum(weight.numpy().size for weight in again.trainable_weights) == sum(
        weight.numpy().size for weight in (*student.trainable_weights, *projector.trainable_weights)
    )
    assert again.finished_student is again.student
    again.teacher = distiller.teacher
    np.testing.assert_allclose(again.predict(X, verbose=0), distiller.predict(X, verbose=0), rtol=1e-5)
    loss = again.fit(X, verbose=0).history["sim_kd"][0]
    assert loss == pytest.approx(distiller.fit(X, verbose=0).history["sim_kd"][0], rel=1e-4)


def test_another_teacher_lends_its_own_classifier():
    distiller, _ = distilled()
    other = network(6, "other")
    distiller.teacher = other
    hidden = distiller.student.get_layer("hidden")
    _, logits = by_hand(distiller, np.maximum(X @ hidden.kernel.numpy() + hidden.bias.numpy(), 0))
    np.testing.assert_allclose(distiller.predict(X, verbose=0), logits, rtol=1e-4, atol=1e-5)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.hidden, self.head = layers.Dense(4, name="hidden"), layers.Dense(3)

    def call(self, x):
        return self.head(self.hidden(x))


def test_a_student_without_a_graph_is_refused_before_the_first_step():
    distiller = kd.Distiller(Subclassed(), network(6, "teacher"), SimKD("hidden", "hidden"), alpha=0)
    distiller.compile("adam")
    text = r"^`SimKD`: `own` must be a Functional or a built Sequential model, to be cut at 'hidden'\."
    with pytest.raises(ValueError, match=text):
        distiller.fit(X, verbose=0)
