"""Linear students, and in NumPy what an attack and a step of training do to them."""

import re
from collections.abc import Callable

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

FEATURES, CLASSES = 4, 3


def linear(kernel, *, name=None, dtype=None):
    """`x @ kernel`, in Keras."""
    kernel = np.asarray(kernel, "float32")
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False, name="head", dtype=dtype)
    model = keras.Sequential([keras.Input(kernel.shape[:1]), layer], name=name)
    model.set_weights([kernel])
    return model


def mlp(width=6, *, seed=0, batch_norm=False, l2=None):
    keras.utils.set_random_seed(seed)
    norm = [keras.layers.BatchNormalization(momentum=0.7, name="norm")] if batch_norm else []
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(width, "tanh", kernel_regularizer=l2 and keras.regularizers.L2(l2), name="hidden"),
            *norm,
            keras.layers.Dense(CLASSES, bias_initializer="random_normal", name="head"),
        ]
    )


def kernels(seed=0):
    """Of a teacher and a student."""
    return np.random.default_rng(seed).normal(size=(2, FEATURES, CLASSES))


def examples(count=8, seed=0):
    draw = np.random.default_rng(seed)
    return draw.random((count, FEATURES)).astype("float32"), draw.integers(0, CLASSES, count)


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def start_of(kind, x, epsilon, seed):
    """The inputs where an attack begins, from the first draw of this seed; before it is clipped."""
    generator = keras.random.SeedGenerator(seed)
    if kind == "uniform":
        return x + np.asarray(keras.random.uniform(x.shape, -epsilon, epsilon, seed=generator))
    if kind == "normal":
        return x + np.asarray(keras.random.normal(x.shape, stddev=0.001, seed=generator))
    return x


def attack(kernel, x, targets, start, *, epsilon, step_size, steps, value_range=(0.0, 1.0)):
    """Raises `-Σ_k targets_k log softmax(x @ kernel)_k`, value by value, step by step."""
    moved = start.copy()
    for step in range(steps + 1):
        for row in range(len(x)):
            slopes = kernel @ (softmax(moved[row] @ kernel) - targets[row])
            for column in range(x.shape[1]):
                value = moved[row, column] + (step_size * np.sign(slopes[column]) if step else 0.0)
                value = min(max(value, x[row, column] - epsilon), x[row, column] + epsilon)
                moved[row, column] = min(max(value, value_range[0]), value_range[1])
    return moved


def divergences(teacher_logits, student_logits, temperature):
    log_p, log_q = (log_softmax(logits / temperature, axis=-1) for logits in (teacher_logits, student_logits))
    return temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def cross_entropies(labels, logits):
    return np.array([-log_softmax(row)[label] for label, row in zip(labels, logits, strict=True)])


def one_hot(labels):
    return np.eye(CLASSES)[labels]


def assert_refused(call: Callable, text: str):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        call()


def step(method, teacher_kernel, kernel, x, labels, *, epsilon, steps, seed, rate, share, alpha=0.0, temperature=1.0):
    """One step of SGD of a linear student: what it logs, and its kernel afterwards."""
    taught, hard = x @ teacher_kernel, one_hot(labels)
    climbed = softmax(taught, axis=-1) if method == "rslad" else hard
    begin = start_of("normal" if method == "rslad" else "uniform", x, epsilon, seed)
    moved = attack(kernel, x, climbed, begin, epsilon=epsilon, step_size=epsilon / 4, steps=steps)

    def learnt(inputs):
        """The values of a batch, and the gradient of their mean."""
        logits = inputs @ kernel
        if method == "at":
            values, slopes = cross_entropies(labels, logits), softmax(logits, axis=-1) - hard
        else:
            values = divergences(taught, logits, temperature)
            slopes = temperature * (softmax(logits / temperature, axis=-1) - softmax(taught / temperature, axis=-1))
        return np.mean(values), inputs.T @ slopes / len(x)

    (adversarial, adversarial_slopes), (natural, natural_slopes) = learnt(moved), learnt(x)
    own = np.mean(cross_entropies(labels, x @ kernel))
    own_slopes = x.T @ (softmax(x @ kernel, axis=-1) - hard) / len(x)
    slopes = alpha * own_slopes + (1 - alpha) * (share * adversarial_slopes + (1 - share) * natural_slopes)
    logs = {
        "loss": alpha * own + (1 - alpha) * (share * adversarial + (1 - share) * natural),
        "adversarial_loss": adversarial,
        "natural_loss": natural,
        "student_loss": own,
    }
    return logs, kernel - rate * slopes
