"""Keys that say what a signal is, and how much room and reading the signals take."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_kd.cache import cache_teacher, open_cache
from keras_kd.outcomes import SampledClasses, TopClasses
from keras_kd.replay import SignalKey, WithSignals, heard, inputs_of, keys_of
from tests.cache.caching import identified, refusal_of, signals_of
from tests.distiller.small_models import examples, mlp

few = settings(deadline=None, max_examples=50, derandomize=True)
KEYS = st.builds(
    SignalKey,
    st.integers(0, 99),
    st.sampled_from(["dense", "top_k", "sampled", "tap"]),
    st.text(min_size=1),
    st.booleans(),
    st.none() | st.floats(0.1, 20),
    st.none() | st.integers(2, 10**6),
)


@few
@given(KEYS)
def test_a_key_is_read_as_it_was_written(key):
    assert SignalKey.parse(str(key)) == key


@few
@given(st.permutations(range(12)))
def test_keys_come_in_the_order_of_the_teachers_signals(order):
    keys = [SignalKey(index, "dense", f"output_{index}") for index in order]
    assert [key.index for key in keys_of(map(str, keys))] == list(range(12))


def batch_of(*keys, **tensors):
    return {str(key): {name: tf.constant(array) for name, array in tensors.items()} for key in keys}


def test_signals_are_heard_as_those_of_the_model_that_gave_them():
    logits = np.float32([[1.0, 2.0]])
    one = heard(batch_of(SignalKey(0, "dense", "head"), logits=logits))
    np.testing.assert_array_equal(one.structure, logits)
    assert (list(one.outputs), one.keyed, one.taps) == (["head"], False, {})
    several = heard(batch_of(*(SignalKey(i, "dense", f"output_{i}") for i in reversed(range(11))), logits=logits))
    assert isinstance(several.structure, list)
    assert list(several.outputs) == [f"output_{i}" for i in range(11)]
    keyed = heard(batch_of(*(SignalKey(i, "dense", name, True) for i, name in enumerate("ba")), logits=logits))
    assert (list(keyed.structure), keyed.keyed) == (["b", "a"], True)


def test_parts_of_classes_are_heard_with_what_is_known_of_them():
    key = SignalKey(0, "top_k", "head", False, 2.0, 7)
    said = heard(batch_of(key, classes=np.int32([[3, 1]]), logits=np.float32([[0.0, 0.0, 1.0]]))).outputs["head"]
    assert (type(said), said.num_classes, said.temperature, int(said.top[0])) == (TopClasses, 7, 2.0, 3)
    key = SignalKey(0, "sampled", "head", False, 2.0, 7)
    said = heard(batch_of(key, classes=np.int32([[3, 1]]))).outputs["head"]
    assert (type(said), said.num_classes, said.temperature) == (SampledClasses, 7, 2.0)


def test_taps_are_heard_beside_the_outputs():
    signals = {
        **batch_of(SignalKey(1, "tap", "block/add"), feature=np.float16([[0.5]])),
        **batch_of(SignalKey(0, "dense", "head"), logits=np.float32([[1.0]])),
    }
    said = heard(signals)
    assert (list(said.outputs), list(said.taps), float(said.taps["block/add"][0, 0])) == (["head"], ["block/add"], 0.5)


def test_inputs_with_and_without_signals():
    assert inputs_of(WithSignals("x", {})) == "x"
    assert inputs_of({"image": "x"}) == {"image": "x"}


ROOM = {  # bytes of an example with ten classes, the seed of 4 in each view
    "float16": ({}, 4 + 2 * 10),
    "float32": ({"dtype": "float32"}, 4 + 4 * 10),
    "int8": ({"dtype": "int8"}, 4 + 10 + 4),
    "top_k": ({"top_k": 3}, 4 + 4 * 3),
    "top_k, float32": ({"top_k": 3, "dtype": "float32"}, 4 + 8 * 3),
    "samples": ({"samples": 6}, 4 + 6),
    "a tap of 5 numbers": ({"taps": ["hidden"]}, 4 + 2 * 10 + 2 * 5),
    "views": ({"views": 3, "augment": lambda x, seed: x + tf.random.stateless_normal((), seed)}, 3 * (4 + 2 * 10)),
}
COUNT = 600
x, _ = examples(COUNT)


@pytest.fixture(scope="module")
def teacher():
    return mlp(5, seed=1, classes=10)


def size_on_disk(folder):
    return sum(file.stat().st_size for file in folder.glob("signals-*.tfrecord"))


@pytest.mark.parametrize("form", ROOM)
def test_the_room_that_an_example_takes(form, teacher, tmp_path):
    arguments, expected = ROOM[form]
    manifest = cache_teacher(teacher, x, tmp_path, **arguments)
    assert manifest.bytes_per_example == expected
    header = len(next(tf.data.TFRecordDataset(str(tmp_path / "signals-00000.tfrecord")).as_numpy_iterator()))
    records = 3 * manifest.views  # three blocks; TFRecord frames each record in 16 bytes
    assert size_on_disk(tmp_path) == COUNT * expected + header + 16 * (1 + records)


def test_the_room_of_ids(teacher, tmp_path):
    manifest = cache_teacher(teacher, identified(x), tmp_path)
    assert manifest.bytes_per_example == 8 + 4 + 2 * 10


def test_the_classes_of_many_need_no_more_room_than_four_bytes_each(tmp_path):
    layers = [keras.Input((4,)), keras.layers.Dense(70_000, kernel_initializer="ones")]
    for dtype, expected in (("float16", 4 + 4 * 8), ("float32", 4 + 8 * 8)):
        manifest = cache_teacher(keras.Sequential(layers), x[:3], tmp_path / dtype, top_k=8, dtype=dtype)
        assert manifest.bytes_per_example == expected


@pytest.mark.parametrize("place", [0, 255, 256, 599])
def test_a_row_is_read_alone(place, teacher, tmp_path):
    """Nothing else of a shard is looked at: all the rest may be gone by then."""
    cache_teacher(teacher, identified(x), tmp_path)
    opened = open_cache(tmp_path, identified(x).skip(place).take(1))
    expected = teacher(x)[place].numpy().astype("float16")
    shard = tmp_path / "signals-00000.tfrecord"
    held = shard.read_bytes()
    start = held.find(expected.tobytes())
    assert start > 4
    kept = slice(start - 4, start + expected.nbytes)  # with the seed before it
    shard.write_bytes(b"\xff" * kept.start + held[kept] + b"\xff" * (len(held) - kept.stop))
    ((signals,),) = opened
    np.testing.assert_array_equal(signals_of(signals)[0]["logits"], expected)
    shard.write_bytes(held[: kept.start] + bytes([held[kept.start] ^ 1]) + held[kept.start + 1 :])
    assert "`open_cache`" in refusal_of(list, opened, kind=tf.errors.InvalidArgumentError)
