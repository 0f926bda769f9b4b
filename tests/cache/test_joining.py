"""Inputs and signals stay together whatever is done with an opened data set."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from tests.cache.caching import batched, check_aligned, identified, ids, inputs_and_logits, refusal_of
from tests.distiller.small_models import examples, mlp

COUNT = 600  # three blocks, the last of 88
x, y = examples(COUNT)


@pytest.fixture(scope="module")
def teacher():
    return mlp(9, seed=1)


@pytest.fixture(scope="module")
def by_place(teacher, tmp_path_factory):
    keras.config.disable_interactive_logging()
    return cache_teacher(teacher, (x, y), tmp_path_factory.mktemp("by_place"), dtype="float32").path


@pytest.fixture(scope="module")
def by_id(teacher, tmp_path_factory):
    return cache_teacher(teacher, identified(x, y), tmp_path_factory.mktemp("by_id"), dtype="float32").path


STEPS = {
    "batch": lambda data: data.batch(7),
    "shuffle": lambda data: data.shuffle(50, seed=1).batch(7),
    "filter": lambda data: data.filter(lambda signals, y: y == 1).batch(7),
    "shard": lambda data: data.shard(3, 2).batch(7),
    "skip and take": lambda data: data.skip(250).take(20).batch(7),
    "repeat": lambda data: data.skip(590).repeat(3).batch(7),
    "concatenate": lambda data: data.skip(500).concatenate(data.take(4)).batch(7),
    "interleave": lambda data: (
        tf.data.Dataset.range(3).interleave(lambda part: data.shard(3, part), cycle_length=3, block_length=2).batch(7)
    ),
    "map and prefetch": lambda data: data.map(lambda signals, y: (signals, y + 1)).batch(7).prefetch(3),
    "batch, shuffle, rebatch": lambda data: data.batch(5).shuffle(9, seed=2).rebatch(7),
    "zip": lambda data: tf.data.Dataset.zip(data, tf.data.Dataset.range(COUNT)).map(lambda one, _: one).batch(7),
}
COUNTS = {"filter": int((y == 1).sum()), "shard": 200, "skip and take": 20, "repeat": 30, "concatenate": 104}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_of_tf_data_parts_inputs_from_signals(step, by_place, teacher):
    opened = open_cache(by_place, tf.data.Dataset.from_tensor_slices((x, y)))
    check_aligned(STEPS[step](opened), teacher, COUNTS.get(step, COUNT))


@pytest.mark.parametrize("size", [1, 32, 255, 257, 600])
def test_a_source_in_batches_comes_in_its_own(size, by_place, teacher):
    opened = open_cache(by_place, batched((x, y), size))
    expected = [min(size, COUNT - start) for start in range(0, COUNT, size)]
    assert [len(batch.x) for batch, _ in opened] == expected
    assert int(opened.cardinality()) == len(expected)
    np.testing.assert_array_equal(check_aligned(opened, teacher, COUNT), x)


def test_batches_of_many_sizes(by_place, teacher):
    """Of 1, 2, 3, ... examples: none begins where a block does."""
    plain = tf.data.Dataset.from_tensor_slices((x, y))
    sizes = [1, 2, 3, 250, 5, 339]
    starts = np.cumsum([0, *sizes])
    source = plain.take(1).batch(1)
    for start, size in zip(starts[1:-1], sizes[1:], strict=True):
        source = source.concatenate(plain.skip(int(start)).take(size).batch(size))
    opened = open_cache(by_place, source)
    assert [len(batch.x) for batch, _ in opened] == sizes
    check_aligned(opened, teacher, COUNT)


def test_what_comes_beside_the_inputs_is_left_as_it_is(by_place):
    weights = np.arange(COUNT, dtype="float32")
    for place, (_, label, weight) in enumerate(open_cache(by_place, (x, y, weights)).take(300)):
        assert (label.numpy(), weight.numpy()) == (y[place], place)


def test_the_beginning_of_a_source_in_batches(by_place, teacher):
    """Whatever has its place and its bits is what the teacher saw."""
    check_aligned(open_cache(by_place, batched((x[:300], y[:300]), 8)), teacher, 300)


ORDERS = {
    "reversed": np.arange(COUNT)[::-1],
    "shuffled": np.random.default_rng(0).permutation(COUNT),
    "a part": np.arange(5, COUNT, 7),
    "some twice": np.repeat(np.arange(0, COUNT, 9), 2),
}


def in_order(order):
    return tf.data.Dataset.from_tensor_slices(({"image": x[order], "tfds_id": ids[order]}, y[order]))


def bare(data):
    return data.map(lambda signals, y: (signals._replace(x=signals.x["image"]), y))


@pytest.mark.parametrize("order", ORDERS)
def test_examples_with_ids_come_in_any_order(order, by_id, teacher):
    order = ORDERS[order]
    opened = open_cache(by_id, in_order(order))
    assert list(opened.element_spec[0].x) == ["image"]  # models see no id
    seen = check_aligned(bare(opened.batch(7)), teacher)
    np.testing.assert_array_equal(seen, x[order])


def test_examples_with_ids_shuffled_filtered_and_repeated_before(by_id, teacher):
    source = identified(x, y).shuffle(100, seed=3).filter(lambda x, y: y != 1).repeat(2)
    for data in (source.batch(9), source):
        opened = bare(open_cache(by_id, data))
        check_aligned(opened if data is not source else opened.batch(9), teacher, 2 * int((y != 1).sum()))


def test_an_endless_source_with_ids(by_id, teacher):
    opened = open_cache(by_id, identified(x, y).shuffle(50, seed=1).repeat())
    check_aligned(bare(opened.take(COUNT + 100).batch(50)), teacher, COUNT + 100)


def test_a_shuffled_source_with_ids_trains_as_with_the_teacher(by_id, teacher):
    def run(who, data):
        distiller = kd.Distiller(mlp(), who)
        distiller.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return distiller.fit(data, epochs=2, verbose=0).history["soft_targets"]

    source = identified(x[:40], y[:40]).shuffle(40, seed=5, reshuffle_each_iteration=False)
    expected = run(teacher, source.map(lambda x, y: (x["image"], y)).batch(8))
    received = run(None, bare(open_cache(by_id, source)).batch(8))
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def another(change):
    """The examples with one thing changed."""
    changed = x.copy()
    change(changed)
    return (changed, y)


def swap(array, one, other):
    array[[one, other]] = array[[other, one]]


ANOTHER = " is the cache of another data set, or of another order of it. "
BY_PLACE = "Open it with the source in the order that the teacher saw, and shuffle afterwards; or give `tfds_id`s."
BY_ID = "Open it with the examples that the teacher saw."


@pytest.mark.parametrize(
    ("data", "first"),
    [
        ((x[::-1].copy(), y), 0),
        (another(lambda array: swap(array, 100, 101)), 100),
        (another(lambda array: array.view("uint32").__setitem__((255, 3), array.view("uint32")[255, 3] ^ 1)), 255),
        (another(lambda array: swap(array, 7, 400)), 7),
    ],
)
def test_another_order_in_the_first_block_is_refused_on_opening(data, first, by_place):
    text = f"`open_cache`: {by_place}{ANOTHER}{BY_PLACE} The first is example {first}."
    assert refusal_of(open_cache, by_place, data) == text
    assert refusal_of(open_cache, by_place, batched(data, 32)) == text


@pytest.mark.parametrize("places", [(300, 301), (256, 599)])
def test_another_order_beyond_the_first_block_is_refused_when_read(places, by_place):
    data = another(lambda array: swap(array, *places))
    elsewhere = batched(data, 64).map(lambda *element: element)
    text = refusal_of(list, open_cache(by_place, elsewhere), kind=tf.errors.InvalidArgumentError)
    assert f"`open_cache`: {by_place}{ANOTHER}{BY_PLACE}" in text
    assert text.count("open_cache") == 1


@pytest.mark.parametrize("places", [(300, 301), (256, 599)])
def test_of_arrays_it_is_refused_on_opening(places, by_place):
    data = another(lambda array: swap(array, *places))
    for source in (data, tf.data.Dataset.from_tensor_slices(data), batched(data, 64)):
        text = f"`open_cache`: {by_place}{ANOTHER}{BY_PLACE} The first is example {places[0]}."
        assert refusal_of(open_cache, by_place, source) == text


def test_a_source_that_changes_later_is_refused_when_read(by_place, teacher):
    """What comes from elsewhere than memory is proved in every pass."""
    drift = tf.Variable(0.0)
    source = tf.data.Dataset.from_tensor_slices((x, y)).map(lambda x, y: (x + drift, y))
    opened = open_cache(by_place, source).batch(64)
    check_aligned(opened, teacher)
    drift.assign(1.0)
    assert BY_PLACE in refusal_of(list, opened, kind=tf.errors.InvalidArgumentError)


def test_more_batches_than_the_teacher_saw_are_refused_when_read(by_place, teacher):
    longer = batched((np.concatenate([x, x[:8]]), np.concatenate([y, y[:8]])), 8)
    opened = open_cache(by_place, longer)
    check_aligned(opened.take(COUNT // 8), teacher, COUNT)
    text = refusal_of(list, opened, kind=tf.errors.InvalidArgumentError)
    assert f"`open_cache`: {by_place}{ANOTHER}{BY_PLACE}" in text


def test_sources_of_another_kind_are_refused_on_opening(by_place, by_id):
    held = '[["", [4], "float32"]]'
    for data, what in (
        ((x.astype("float16"), y), f'another data set: its inputs are {held}, not [["", [4], "float16"]]'),
        ((x[:, :3], y), f'another data set: its inputs are {held}, not [["", [3], "float32"]]'),
        (({"image": x}, y), f'another data set: its inputs are {held}, not [["image", [4], "float32"]]'),
        ((x[:-1], y[:-1]), "another data set: it has 600 examples, not 599"),
        (identified(x, y), f'another data set: its inputs are {held}, not [["image", [4], "float32"]]'),
    ):
        assert refusal_of(open_cache, by_place, data) == f"`open_cache`: {by_place} is the cache of {what}."
    assert refusal_of(open_cache, by_id, ({"image": x}, y)) == (
        f"`open_cache`: {by_id} is the cache of examples known by their tfds_id; these have no 'tfds_id'."
    )


def test_examples_without_ids_are_no_examples_with_ids(teacher, tmp_path):
    cache_teacher(teacher, ({"image": x[:9]}, y[:9]), tmp_path)
    assert refusal_of(open_cache, tmp_path, identified(x[:9], y[:9])) == (
        f"`open_cache`: {tmp_path} is the cache of examples known by their position; these have 'tfds_id'."
    )


def test_ids_that_the_cache_does_not_hold(by_id):
    renamed = np.where(np.arange(len(ids)) == 3, "another", ids)
    source = tf.data.Dataset.from_tensor_slices(({"image": x, "tfds_id": renamed[:COUNT]}, y))
    assert refusal_of(open_cache, by_id, source) == f"`open_cache`: {by_id}{ANOTHER}{BY_ID} The first is example 3."
    late = source.skip(4).concatenate(source.take(4))
    text = refusal_of(list, open_cache(by_id, late), kind=tf.errors.InvalidArgumentError)
    assert f"`open_cache`: {by_id}{ANOTHER}{BY_ID}" in text


def test_an_id_that_stands_for_other_inputs_is_refused(by_id):
    source = identified(*another(lambda array: swap(array, 0, 1)))
    assert refusal_of(open_cache, by_id, source) == f"`open_cache`: {by_id}{ANOTHER}{BY_ID} The first is example 0."


def test_an_id_given_to_two_examples_is_refused_when_written(teacher, tmp_path):
    source = identified(x[:40], y[:40]).concatenate(identified(x[:1], y[:1]))
    assert refusal_of(cache_teacher, teacher, source, tmp_path) == (
        "`cache_teacher`: every `tfds_id` must be unique. Two examples have the same."
    )


def test_rows_are_read_from_where_they_lie(by_place, teacher):
    """A batch of far apart examples has what the teacher says of each, in their order."""
    opened = open_cache(by_place, (x, y)).batch(COUNT)
    inputs, logits = inputs_and_logits(opened)
    order = np.array([599, 0, 256, 255, 511, 512, 1])
    np.testing.assert_allclose(logits[order], teacher(x[order]), atol=1e-6)
    np.testing.assert_array_equal(inputs[order], x[order])
