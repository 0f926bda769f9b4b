"""Run by the tests in a process of its own: two replicas must be fixed before TensorFlow starts.

Prints, as JSON, what one step of SGD logs and leaves behind.
"""

import json
import sys
import traceback

import keras
import tensorflow as tf
from small_models import compiled_distiller, cross_entropy, examples, mlp

import keras_kd as kd


def unbuilt(width):
    return keras.Sequential([keras.layers.Dense(width, "tanh", name="hidden"), keras.layers.Dense(3)])


def brier(labels, logits):
    one_hot = keras.ops.one_hot(keras.ops.cast(labels, "int32"), 3)
    return keras.ops.mean(keras.ops.square(one_hot - keras.ops.softmax(logits)), axis=-1)


def relational():
    """All that compares the examples of a batch with each other."""
    of = kd.objectives
    features = (
        of.SimilarityPreserving,
        of.Relational,
        of.ProbabilisticTransfer,
        of.CorrelationCongruence,
        of.BatchAffinity,
    )
    tapped = [objective("hidden", "hidden") for objective in features]
    return [*tapped, of.Contrastive("hidden", "hidden", dim=3, bank_size=20), of.DIST(), of.MultiLevel(weight=0.01)]


LOSSES = {
    "object": cross_entropy,
    "string": lambda: "sparse_categorical_crossentropy",
    "function": lambda: brier,
    "no labels": lambda: None,
}
OBJECTIVES = {
    "default": lambda: None,
    "hint": lambda: [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")],
    "relational": relational,
    "keras function": lambda: keras.distillation.LogitsDistillation(loss="mse"),
    "keras object": lambda: keras.distillation.LogitsDistillation(loss=keras.losses.MeanSquaredError()),
}


MODELS = {
    "built": lambda: (mlp(7, seed=1), mlp(l2=0.05)),
    "unbuilt": lambda: (unbuilt(7), unbuilt(5)),
}


def step(strategy, loss, objectives, models):
    with strategy.scope():
        keras.utils.set_random_seed(5)
        teacher, student = MODELS[models]()
        distiller = compiled_distiller(
            student,
            teacher,
            OBJECTIVES[objectives](),
            compile_with={
                "optimizer": keras.optimizers.SGD(0.5),
                "loss": LOSSES[loss](),
                "metrics": ["agreement", "teacher_kl", *([] if loss == "no labels" else ["accuracy"])],
            },
        )
    x, y = examples(16)
    weights = [0.5, 1.5] * 8
    data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(16)
    if loss == "no labels":
        distiller.alpha, data = 0.0, data.map(lambda x, y, weights: (x,))
    # The second epoch starts from the weights that the first has left.
    logged = distiller.fit(data, validation_data=data, epochs=2, verbose=0).history
    return logged, [weight.tolist() for weight in student.get_weights()]


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert mirrored.num_replicas_in_sync == 2
    results = {}
    for case in json.loads(sys.argv[1]):
        try:
            results["/".join(case)] = [step(strategy, *case) for strategy in (tf.distribute.get_strategy(), mirrored)]
        except Exception:
            results["/".join(case)] = traceback.format_exc()
    print("RESULT" + json.dumps(results))
