import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.batches import batch_spec, probe_of_spec, read_first, spec_of

FLOATS, DOUBLES = np.zeros((7, 3), "float32"), np.zeros((7, 4), "float64")
LABELS = np.zeros(7, "int64")


def spec(*shape, dtype="float32"):
    return tf.TensorSpec(shape, dtype)


class Sequence(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.batch


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (FLOATS, None, (spec(None, 3), None)),
        (DOUBLES, LABELS, (spec(None, 4), spec(None, dtype="int64"))),
        (tf.constant(DOUBLES), tf.constant(FLOATS), (spec(None, 4), spec(None, 3))),
        (
            {"a": FLOATS, "b": np.zeros((7, 2, 2), "uint8")},
            {"y": DOUBLES},
            ({"a": spec(None, 3), "b": spec(None, 2, 2, dtype="uint8")}, {"y": spec(None, 4)}),
        ),
        ([FLOATS, DOUBLES], (LABELS,), ([spec(None, 3), spec(None, 4)], (spec(None, dtype="int64"),))),
        (np.array([["a"], ["b"]], object), None, (spec(None, 1, dtype="string"), None)),
    ],
)
def test_arrays_tell_their_batches(x, y, expected):
    assert batch_spec(x, y) == expected


@pytest.mark.parametrize(
    ("batched", "expected"),
    [
        ((FLOATS, LABELS), (spec(None, 3), spec(None, dtype="int64"))),
        ((FLOATS, LABELS, DOUBLES), (spec(None, 3), spec(None, dtype="int64"))),
        (({"a": FLOATS},), ({"a": spec(None, 3)}, None)),
        (FLOATS, (spec(None, 3), None)),
    ],
)
def test_a_dataset_tells_its_element_spec(batched, expected):
    assert batch_spec(tf.data.Dataset.from_tensor_slices(batched).batch(2)) == expected


def test_open_dimensions_stay_open():
    text = tf.data.Dataset.from_generator(lambda: iter([]), output_signature=spec(None, None, 3))
    assert batch_spec(text) == (spec(None, None, 3), None)


def test_a_dataset_is_not_iterated():
    read = []

    def examples():
        read.append(1)
        yield np.zeros(3, "float32")

    dataset = tf.data.Dataset.from_generator(examples, output_signature=spec(3)).batch(1)
    assert batch_spec(dataset) == (spec(None, 3), None)
    assert read == []
    assert len(list(dataset)) == len(read) == 1


def test_a_generator_is_not_consumed():
    generator = ((FLOATS, LABELS) for _ in range(2))
    assert batch_spec(generator) is None
    assert len(list(generator)) == 2


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ((DOUBLES, LABELS), (spec(None, 4), spec(None, dtype="int64"))),
        ((FLOATS, LABELS, DOUBLES), (spec(None, 3), spec(None, dtype="int64"))),
        (FLOATS, (spec(None, 3), None)),
    ],
)
def test_a_first_batch_is_read_and_put_back(batch, expected):
    sequence = Sequence(batch)
    assert batch_spec(sequence) is None
    assert read_first(sequence) == (sequence, expected)
    generator, read = read_first(element for element in (batch, "second"))
    assert read == expected
    assert isinstance(generator, types.GeneratorType)
    first, second = generator
    assert first is batch
    assert second == "second"


def test_an_empty_generator_and_other_data_are_left_alone():
    empty, arrays = (batch for batch in ()), [FLOATS]
    assert read_first(empty) == (empty, None)
    assert read_first(arrays) == (arrays, None)


@pytest.mark.parametrize("x", [None, [[1.0, 2.0]], "text"])
def test_what_only_reading_would_tell_is_left_alone(x):
    assert batch_spec(x) is None


def test_distributed_data_are_what_a_replica_sees_of_them():
    dataset = tf.data.Dataset.from_tensor_slices(FLOATS).batch(2)
    distributed = tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(dataset)
    assert batch_spec(distributed) == (tf.TensorSpec((None, *FLOATS.shape[1:]), tf.float32), None)


def test_float64_becomes_the_float_type_of_keras():
    assert spec_of(DOUBLES).dtype == tf.float32
    keras.config.set_floatx("float16")
    try:
        assert spec_of(DOUBLES).dtype == tf.float16
    finally:
        keras.config.set_floatx("float32")
    assert spec_of(np.zeros((2, 1), "float16")).dtype == tf.float16
    assert spec_of(np.zeros((2, 1), bool)).dtype == tf.bool


def test_probe_of_a_spec():
    probe = probe_of_spec({"a": spec(None, 2), "b": spec(3, 4, dtype="int32"), "c": spec(None, 1, dtype="string")})
    np.testing.assert_array_equal(probe["a"], [[1, 1], np.random.default_rng(0).random(2).astype("float32")])
    np.testing.assert_array_equal(probe["b"], [[1, 1, 1, 1], [1, 0, 0, 0]])
    assert probe["b"].dtype == tf.int32
    np.testing.assert_array_equal(probe["c"], [[b""], [b""]])


@pytest.mark.parametrize(
    "specs",
    [spec(None, None, 3), [spec(None, 2), spec(None, None)], tf.RaggedTensorSpec((None, None)), tf.TensorSpec(None)],
)
def test_no_probe_where_sizes_are_open(specs):
    assert probe_of_spec(specs) is None
