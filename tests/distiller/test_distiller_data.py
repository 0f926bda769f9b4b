"""Every form of data that `fit` takes, read once and in its own order."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import assert_same, assert_same_history, compiled_distiller, cross_entropy, examples, mlp, twin

import keras_kd as kd

X, Y = examples(22)
W = np.linspace(0.5, 2, len(X)).astype("float32")
SOUND, _ = examples(len(X), seed=5, features=6)
BATCH = 8


def batches(with_weights=False):
    for start in range(0, len(X), BATCH):
        part = slice(start, start + BATCH)
        yield (X[part], Y[part], W[part]) if with_weights else (X[part], Y[part])


class Sequence(keras.utils.PyDataset):
    def __init__(self, with_weights):
        super().__init__()
        self.items = list(batches(with_weights))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def forms(form, with_weights):
    """Arguments of `fit` that hold the same batches in the same order."""
    arrays = (X, Y, W) if with_weights else (X, Y)
    keywords = {"sample_weight": W} if with_weights else {}
    return {
        "dataset": lambda: {"x": tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH)},
        "pydataset": lambda: {"x": Sequence(with_weights), "shuffle": False},
        "generator": lambda: {"x": batches(with_weights), "steps_per_epoch": 3},
        "tensors": lambda: {"x": tf.constant(X), "y": tf.constant(Y), "batch_size": BATCH, **keywords},
        "float64": lambda: {"x": X.astype("float64"), "y": Y, "batch_size": BATCH, **keywords},
    }[form]()


def objectives():
    return [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")]


def trained(teacher, **data):
    student = mlp()
    distiller = compiled_distiller(student, teacher, objectives())
    keras.utils.set_random_seed(3)
    history = distiller.fit(**{"shuffle": False, "verbose": 0, **data}).history
    return history, [*student.get_weights(), *distiller.objectives[1].get_weights()]


@pytest.fixture(scope="module")
def from_arrays():
    teacher, arrays = mlp(7, seed=1), {"x": X, "y": Y, "batch_size": BATCH}
    return {False: trained(teacher, **arrays), True: trained(teacher, **arrays, sample_weight=W)}


@pytest.mark.parametrize(
    ("form", "with_weights"),
    [
        ("dataset", False),
        ("dataset", True),
        ("pydataset", True),
        ("generator", False),
        ("generator", True),
        ("tensors", False),
        ("float64", True),
    ],
)
def test_every_form_of_data_trains_as_arrays_do(form, with_weights, from_arrays):
    teacher, (expected, expected_weights) = mlp(7, seed=1), from_arrays[with_weights]
    history, received_weights = trained(teacher, **forms(form, with_weights))
    assert set(history) == set(expected)
    assert_same_history(history, expected, rtol=1e-5)
    assert_same(received_weights, expected_weights, rtol=1e-5, atol=1e-6)


def test_train_on_batch_is_a_step_of_fit(from_arrays):
    teacher, (_, expected) = mlp(7, seed=1), from_arrays[True]
    student = mlp()
    distiller = compiled_distiller(student, teacher, objectives())
    keras.utils.set_random_seed(3)
    for x, y, w in batches(with_weights=True):
        distiller.train_on_batch(x, y, sample_weight=w)
    received = [*student.get_weights(), *distiller.objectives[1].get_weights()]
    assert_same(received, expected, rtol=1e-5, atol=1e-6)


def hearing():
    return mlp(seed=2, features=6)


@pytest.fixture(scope="module")
def plain_on_sound():
    """The student sees the sound alone, so its labels' loss must equal a plain model's on the sound."""
    reference = hearing()
    reference.compile(keras.optimizers.SGD(0.1), cross_entropy())
    history = reference.fit(SOUND, Y, batch_size=BATCH, shuffle=False, verbose=0).history
    return history, reference.get_weights()


@pytest.mark.parametrize(
    ("form", "structure"),
    [("arrays", dict), ("arrays", tuple), ("dataset", tuple), ("generator", dict), ("pydataset", dict)],
)
def test_structured_inputs_in_every_form(form, structure, plain_on_sound):
    whole = {"image": X, "sound": SOUND} if structure is dict else (X, SOUND)
    keys = ("image", "sound") if structure is dict else (0, 1)

    def part(start):
        cut = slice(start, start + BATCH)
        return keras.tree.map_structure(lambda array: array[cut], whole), Y[cut]

    class Parts(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return part(index * BATCH)

    data = {
        "arrays": lambda: {"x": whole, "y": Y, "batch_size": BATCH},
        "dataset": lambda: {"x": tf.data.Dataset.from_tensor_slices((whole, Y)).batch(BATCH)},
        "generator": lambda: {"x": (part(start) for start in (0, 8, 16))},
        "pydataset": lambda: {"x": Parts()},
    }[form]()
    of_image, of_sound = mlp(7, seed=1), hearing()
    distiller = compiled_distiller(
        of_sound, kd.Teacher(of_image, inputs=[keys[0]]), alpha=1.0, student_inputs=[keys[1]]
    )
    received = distiller.fit(**data, shuffle=False, verbose=0).history
    expected, weights = plain_on_sound
    assert_same_history(received, expected, rtol=1e-5)
    assert_same(of_sound.get_weights(), weights, rtol=1e-5, atol=1e-6)


def assert_trains_as_the_plain_model(data, epochs=2, **kwargs):
    """Weights of a plain model and of a distiller with alpha=1, trained on data made anew for each."""
    student = mlp()
    plain = twin(student)
    plain.compile(keras.optimizers.SGD(0.1), cross_entropy())
    distiller = compiled_distiller(student, mlp(7, seed=1), alpha=1.0)
    histories = []
    for model in (plain, distiller):
        keras.utils.set_random_seed(11)
        histories.append(model.fit(data(), epochs=epochs, verbose=0, **kwargs).history)
    assert_same_history(histories[1], histories[0], rtol=1e-5)
    assert_same(student.get_weights(), plain.get_weights(), rtol=1e-5, atol=1e-6)


def test_a_shuffled_dataset_is_not_read_before_fit():
    assert_trains_as_the_plain_model(
        lambda: tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(len(X), seed=7).batch(BATCH)
    )


def test_a_dataset_with_random_augmentation_keeps_its_seeds():
    def augment(x, y):
        return x + tf.random.normal(tf.shape(x), seed=3), y

    assert_trains_as_the_plain_model(lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH).map(augment))


def test_shuffled_arrays_come_in_the_plain_models_order():
    student = mlp()
    plain = twin(student)
    plain.compile(keras.optimizers.SGD(0.1), cross_entropy())
    distiller = compiled_distiller(student, mlp(7, seed=1), alpha=1.0)
    for model in (plain, distiller):
        keras.utils.set_random_seed(11)
        model.fit(X, Y, batch_size=BATCH, epochs=2, verbose=0)
    assert_same(student.get_weights(), plain.get_weights(), rtol=1e-5, atol=1e-6)


def test_a_generator_that_runs_dry_is_read_once():
    def data():
        yield from (batch for _ in range(2) for batch in batches())

    assert_trains_as_the_plain_model(data, steps_per_epoch=3)


def test_a_dataset_that_counts_is_read_as_often_as_by_keras():
    def reads(model):
        count = []

        def counted():
            for batch in batches():
                count.append(1)
                yield batch

        signature = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int64))
        dataset = tf.data.Dataset.from_generator(counted, output_signature=signature)
        model.fit(dataset, epochs=2, verbose=0)
        return len(count)

    plain = mlp()
    plain.compile("sgd", cross_entropy())
    assert reads(compiled_distiller(mlp(), mlp(7))) == reads(plain) == 6


def test_a_pydataset_that_draws_at_random_gives_the_plain_models_weights():
    class Augmenting(Sequence):
        def __init__(self):
            super().__init__(with_weights=False)
            self.rng = np.random.default_rng(2)

        def __getitem__(self, index):
            x, y = self.items[index]
            return x + self.rng.normal(size=x.shape).astype("float32"), y

    assert_trains_as_the_plain_model(Augmenting, shuffle=False)


def test_unbuilt_models_learn_from_a_generator():
    teacher = mlp(7, seed=1)
    results = []
    for data in ({"x": X, "y": Y, "batch_size": BATCH}, {"x": batches(), "steps_per_epoch": 3}):
        keras.utils.set_random_seed(3)
        layers = [keras.layers.Dense(5, "tanh", name="hidden"), keras.layers.Dense(3)]
        student = keras.Sequential(layers)
        distiller = compiled_distiller(student, teacher, objectives())
        history = distiller.fit(**data, shuffle=False, verbose=0).history
        results.append((history, [*student.get_weights(), *distiller.objectives[1].get_weights()]))
    assert_same_history(results[1][0], results[0][0], rtol=1e-5)
    assert_same(results[1][1], results[0][1], rtol=1e-5, atol=1e-6)
