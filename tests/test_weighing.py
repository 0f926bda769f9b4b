import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.weighing import Weighing, by_output, kept, mask_of, mean_of, weighted_mean, with_mask_of

RNG = np.random.default_rng(0)
TRUE, PRED = RNG.normal(size=(2, 4, 3, 2, 5)).astype("float32")
WEIGHTS = RNG.uniform(0, 2, size=(4, 3)).astype("float32")
MASK = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)


def of_rank(rank):
    """Labels and predictions whose loss has this rank, and the loss's values."""
    true, pred = (x[(slice(None),) * rank + (0,) * (3 - rank)] for x in (TRUE, PRED))
    return true, pred, ((np.float64(true) - pred) ** 2).mean(-1)


def spread(weights, rank):
    """What Keras takes unambiguously: weights with all the axes of the values."""
    weights = weights if weights.ndim <= rank else weights.mean(tuple(range(rank, weights.ndim)))
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (rank - weights.ndim)), (4, 3, 2)[:rank])


def masked(values, mask):
    tensor = tf.constant(values, "float32")
    tensor._keras_mask = tf.constant(mask)
    return tensor


def keras_says(true, pred, mask=None, weights=None):
    return keras.losses.MeanSquaredError()(true, pred if mask is None else masked(pred, mask), weights)


@pytest.mark.parametrize("weights", [None, WEIGHTS[:, 0], WEIGHTS], ids=["none", "rank1", "rank2"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_weighs_as_keras_does(rank, weights):
    true, pred, values = of_rank(rank)
    full = None if weights is None else spread(weights, rank)
    result = weighted_mean(tf.constant(values), weights)
    np.testing.assert_allclose(result, (values * (1.0 if full is None else full)).mean(), rtol=1e-5)
    np.testing.assert_allclose(result, keras_says(true, pred, weights=full), rtol=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS[:, 0], WEIGHTS], ids=["none", "rank1", "rank2"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_masks_as_keras_does(rank, weights):
    true, pred, values = of_rank(rank)
    source = masked(pred, MASK[:, 0] if rank == 1 else MASK)
    mask = spread((MASK[:, 0] if rank == 1 else MASK).astype(float), rank).astype(bool)
    full = np.ones(values.shape) if weights is None else spread(weights, rank)
    result = weighted_mean(with_mask_of(source, tf.constant(values, "float32")), weights)
    np.testing.assert_allclose(result, (values * full)[mask].sum() / mask.sum(), rtol=1e-5)
    np.testing.assert_allclose(result, keras_says(true, pred, mask, full), rtol=1e-5)


def test_a_mask_of_more_axes_keeps_an_example_that_has_any_place():
    values = tf.constant([1.0, 2.0, 3.0, 4.0])
    assert float(weighted_mean(with_mask_of(masked(PRED[..., 0, 0], MASK), values))) == 2.0


def test_nothing_kept_is_zero():
    values = with_mask_of(masked(PRED[:, 0, 0, 0], np.zeros(4, bool)), tf.ones(4))
    assert float(weighted_mean(values)) == 0.0


@pytest.mark.parametrize("dtype", ["int32", "float16", "float64", "bool"])
def test_weights_of_any_dtype_give_float32(dtype):
    result = weighted_mean(tf.constant([1.0, 3.0]), np.array([0, 1]).astype(dtype))
    assert result.dtype == tf.float32
    assert float(result) == 1.5


def test_weighs_alike_in_a_graph():
    values = tf.constant(of_rank(2)[2], "float32")

    @tf.function(input_signature=[tf.TensorSpec((None, None)), tf.TensorSpec(()), tf.TensorSpec((None, None))])
    def traced(values, scale, weights):
        return scale * weighted_mean(values, weights)

    np.testing.assert_allclose(traced(values, 2.0, WEIGHTS), 2 * np.mean(values * WEIGHTS), rtol=1e-5)


def test_a_mask_travels_and_its_absence_too():
    values = tf.ones((4, 3))
    assert mask_of(with_mask_of(tf.ones((4, 3)), values)) is None
    np.testing.assert_array_equal(mask_of(with_mask_of(masked(PRED[..., 0, 0], MASK), values)), MASK)


def test_kept_is_ones_where_the_mask_keeps():
    assert kept(tf.ones((4, 3)), None) is None
    np.testing.assert_array_equal(kept(tf.ones((4, 3, 2)), MASK), np.repeat(MASK[..., None], 2, -1).astype("float32"))
    np.testing.assert_array_equal(kept(tf.ones(4), MASK), [1, 1, 1, 0])


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        (None, {"a": None, "b": None}),
        (7, {"a": 7, "b": 7}),
        ({"b": 2, "a": 1}, {"a": 1, "b": 2}),
        ({"b": 2}, {"a": None, "b": 2}),
        ([1, 2], {"a": 1, "b": 2}),
        ((1, None), {"a": 1, "b": None}),
        ([7], {"a": 7, "b": 7}),
    ],
)
def test_by_output(structure, expected):
    assert by_output(structure, ["a", "b"]) == expected


def test_mean_of_is_the_mean_over_the_outputs():
    one, two = tf.constant([1.0, 2.0]), tf.constant([[1.0, 3.0], [4.0, 8.0]])
    assert mean_of({"a": None, "b": None}) is None
    assert mean_of({"a": one, "b": one}) is one
    np.testing.assert_allclose(mean_of({"a": one, "b": two}), [1.5, 4.0])
    np.testing.assert_allclose(mean_of({"a": tf.constant([1, 2]), "b": tf.constant([3, 6])}), [2.0, 4.0])


A, B, C = np.random.default_rng(1).uniform(size=(3, 4))
W, V = np.array([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.0, 4.0]])


@pytest.mark.parametrize(
    ("sample_weight", "loss_weights", "expected"),
    [
        (None, None, A.mean() + B.mean() + C.mean()),
        (W, None, (A * W).mean() + (B * W).mean() + (C * W).mean()),
        ({"a": W, "b": V}, None, (A * W).mean() + (B * V).mean() + (C * (W + V) / 2).mean()),
        ([W, V], [0.5, 0.0], 0.5 * (A * W).mean() + (C * (W + V) / 2).mean()),
        (None, {"b": 3.0}, A.mean() + 3.0 * B.mean() + C.mean()),
        (V, 2.0, 2 * (A * V).mean() + 2 * (B * V).mean() + (C * V).mean()),
    ],
)
def test_values_count_as_their_outputs_do(sample_weight, loss_weights, expected):
    weighing = Weighing({"b": 2, "a": 1}, sample_weight, loss_weights, ["a", "b"])
    values = {"a": tf.constant(A, "float32"), "b": tf.constant(B, "float32"), None: tf.constant(C, "float32")}
    np.testing.assert_allclose(weighing(values), expected, rtol=1e-5)
    assert weighing.labels == {"a": 1, "b": 2}
