"""What tells an example or a teacher from any other, and nothing else does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

import keras_kd as kd
from keras_kd.cache.fingerprints import checksums, checksums_in_graph, keys_of_ids, teacher_fingerprint, view_seeds
from tests.cache import numpy_fingerprints
from tests.cache.caching import printed_by
from tests.cache.teachers_program import IDS, fingerprints_here, net

few = settings(deadline=None, max_examples=30, derandomize=True)
DTYPES = ["float16", "float32", "float64", "uint8", "int16", "uint16", "int32", "int64", "bool"]


def random(dtype, *shape, seed=0):
    """Every bit drawn, but of booleans."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    width = np.dtype(dtype).itemsize
    return rng.integers(0, 256, (*shape[:-1], shape[-1] * width)).astype("uint8").view(dtype).reshape(shape)


def with_flipped_bit(array, example, number, bit):
    """A copy of which one bit of one number of one example is another."""
    other = array.copy()
    if array.dtype == bool:
        other[example, number] ^= True
    else:
        other.view("uint8").reshape(len(array), -1)[example, number * array.dtype.itemsize + bit // 8] ^= 1 << bit % 8
    return other


@few
@given(st.sampled_from(DTYPES), st.integers(1, 5), st.integers(1, 40), st.integers(0, 1000))
def test_checksums_are_those_of_the_formula(dtype, batch, width, seed):
    x = random(dtype, batch, width, seed=seed)
    assert checksums(x).tolist() == [numpy_fingerprints.checksum(one) for one in x]


def test_checksums_of_structures_take_the_tensors_by_their_paths():
    images, sounds = random("uint8", 4, 3, 3, 2), random("float32", 4, 5)
    expected = [numpy_fingerprints.checksum(*pair) for pair in zip(images, sounds, strict=True)]
    for structure in ({"image": images, "sound": sounds}, {"sound": sounds, "image": images}, (images, sounds)):
        assert checksums(structure).tolist() == expected


@few
@given(st.sampled_from(DTYPES), st.integers(0, 2), st.integers(0, 6), st.integers(0, 63), st.integers(0, 1000))
def test_a_flipped_bit_changes_the_checksum_of_its_example_alone(dtype, example, number, bit, seed):
    x = random(dtype, 3, 7, seed=seed)
    other = with_flipped_bit(x, example, number, bit % (8 * x.dtype.itemsize))
    changed = checksums(x) != checksums(other)
    assert changed.tolist() == [place == example for place in range(3)]


@few
@given(st.text(max_size=20), st.text(max_size=20))
def test_strings_have_the_checksums_of_their_characters(one, other):
    sums = checksums(np.array([[one, "b"], [other, "b"]], object))
    assert (sums[0] == sums[1]) == (one == other)


@few
@given(st.permutations(range(6)), st.sampled_from(["uint8", "float32"]))
def test_pixels_in_another_order_have_another_checksum(order, dtype):
    x = np.arange(1, 7).astype(dtype)
    sums = checksums(np.stack([x, x[list(order)]]))
    assert (sums[0] == sums[1]) == (list(order) == sorted(order))


def test_a_graph_has_the_same_checksums():
    structure = {"image": random("uint8", 4, 3, 3, 2), "text": np.array([["a"], ["b"], ["a"], [""]], object)}
    (received,) = tf.data.Dataset.from_tensors(structure).map(checksums_in_graph)
    np.testing.assert_array_equal(received, checksums(structure))


def test_checksums_do_not_depend_on_the_batch():
    x = random("float32", 12, 9)
    whole = checksums(x)
    for size in (1, 5):
        parts = [checksums(x[start : start + size]) for start in range(0, 12, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def halves(keys):
    """The lower and the upper 32 bits of each."""
    return np.array([[key % 2**32, key // 2**32] for key in keys], "uint32")


@few
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_seeds_are_those_of_the_formula(total, key, view, seed):
    parts = np.array([total], "uint32"), halves([key]), np.array([view], "uint32")
    expected = numpy_fingerprints.seed_of(total, key, view, seed) % 2**32
    assert view_seeds(*parts, seed).tolist() == [expected]
    assert view_seeds(*map(tf.constant, parts), seed).numpy().tolist() == [expected]


def assert_even(counts):
    even = np.mean(counts)
    assert np.sum((counts - even) ** 2) / even < chi2.ppf(0.999, len(counts) - 1)


def test_seeds_of_like_examples_are_spread_evenly():
    """Over their range and over their lowest bits, for equal examples at many places and for many views of one."""
    count = 6400
    sums, keys, numbers = np.full(count, 7, "uint32"), halves(range(count)), np.arange(count, dtype="uint32")
    for seeds in (view_seeds(sums, keys, numbers[:1], 0), view_seeds(sums, keys[:1], numbers, 0)):
        assert len(seeds) == count
        assert_even(np.bincount(seeds >> 26, minlength=64))
        assert_even(np.bincount(seeds % 64, minlength=64))


def test_keys_of_ids_are_one_for_each():
    keys = keys_of_ids(tf.constant([f"train.tfrecord-00000-of-00001__{place}" for place in range(5000)])).numpy()
    assert len(np.unique(keys)) == 5000
    assert keys.min() >= 0


def fingerprint(model, **kwargs):
    return teacher_fingerprint(kd.Teacher(model, **kwargs))


@pytest.mark.parametrize("kind", IDS)
def test_a_rebuilt_model_with_the_same_weights_is_the_same_teacher(kind):
    model, again = net(kind), net(kind)
    assert model.layers[-1].name != again.layers[-1].name or kind == "named"
    assert fingerprint(again) == fingerprint(model)


def test_another_process_finds_the_same_teachers():
    assert printed_by("teachers_program") == fingerprints_here()


def test_kinds_of_models_differ():
    assert len(set(fingerprints_here().values())) == len(IDS)


@pytest.mark.parametrize("kind", IDS)
def test_a_bit_of_a_weight_makes_another_teacher(kind):
    model = net(kind)
    before = fingerprint(model)
    kernel = model.weights[0]
    changed = kernel.numpy()
    changed.view("uint32").reshape(-1)[-1] ^= 1
    kernel.assign(changed)
    assert fingerprint(model) != before
    changed.view("uint32").reshape(-1)[-1] ^= 1
    kernel.assign(changed)
    assert fingerprint(model) == before


@pytest.mark.parametrize("kind", ["sequential", "functional", "subclass"])
def test_an_activation_makes_another_teacher(kind):
    assert fingerprint(net(kind, activation="tanh")) != fingerprint(net(kind))


def test_a_layer_that_is_called_like_its_function_is_not_mistaken():
    def model(activation):
        return keras.Sequential([keras.Input((4,)), keras.layers.Activation(activation, name=activation)])

    assert fingerprint(model("relu")) != fingerprint(model("tanh"))


def test_what_the_graph_joins_makes_another_teacher():
    def model(swapped):
        inputs = keras.Input((4,))
        one, other = (keras.layers.Activation(name)(inputs) for name in ("relu", "tanh"))
        return keras.Model(inputs, keras.ops.subtract(*((other, one) if swapped else (one, other))))

    assert fingerprint(model(True)) != fingerprint(model(False))


@pytest.mark.parametrize("kind", ["sequential", "functional", "nested"])
def test_training_that_leaves_the_weights_makes_no_other_teacher(kind):
    model = net(kind)
    before, weights = fingerprint(model), model.get_weights()
    for one in (model, *(layer for layer in model.layers if isinstance(layer, keras.Model))):
        one.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    assert fingerprint(model) != before
    model.set_weights(weights)
    model.trainable = False
    assert fingerprint(model) == before


@pytest.mark.parametrize("kind", ["sequential", "functional", "nested"])
def test_a_saved_and_loaded_model_is_the_same_teacher(kind, tmp_path):
    model = net(kind)
    model.save(tmp_path / "teacher.keras")
    assert fingerprint(keras.models.load_model(tmp_path / "teacher.keras")) == fingerprint(model)


def test_the_batch_that_built_a_model_has_no_say():
    def model(batch):
        keras.utils.set_random_seed(0)
        made = keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(3)])
        made(np.ones((batch, 4), "float32"))
        return made

    assert fingerprint(model(2)) == fingerprint(model(7))


def test_the_declaration_and_the_weights_of_an_ensemble_have_a_say():
    model, other = net("sequential"), net("functional")
    assert fingerprint(model, outputs="probabilities") != fingerprint(model)
    ensembles = [kd.Ensemble([model, other], weights=weights) for weights in ([1, 1], [2, 2], [1, 2])]
    equal, scaled, another = map(teacher_fingerprint, ensembles)
    assert scaled == equal
    assert another != equal
    assert teacher_fingerprint(kd.Ensemble([other, model])) != equal
