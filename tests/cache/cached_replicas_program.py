"""Run by the tests in a process of its own: two replicas must be fixed before TensorFlow starts.

Prints, as JSON, what training logs and leaves on one device with the teacher, and on two with a cache.
"""

import json
import sys

import keras
import tensorflow as tf

from keras_kd.cache import cache_teacher, open_cache
from tests.cache.caching import lifted, trained
from tests.distiller.small_models import examples, mlp

VIEWS = 2


def run(teacher, data, scope):
    with scope:
        keras.utils.set_random_seed(5)
        logged, weights = trained(mlp(l2=0.05), teacher, data, compile_with={"metrics": ["agreement"]})
    return logged, [weight.tolist() for weight in weights]


def runs(folder):
    """Without an augmentation, and two views in two epochs."""
    keras.config.disable_interactive_logging()
    source = tf.data.Dataset.from_tensor_slices(examples(16)).batch(8)
    teacher = mlp(7, seed=1)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert mirrored.num_replicas_in_sync == 2
    one = tf.distribute.get_strategy()
    results = {}
    for name, augment in (("plain", None), ("views", lifted)):
        path = f"{folder}/{name}"
        views = {} if augment is None else {"views": VIEWS, "augment": augment}
        cache_teacher(teacher, source, path, dtype="float32", **views)
        results[f"{name}, one device"] = run(None, open_cache(path, source, augment=augment), one.scope())
        results[f"{name}, two"] = run(None, open_cache(path, source, augment=augment), mirrored.scope())
    results["plain, live"] = run(teacher, source, one.scope())
    return results


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    print("RESULT" + json.dumps(runs(sys.argv[1])))
