import numpy as np
import pytest
import tensorflow as tf

from keras_kd.data import mixup, pipeline, random_shift
from keras_kd.replay import WithSignals

X = np.arange(10 * 3 * 3, dtype="float32").reshape(10, 3, 3, 1) + 1
Y = np.arange(10)


def examples():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def epoch(dataset):
    batches = list(dataset.as_numpy_iterator())
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def training_pipeline(seed=0):
    return pipeline(examples(), batch_size=4, training=True, augment=random_shift(1), seed=seed)


def test_evaluation_keeps_order_and_the_last_partial_batch():
    dataset = pipeline(examples(), batch_size=4)
    assert [len(y) for _, y in dataset.as_numpy_iterator()] == [4, 4, 2]
    for _ in range(2):
        x, y = epoch(dataset)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)


def test_training_sees_every_example_once_in_a_new_order_each_epoch():
    dataset = pipeline(examples(), batch_size=4, training=True)
    orders = []
    for _ in range(2):
        x, y = epoch(dataset)
        np.testing.assert_array_equal(np.sort(y), Y)
        np.testing.assert_array_equal(x, X[y])
        orders.append(y.tolist())
    assert orders[0] != orders[1] != Y.tolist() != orders[0]


def test_two_builds_draw_the_same_epochs_and_epochs_differ():
    first, second = training_pipeline(), training_pipeline()
    epochs = [epoch(first), epoch(first)]
    for (x, y), (again_x, again_y) in zip(epochs, [epoch(second), epoch(second)], strict=True):
        np.testing.assert_array_equal(x, again_x)
        np.testing.assert_array_equal(y, again_y)
    views = [x[np.argsort(y)] for x, y in epochs]
    changed = np.mean([not np.array_equal(a, b) for a, b in zip(*views, strict=True)])
    assert changed > 0.5  # 8 of 9 shifts differ from the epoch before


def test_seed_changes_order_and_views():
    (x, y), (other_x, other_y) = epoch(training_pipeline(seed=0)), epoch(training_pipeline(seed=1))
    assert y.tolist() != other_y.tolist()
    assert not np.array_equal(x[np.argsort(y)], other_x[np.argsort(other_y)])


def test_unread_iterators_skip_epochs_as_the_docstring_says():
    straight, resumed = training_pipeline(), training_pipeline()
    epoch(straight), epoch(straight)
    for _ in range(2):
        iter(resumed)
    for expected, received in zip(epoch(straight), epoch(resumed), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_transform_runs_once_per_example_and_before_augment():
    calls = []

    def count(x):
        calls.append(1)
        return x

    def transform(x):
        return tf.ensure_shape(tf.numpy_function(count, [x * 2], tf.float32), x.shape)

    dataset = pipeline(examples(), batch_size=4, training=True, transform=transform, augment=lambda x, seed: x + 1)
    for _ in range(3):
        x, y = epoch(dataset)
        np.testing.assert_array_equal(x, X[y] * 2 + 1)
    assert len(calls) == len(X)


def test_augment_is_for_training_only_and_gets_a_new_seed_per_example():
    def seed_as_x(x, seed):
        return seed

    x, _ = epoch(pipeline(examples(), augment=seed_as_x))
    np.testing.assert_array_equal(x, X)
    seeds, _ = epoch(pipeline(examples(), training=True, augment=seed_as_x))
    assert seeds.shape == (10, 2)
    assert len(np.unique(seeds)) == 20


def test_x_alone_and_sample_weight_keep_their_form():
    double = {"transform": lambda x: x * 2, "training": True, "augment": lambda x, seed: x + 1}
    alone = pipeline(tf.data.Dataset.from_tensor_slices(X), **double)
    assert alone.element_spec == tf.TensorSpec((None, 3, 3, 1), tf.float32)
    x = next(alone.as_numpy_iterator())
    np.testing.assert_array_equal(np.sort(x.ravel()), np.sort((X * 2 + 1).ravel()))

    weighted = pipeline(tf.data.Dataset.from_tensor_slices((X, Y, Y / 10)), **double)
    x, y, weight = next(weighted.as_numpy_iterator())
    np.testing.assert_array_equal(x, X[y] * 2 + 1)
    np.testing.assert_array_equal(weight, y / 10)


def test_x_may_be_a_dict():
    dataset = tf.data.Dataset.from_tensor_slices(({"image": X, "index": Y}, Y))
    batches = pipeline(dataset, transform=lambda x: {**x, "image": x["image"] / 2})
    x, _ = next(batches.as_numpy_iterator())
    np.testing.assert_array_equal(x["image"], X / 2)
    np.testing.assert_array_equal(x["index"], Y)


def test_unknown_cardinality_is_shuffled_whole():
    dataset = examples().filter(lambda x, y: True)
    assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    first_places = set()
    for seed in range(12):
        _, y = epoch(pipeline(dataset, training=True, seed=seed))
        np.testing.assert_array_equal(np.sort(y), Y)
        first_places.add(int(y[0]))
    assert len(first_places) > 4


def test_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match=r"`pipeline`: `batch_size` must be at least 1. Received: batch_size=0\."):
        pipeline(examples(), batch_size=0)


def test_mixup_mixes_examples_and_their_labels_alike():
    x = np.eye(4, dtype="float32")[:, None, None] * np.ones((4, 2, 2, 4), "float32")  # an image that shows its class
    source = tf.data.Dataset.from_tensor_slices((x, np.arange(4)))
    data = pipeline(source, batch_size=4, training=True, augment=mixup(alpha=1.0, num_classes=4))
    for images, labels in data:
        np.testing.assert_allclose(images.numpy().mean((1, 2)), labels, atol=1e-6)
        assert (np.sort(labels, axis=1)[:, -2] > 0).any()


def test_the_data_of_a_cache_are_refused_for_their_views_would_stand_still():
    cached = WithSignals(np.zeros((4, 2)), {"key": {"logits": np.zeros((4, 3))}})
    source = tf.data.Dataset.from_tensor_slices((cached, [0] * 4))
    with pytest.raises(ValueError, match=r"`pipeline`: it would hold on to one view .* Shuffle and batch that itself"):
        pipeline(source)
