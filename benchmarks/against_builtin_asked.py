"""What `against_builtin.py` asks of a distiller, given how it is made from a student and a teacher."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy.special import log_softmax, softmax

TEACHER_LOGITS, STUDENT_LOGITS = np.array([[30.0, 0.0, 0.0]], "float32"), np.array([[0.0, 30.0, 0.0]], "float32")
TEMPERATURE, PENALTY, SAVED_WIDTH = 4.0, 0.1, 512
FOUR = np.ones((4, 8), "float32"), np.zeros(4)
Maker = Callable[[keras.Model, keras.Model], keras.Model]


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


def distilled_once(make):
    """Value of the default loss at temperature 4, labels left out, and its gradient in the student's logits."""
    student = Constant(STUDENT_LOGITS)
    distiller = make(student, Constant(TEACHER_LOGITS))
    distiller.compile(keras.optimizers.SGD(1.0), cross_entropy())
    history = distiller.fit(np.ones((1, 1), "float32"), np.zeros(1), verbose=0).history
    return history["loss"][0], np.ravel(STUDENT_LOGITS - ops.convert_to_numpy(student.logits)).tolist()


def hinton():
    """The same as Hinton et al. (2015) write it down."""
    p, q = softmax(TEACHER_LOGITS / TEMPERATURE), softmax(STUDENT_LOGITS / TEMPERATURE)
    log_ratio = log_softmax(TEACHER_LOGITS / TEMPERATURE) - log_softmax(STUDENT_LOGITS / TEMPERATURE)
    return TEMPERATURE**2 * float((p * log_ratio).sum()), np.ravel(TEMPERATURE * (q - p)).tolist()


def mlp(width, penalty=None, normalise=False):
    """Small dense network."""
    hidden = layers.Dense(width, "relu", kernel_regularizer=penalty, name="hidden")
    middle = [layers.BatchNormalization()] if normalise else []
    return keras.Sequential([keras.Input((8,)), hidden, *middle, Counting(), layers.Dense(3, name="head")])


def weights_count(make):
    """Loss of one batch whose sample weights are all 0.5, over its loss without weights."""
    return _logged_loss(make, weights=np.full(16, 0.5, "float32")) / _logged_loss(make)


def penalty_counts(make):
    """What an L2 penalty of the student adds to the loss of one batch."""
    return _logged_loss(make, keras.regularizers.L2(PENALTY)) - _logged_loss(make)


def penalty_of_the_student():
    """What it is, in NumPy."""
    keras.utils.set_random_seed(0)
    return PENALTY * float(np.square(mlp(4).get_weights()[0]).sum())


def _logged_loss(make, penalty=None, weights=None):
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
    distiller.train_on_batch(*FOUR)
    Counting.calls = 0
    distiller.train_on_batch(*FOUR)
    return Counting.calls


def evaluation_moves(make):
    """Largest change of a BatchNorm statistic by `evaluate`."""
    student = mlp(8, normalise=True)
    distiller = make(student, mlp(8))
    distiller.compile("sgd", cross_entropy())
    before = [np.array(weight) for weight in student.get_weights()]
    distiller.evaluate(*FOUR, verbose=0)
    return max(float(np.abs(old - new).max()) for old, new in zip(before, student.get_weights(), strict=True))


def bytes_saved(make):
    """Size of the `.keras` file."""
    with _saved(make) as (_, path):
        return os.path.getsize(path)


def fits_again(make):
    """Whether `fit` goes on after loading the file, with the teacher given again; the error, if not."""
    with _saved(make) as (teacher, path):
        loaded = keras.saving.load_model(path, custom_objects={"Counting": Counting})
    try:
        loaded.teacher = teacher
        loaded.fit(*FOUR, verbose=0)
    except Exception as error:
        return type(error).__name__
    return "yes"


@contextmanager
def _saved(make):
    teacher = mlp(SAVED_WIDTH)
    distiller = make(mlp(4), teacher)
    distiller.compile("sgd", cross_entropy())
    distiller.fit(*FOUR, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "distiller.keras")
        distiller.save(path)
        yield teacher, path


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


def epochs_in_turn(make_theirs, make_ours, student, teacher, examples, batch, rounds):
    """Quartiles over rounds of (their epoch) / (our epoch), the two run in turn on the same data."""
    x, y = np.random.default_rng(0).normal(size=(examples, 28, 28, 1)).astype("float32"), np.arange(examples) % 10
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).cache().prefetch(2)
    clone = keras.models.clone_model
    distillers = [make(clone(student), clone(teacher)) for make in (make_theirs, make_ours)]
    for distiller in distillers:
        distiller.compile("adam", cross_entropy())
        distiller.fit(data, verbose=0, shuffle=False)
    ratios = []
    for _ in range(rounds):
        seconds = []
        for distiller in distillers:
            start = time.perf_counter()
            distiller.fit(data, verbose=0, shuffle=False)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return statistics.quantiles(ratios, n=4)
