"""Holds `keras_kd` beside `keras.distillation`, the distiller that ships in Keras, on what both can be asked.

    python benchmarks/against_builtin.py

Values are computed, not asserted from reading. Times are ratios of `fit` epochs run in turn in one process, medians.
Writes `benchmarks/results/against_builtin.md`.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy.special import log_softmax, softmax

import keras_kd as kd

RESULT = Path(__file__).parent / "results" / "against_builtin.md"
TEACHER_LOGITS, STUDENT_LOGITS = np.array([[30.0, 0.0, 0.0]], "float32"), np.array([[0.0, 30.0, 0.0]], "float32")
ROUNDS = 15


class Constant(keras.Model):
    """Gives the same trainable logits for any input."""

    def __init__(self, logits, **kwargs):
        super().__init__(**kwargs)
        self.logits = self.add_weight(shape=logits.shape, initializer=keras.initializers.Constant(logits))

    def call(self, x):
        return self.logits + 0.0 * x[:, :1]


class Counting(layers.Layer):
    """Counts the forward passes it takes part in."""

    calls = 0

    def call(self, x):
        Counting.calls += 1
        return x


def cross_entropy():
    """The student's loss."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def builtin(student, teacher, losses, **options):
    """The distiller in Keras."""
    return keras.distillation.Distiller(teacher=teacher, student=student, distillation_losses=losses, **options)


def loss_and_gradient(make):
    """Value of the default loss at temperature 4, labels left out, and its gradient in the student's logits."""
    student = Constant(STUDENT_LOGITS)
    distiller = make(student, Constant(TEACHER_LOGITS))
    distiller.compile(keras.optimizers.SGD(1.0), cross_entropy())
    history = distiller.fit(np.ones((1, 1), "float32"), np.zeros(1), verbose=0).history
    return history["loss"][0], STUDENT_LOGITS - ops.convert_to_numpy(student.logits)


def numpy_loss_and_gradient(temperature=4.0):
    """What Hinton et al. (2015) write down."""
    p, q = softmax(TEACHER_LOGITS / temperature), softmax(STUDENT_LOGITS / temperature)
    log_ratio = log_softmax(TEACHER_LOGITS / temperature) - log_softmax(STUDENT_LOGITS / temperature)
    return temperature**2 * float((p * log_ratio).sum()), temperature * (q - p)


def mlp(width, penalty=None, normalise=False):
    """Small dense network."""
    hidden = layers.Dense(width, "relu", kernel_regularizer=penalty, name="hidden")
    middle = [layers.BatchNormalization()] if normalise else []
    return keras.Sequential([keras.Input((8,)), hidden, *middle, Counting(), layers.Dense(3, name="head")])


def logged_loss(make, penalty=None, weights=None):
    """Loss of one batch at learning rate 0."""
    keras.utils.set_random_seed(0)
    x, y = np.random.default_rng(0).normal(size=(16, 8)).astype("float32"), np.arange(16) % 3
    distiller = make(mlp(4, penalty), mlp(8))
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    return distiller.fit(x, y, sample_weight=weights, batch_size=16, verbose=0).history["loss"][0]


def student_forwards(make):
    """Forward passes of the student in one training step."""
    student, teacher = mlp(8), keras.Sequential([keras.Input((8,)), layers.Dense(8, name="hidden"), layers.Dense(3)])
    distiller = make(student, teacher)
    distiller.compile("sgd", cross_entropy(), run_eagerly=True)
    x, y = np.ones((4, 8), "float32"), np.zeros(4)
    distiller.train_on_batch(x, y)
    Counting.calls = 0
    distiller.train_on_batch(x, y)
    return Counting.calls


def evaluation_moves(make):
    """Largest change of a BatchNorm statistic by `evaluate`."""
    student = mlp(8, normalise=True)
    distiller = make(student, mlp(8))
    distiller.compile("sgd", cross_entropy())
    before = [np.array(weight) for weight in student.get_weights()]
    distiller.evaluate(np.ones((4, 8), "float32"), np.zeros(4), verbose=0)
    return max(np.abs(old - new).max() for old, new in zip(before, student.get_weights(), strict=True))


def saved(make):
    """Bytes of the `.keras` file, and whether `fit` goes on after loading it (with the teacher given again)."""
    teacher = mlp(512)
    distiller = make(mlp(4), teacher)
    distiller.compile("sgd", cross_entropy())
    x, y = np.ones((4, 8), "float32"), np.zeros(4)
    distiller.fit(x, y, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "distiller.keras")
        distiller.save(path)
        size = os.path.getsize(path)
        loaded = keras.saving.load_model(path, custom_objects={"Counting": Counting})
    try:
        loaded.teacher = teacher
        loaded.fit(x, y, verbose=0)
    except Exception as error:
        return size, type(error).__name__
    return size, "yes"


def frozen(make):
    """Whether the caller's teacher is left trainable."""
    teacher = mlp(8)
    make(mlp(4), teacher)
    return "unchanged" if teacher.trainable else "set to frozen, for good"


