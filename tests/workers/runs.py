"""Small runs that one process and several workers must end alike."""

import keras
import numpy as np
import tensorflow as tf

import keras_kd as kd
from tests.distiller.small_models import answers, compiled_distiller, examples, mlp

# Batches of 8, 8 and 3: two workers have 2 and 1 of the last, and four have 1, 1, 1 and none.
X, Y = examples(19)
WEIGHTS = np.linspace(0.5, 1.5, len(X)).astype("float32")
EPOCHS = 2


def source(count=19, ids=False):
    """Batches of examples, labels and weights."""
    x = {"x": X[:count], "tfds_id": [f"train-{place}" for place in range(count)]} if ids else X[:count]
    return tf.data.Dataset.from_tensor_slices((x, Y[:count], WEIGHTS[:count])).batch(8)


def distiller(teacher, student=None, rate=0.1, student_inputs=None, **compile_with):
    """Soft targets, a hint with a projector, and the metrics of both kinds."""
    keras.utils.set_random_seed(5)
    return compiled_distiller(
        student or mlp(5, l2=0.01),
        teacher,
        [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")],
        compile_with={
            "optimizer": keras.optimizers.SGD(rate, momentum=0.9),
            "metrics": ["accuracy", "agreement"],
            **compile_with,
        },
        student_inputs=student_inputs,
    )


def teacher():
    return mlp(7, seed=1)


def write_caches(folder):
    """What the teacher says, by the place of an example and by its id."""
    settings = {"taps": ["hidden"], "dtype": "float32", "verbose": 0}
    kd.cache_teacher(teacher(), X, f"{folder}/places", **settings)
    by_id = source(ids=True).map(lambda x, y, weight: x)
    kd.cache_teacher(kd.Teacher(teacher(), inputs=["x"]), by_id, f"{folder}/ids", **settings)


def live(scope, folder):
    """Arrays and a teacher: `fit` with validation, and `predict`."""
    with scope:
        model = distiller(teacher())
    settings = {"batch_size": 8, "validation_data": (X[:17], Y[:17]), "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    logged = model.fit(X, Y, sample_weight=WEIGHTS, **settings).history
    return logged, weights_of(model), model.predict(X, batch_size=8, verbose=0).tolist()


def cached(scope, folder, name="places", data=None):
    """The same from a cache, without a teacher."""
    with scope:
        model = distiller(None, student_inputs=["x"] if name == "ids" else None)
    logged = model.fit(kd.open_cache(f"{folder}/{name}", data or source()), epochs=EPOCHS, shuffle=False, verbose=0)
    return logged.history, weights_of(model)


def cached_on_disk(scope, folder):
    """A source that is not in memory, so that signals are read with each batch."""
    return cached(scope, folder, data=source().filter(lambda *batch: True))


def cached_by_id(scope, folder):
    """Examples that come in another order than the teacher's, and are found by their ids."""
    whole = source(ids=True).unbatch().batch(len(X))
    backwards = whole.map(lambda *batch: tf.nest.map_structure(lambda part: tf.reverse(part, [0]), batch))
    return cached(scope, folder, "ids", backwards.unbatch().batch(8))


def sharded(scope, folder):
    """Shards that each worker makes for itself; of the last batch they have 2 and 1 examples."""
    with scope:
        model = distiller(teacher())

    def shard(context):
        count = context.num_input_pipelines
        return source().unbatch().shard(count, context.input_pipeline_id).batch(8 // count)

    data = model.distribute_strategy.distribute_datasets_from_function(shard)
    return model.fit(data, epochs=EPOCHS, shuffle=False, verbose=0).history, weights_of(model)


def related(scope, folder):
    """An objective that compares the examples of the global batch, of which each worker has a part."""
    with scope:
        keras.utils.set_random_seed(5)
        model = compiled_distiller(mlp(), teacher(), kd.objectives.SimilarityPreserving("hidden", "hidden"))
    return model.fit(source(), epochs=EPOCHS, shuffle=False, verbose=0).history, weights_of(model)


def with_normalisation(synchronized):
    keras.utils.set_random_seed(3)
    normalisation = keras.layers.BatchNormalization(synchronized=synchronized, momentum=0.5)
    layers = [keras.layers.Dense(5, "tanh", name="hidden"), normalisation, keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((4,)), *layers])


def normalised(scope, folder):
    """Statistics of the global batch; of the last one, a single example, most workers have nothing."""
    with scope:
        model = distiller(teacher(), with_normalisation(synchronized=True))
    return model.fit(source(17), epochs=EPOCHS, shuffle=False, verbose=0).history, weights_of(model)


def normalised_by_share(scope, folder):
    """Statistics of shares, of one step with three examples; and what they are the statistics of."""
    with scope:
        model = distiller(teacher(), with_normalisation(synchronized=False), rate=0.0)
    model.fit(source(3), shuffle=False, verbose=0)
    normalisation = model.student.layers[1]
    hidden = model.student.layers[0](X[:3])
    return {
        "mean": normalisation.moving_mean.numpy().tolist(),
        "variance": normalisation.moving_variance.numpy().tolist(),
        "hidden": hidden.numpy().tolist(),
    }


def shuffled(scope, folder):
    """Nothing is learnt, so that an epoch logs the mean of whatever examples it has shown."""
    with scope:
        model = distiller(teacher(), rate=0.0)
    return model.fit(X, Y, batch_size=8, epochs=EPOCHS, verbose=0).history, weights_of(model)


def resumed(scope, callbacks=()):
    """Four epochs by an optimizer that has a state."""
    with scope:
        model = distiller(teacher(), optimizer=keras.optimizers.Adam(0.05))
    logged = model.fit(X, Y, batch_size=8, epochs=4, shuffle=False, callbacks=[*callbacks], verbose=0).history
    return logged, weights_of(model), answers(model.student, X).tolist()


def weights_of(model):
    projector = [weight for objective in model.objectives for weight in objective.weights]
    return [np.array(weight).tolist() for weight in (*model.student.weights, *projector)]