def cnn(width, blocks):
    """Convolutional network with `blocks` blocks."""
    model = [keras.Input((28, 28, 1)), layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")]
    for block in range(blocks):
        model.append(layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}"))
    return keras.Sequential([*model, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def step_ratio(make_theirs, make_ours, student, teacher):
    """Median over rounds of (their epoch) / (our epoch), the two run in turn on the same data."""
    x, y = np.random.default_rng(0).normal(size=(2048, 28, 28, 1)).astype("float32"), np.arange(2048) % 10
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(128).cache().prefetch(2)
    clone = keras.models.clone_model
    distillers = [make(clone(student), clone(teacher)) for make in (make_theirs, make_ours)]
    for distiller in distillers:
        distiller.compile("adam", cross_entropy())
        distiller.fit(data, verbose=0, shuffle=False)
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for distiller in distillers:
            start = time.perf_counter()
            distiller.fit(data, verbose=0, shuffle=False)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{statistics.median(ratios):.2f} × ({low:.2f} to {high:.2f})"


def vector(values):
    """A gradient, short."""
    return "[" + ", ".join(f"{value:.3g}" for value in np.ravel(values)) + "]"


def rows():
    """One row for each question: the question, what Keras answers, what keras_kd answers, what is right."""
    logits, features = keras.distillation.LogitsDistillation, keras.distillation.FeatureDistillation

    def theirs(student, teacher):
        return builtin(student, teacher, [logits(temperature=4.0)], student_loss_weight=0.0)

    def ours(student, teacher):
        return kd.Distiller(student, teacher, alpha=0.0)

    (their_loss, their_gradient), (our_loss, our_gradient) = map(loss_and_gradient, (theirs, ours))
    loss, gradient = numpy_loss_and_gradient()
    yield "default loss, T = 4, teacher [30, 0, 0], student [0, 30, 0]", their_loss, our_loss, loss
    yield "its gradient in the student's logits", vector(their_gradient), vector(our_gradient), vector(gradient)

    halves = np.full(16, 0.5, "float32")
    yield (
        "loss with all sample weights 0.5, over loss without",
        *(f"{logged_loss(make, weights=halves) / logged_loss(make):.2f}" for make in (theirs, ours)),
        "0.50",
    )
    penalty = keras.regularizers.L2(0.1)
    yield (
        "what the student's L2 penalty adds to the loss",
        *(f"{logged_loss(make, penalty) - logged_loss(make):.3f}" for make in (theirs, ours)),
        f"{_penalty():.3f}",
    )

    def their_features(student, teacher):
        return builtin(
            student, teacher, [logits(loss=keras.losses.KLDivergence()), features("mse", "hidden", "hidden")]
        )

    def our_features(student, teacher):
        return kd.Distiller(student, teacher, [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")])

    yield (
        "student forward passes a step, with a feature loss",
        *map(student_forwards, (their_features, our_features)),
        1,
    )
    yield (
        "what `evaluate` moves in BatchNorm, with a feature loss",
        *(f"{evaluation_moves(make):.2g}" for make in (their_features, our_features)),
        0,
    )
    yield "`teacher.trainable` after construction", frozen(theirs), frozen(ours), "unchanged"
    (their_size, their_fit), (our_size, our_fit) = map(saved, (theirs, ours))
    yield (
        "bytes saved as `.keras`, the teacher's weights being 26 kB",
        f"{their_size:,}",
        f"{our_size:,}",
        "student only",
    )
    yield "`fit` after loading it and assigning the teacher", their_fit, our_fit, "yes"

    def their_soft(student, teacher):
        return builtin(student, teacher, [logits(loss=keras.losses.KLDivergence())])

    def their_hint(student, teacher):
        matched = features("mse", "block1", "block1")
        return builtin(student, teacher, [logits(loss=keras.losses.KLDivergence()), matched])

    def our_hint(student, teacher):
        hint = kd.objectives.Hint("block1", "block1")
        return kd.Distiller(student, teacher, [kd.objectives.SoftTargets(), hint])

    equal_widths = {"student": cnn(16, 2), "teacher": cnn(16, 8)}
    ratio = step_ratio(their_soft, kd.Distiller, student=cnn(8, 2), teacher=cnn(48, 3))
    yield "time of an epoch, soft targets", ratio, "1 ×", ""
    yield (
        "time of an epoch, soft targets and a feature loss",
        step_ratio(their_hint, our_hint, **equal_widths),
        "1 ×",
        "",
    )


def _penalty():
    keras.utils.set_random_seed(0)
    student = mlp(4)
    return 0.1 * float(np.square(student.get_weights()[0]).sum())


def main():
    """Runs all and writes the table."""
    lines = [
        "# Beside keras.distillation",
        "",
        f"`python benchmarks/against_builtin.py`, Keras {keras.__version__}, TensorFlow {tf.__version__}, CPU with "
        f"2 cores. Times: median of {ROUNDS} rounds in turn, with quartiles.",
        "",
        "| | keras.distillation | keras_kd | right |",
        "|---|---|---|---|",
    ]
    for row in rows():
        cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        print(cells, flush=True)
        lines.append(f"| {' | '.join(cells)} |")
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
