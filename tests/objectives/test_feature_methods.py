import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from keras_kd import objectives as o
from keras_kd.signals import Signals
from tests.losses.cases import features as f
from tests.losses.cases import relations as r

RNG = np.random.default_rng(0)
GRID, WIDE = (4, 3, 3, 2), (4, 3, 3, 5)


def draw(*shapes):
    return [RNG.normal(size=shape).astype("float32") for shape in shapes]


def heard(teacher, student):
    taps = [feature if isinstance(feature, dict) else {"t": feature} for feature in (teacher, student)]
    return tuple(Signals.of(None, [], one) for one in taps)


def values(objective, teacher, student, training=False):
    signals = heard(teacher, student)
    objective.prepare(*signals)
    (value,) = objective.values(*signals, temperature=4.0, training=training).values()
    return value


def relational(teacher, student, distance_weight=25.0, angle_weight=50.0):
    return distance_weight * r.relational_distance(teacher, student) + angle_weight * r.relational_angle(
        teacher, student
    )


# What the objective is, its oracle, whether channels may differ.
PLAIN = {
    "Hint": (o.Hint, {}, f.hint, False),
    "AttentionTransfer": (o.AttentionTransfer, {}, f.attention_transfer, True),
    "AttentionTransfer, p": (o.AttentionTransfer, {"p": 1}, f.attention_transfer, True),
    "ChannelWise": (o.ChannelWise, {}, f.channel_wise, False),
    "ChannelWise, T": (o.ChannelWise, {"temperature": 4.0}, f.channel_wise, False),
    "NeuronSelectivity": (o.NeuronSelectivity, {}, f.neuron_selectivity, True),
    "InterChannelCorrelation": (o.InterChannelCorrelation, {}, f.inter_channel_correlation, False),
    "ActivationBoundary": (o.ActivationBoundary, {}, f.activation_boundary, False),
    "ActivationBoundary, margin": (o.ActivationBoundary, {"margin": 0.5}, f.activation_boundary, False),
    "SimilarityPreserving": (o.SimilarityPreserving, {}, r.similarity_preserving, True),
    "Relational": (o.Relational, {}, relational, True),
    "Relational, weights": (o.Relational, {"distance_weight": 1.0, "angle_weight": 0.0}, relational, True),
    "ProbabilisticTransfer": (o.ProbabilisticTransfer, {}, r.probabilistic_transfer, True),
    "CorrelationCongruence": (o.CorrelationCongruence, {}, r.correlation_congruence, True),
    "CorrelationCongruence, arguments": (
        o.CorrelationCongruence,
        {"gamma": 0.8, "order": 3},
        r.correlation_congruence,
        True,
    ),
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("projector", ["auto", None])
def test_the_objective_is_its_loss_where_features_fit(name, projector):
    cls, arguments, oracle, channels_differ = PLAIN[name]
    teacher, student = draw(WIDE if channels_differ else GRID, GRID)
    objective = cls("t", "t", projector=projector, **arguments)
    expected = oracle(np.float64(teacher), np.float64(student), **arguments)
    np.testing.assert_allclose(values(objective, teacher, student), expected, rtol=2e-4, atol=1e-5)
    assert objective.trainable_weights == []


@pytest.mark.parametrize("name", PLAIN)
def test_padding_of_a_sequence_has_no_say(name):
    cls, arguments, oracle, channels_differ = PLAIN[name]
    teacher, student = draw((4, 5, 3 if channels_differ else 2), (4, 5, 2))
    expected = oracle(np.float64(teacher[:, :3]), np.float64(student[:, :3]), **arguments)
    teacher[:, 3:], student[:, 3:] = 9.0, -9.0
    student = tf.constant(student)
    student._keras_mask = tf.constant(np.broadcast_to(np.arange(5) < 3, (4, 5)))
    value = values(cls("t", "t", **arguments), teacher, student)
    if cls is o.Hint:
        np.testing.assert_array_equal(value._keras_mask, student._keras_mask)
        value = value[:, :3]
    np.testing.assert_allclose(value, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_grids_with_channels_first_are_the_same(name):
    cls, arguments, oracle, channels_differ = PLAIN[name]
    teacher, student = draw(WIDE if channels_differ else GRID, GRID)
    expected = oracle(np.float64(teacher), np.float64(student), **arguments)
    keras.config.set_image_data_format("channels_first")
    try:
        first = (np.moveaxis(feature, -1, 1) for feature in (teacher, student))
        np.testing.assert_allclose(values(cls("t", "t", **arguments), *first), expected, rtol=2e-4, atol=1e-5)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("cls", [o.AttentionTransfer, o.NeuronSelectivity])
def test_maps_of_another_size_are_brought_to_the_teachers_without_weights(cls):
    teacher, student = draw((4, 2, 2, 5), (4, 4, 4, 3))
    objective = cls("t", "t")
    value = values(objective, teacher, student)
    pooled = np.float64(student).reshape(4, 2, 2, 2, 2, 3).mean((2, 4))
    oracle = {o.AttentionTransfer: f.attention_transfer, o.NeuronSelectivity: f.neuron_selectivity}[cls]
    np.testing.assert_allclose(value, oracle(np.float64(teacher), pooled), rtol=1e-4, atol=1e-6)
    assert objective.weights == [objective.weight]


def test_a_layer_given_to_a_relation_embeds_the_student():
    teacher, student = draw((5, 6), (5, 4))
    layer = keras.layers.Dense(3, use_bias=False)
    objective = o.SimilarityPreserving("t", "t", projector=layer)
    value = values(objective, teacher, student)
    expected = r.similarity_preserving(np.float64(teacher), np.float64(student @ layer.kernel.numpy()))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    assert objective.trainable_weights == [layer.kernel]


def test_flow_of_solution_compares_two_layers_of_each_model():
    features = draw((3, 4, 4, 2), (3, 2, 2, 3), (3, 6, 6, 2), (3, 3, 3, 3))
    objective = o.FlowOfSolution(["a", "b"], ["c", "d"])
    value = values(objective, dict(zip("ab", features[:2], strict=True)), dict(zip("cd", features[2:], strict=True)))
    np.testing.assert_allclose(value, f.flow_of_solution(features[:2], features[2:]), rtol=1e-4)
    assert objective.trainable_weights == []


def test_flow_of_solution_projects_channels_alone():
    features = draw((3, 4, 4, 4), (3, 2, 2, 5), (3, 6, 6, 2), (3, 3, 3, 3))
    objective = o.FlowOfSolution(["a", "b"], ["c", "d"])
    value = values(objective, dict(zip("ab", features[:2], strict=True)), dict(zip("cd", features[2:], strict=True)))
    fitted = [
        np.asarray(projector(feature)) for projector, feature in zip(objective.projectors, features[2:], strict=True)
    ]
    assert [feature.shape for feature in fitted] == [(3, 6, 6, 4), (3, 3, 3, 5)]
    np.testing.assert_allclose(value, f.flow_of_solution(features[:2], fitted), rtol=1e-4)


def test_padding_has_no_say_in_the_flow_between_sequences_of_one_length():
    features = draw((3, 5, 2), (3, 5, 3), (3, 5, 2), (3, 5, 3))
    expected = f.flow_of_solution(*([feature[:, :4] for feature in pair] for pair in (features[:2], features[2:])))
    for feature in features:
        feature[:, 4:] = 9.0
    student = [tf.constant(feature) for feature in features[2:]]
    student[0]._keras_mask = tf.constant(np.broadcast_to(np.arange(5) < 4, (3, 5)))
    objective = o.FlowOfSolution(["a", "b"], ["a", "b"])
    value = values(objective, dict(zip("ab", features[:2], strict=True)), dict(zip("ab", student, strict=True)))
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_variational_information_learns_a_variance_for_each_channel():
    teacher, student = draw(GRID, GRID)
    objective = o.VariationalInformation("t", "t", variance=2.0, projector=None)
    value = values(objective, teacher, student)
    np.testing.assert_allclose(value, f.variational_information(teacher, student, variance=np.full(2, 2.0)), rtol=1e-5)
    objective.raw_variance.assign([0.0, 1.0])
    learnt = np.log1p(np.exp([0.0, 1.0])) + 1e-5
    expected = f.variational_information(teacher, student, variance=learnt)
    np.testing.assert_allclose(values(objective, teacher, student), expected, rtol=1e-5)
    assert objective.trainable_weights == [objective.raw_variance]


def test_variational_information_predicts_by_three_pointwise_layers():
    teacher, student = draw(WIDE, GRID)
    objective = o.VariationalInformation("t", "t")
    value = values(objective, teacher, student)
    first, second, third = objective.projector.layers[-3:]
    mean = np.maximum(student @ first.kernel.numpy(), 0.0)
    mean = np.maximum(mean @ second.kernel.numpy(), 0.0) @ third.kernel.numpy()
    np.testing.assert_allclose(value, f.variational_information(teacher, mean, variance=np.full(5, 5.0)), rtol=1e-4)
    assert len(objective.trainable_weights) == 7


def test_overhaul_has_the_margin_of_all_negative_responses_so_far():
    batches = [draw(GRID, GRID) for _ in range(2)]
    objective = o.Overhaul("t", "t")
    for teacher, student in batches:
        value = values(objective, teacher, student, training=True)
    every = np.concatenate([teacher for teacher, _ in batches]).reshape(-1, 2)
    margin = [column[column < 0].mean() for column in every.T]
    np.testing.assert_allclose(value, f.overhaul(*map(np.float64, batches[-1]), margin=margin), rtol=1e-4)
    again = values(objective, *batches[0], training=False)
    np.testing.assert_allclose(again, f.overhaul(*map(np.float64, batches[0]), margin=margin), rtol=1e-4)


def test_factor_transfer_is_the_distance_of_factors_plus_the_error_of_the_paraphrase():
    teacher, student = draw((4, 6), (4, 3))
    objective = o.FactorTransfer("t", "t", rate=0.5)
    value = values(objective, teacher, student)
    factor = np.asarray(objective.paraphraser(teacher))
    assert factor.shape == (4, 3)
    distance = f.factor_transfer(np.float64(factor), np.float64(objective.projector(student)))
    error = np.mean((teacher - np.asarray(objective.reconstruction(factor))) ** 2, -1)
    np.testing.assert_allclose(value, distance + error, rtol=1e-4)


def test_the_paraphraser_learns_from_its_own_error_alone():
    teacher, student = draw((4, 2, 2, 6), (4, 4, 4, 3))
    objective = o.FactorTransfer("t", "t")
    values(objective, teacher, student)
    paraphraser = [weight.value for weight in objective.paraphraser.trainable_weights]
    with tf.GradientTape(persistent=True) as tape:
        total = tf.reduce_sum(values(objective, teacher, student))
        restored = objective.reconstruction(objective.paraphraser(teacher))
        error = tf.reduce_sum(tf.reduce_mean((teacher - restored) ** 2, (1, 2, 3)))
    for by_total, by_error in zip(tape.gradient(total, paraphraser), tape.gradient(error, paraphraser), strict=True):
        np.testing.assert_allclose(by_total, by_error, rtol=1e-4, atol=1e-6)
    translator = tape.gradient(total, objective.projector.trainable_weights[0].value)
    assert np.abs(translator).max() > 0


def embedded(objective, teacher, student):
    layers = objective.teacher_embedding.layers[-1], objective.projector.layers[-1]
    pairs = zip((teacher, student), layers, strict=True)
    rows = [feature.reshape(len(feature), -1) @ layer.kernel.numpy() for feature, layer in pairs]
    return [row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows]


def test_contrastive_compares_embeddings_in_both_directions():
    teacher, student = draw((4, 2, 3), (4, 5))
    objective = o.Contrastive("t", "t", dim=3, temperature=0.5)
    value = values(objective, teacher, student)
    t, s = embedded(objective, teacher, student)
    expected = r.contrastive(t, s, temperature=0.5) + r.contrastive(s, t, temperature=0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert len(objective.trainable_weights) == 4


def test_contrastive_draws_more_negatives_from_a_queue():
    objective = o.Contrastive("t", "t", dim=3, temperature=0.5, bank_size=6, dataset_size=50)
    batches = [draw((4, 5), (4, 5)) for _ in range(3)]
    for batch in batches[:2]:
        values(objective, *batch, training=True)
    latest, before = (embedded(objective, *batch) for batch in reversed(batches[:2]))
    for bank, rows, earlier in zip(objective.banks, latest, before, strict=True):
        np.testing.assert_allclose(bank, np.concatenate([rows, earlier])[:6], rtol=1e-4, atol=1e-6)
    banks = [np.array(bank) for bank in objective.banks]
    value = values(objective, *batches[2], training=False)
    t, s = embedded(objective, *batches[2])
    more = {"temperature": 0.5, "dataset_size": 50}
    expected = r.contrastive(t, s, negatives=banks[0], **more) + r.contrastive(s, t, negatives=banks[1], **more)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_array_equal(objective.banks[0], banks[0])


def convolved(layer, feature, size):
    """A convolution of odd size with zeros around the grid, and its BatchNorm at rest."""
    kernel = layer.layers[-2].kernel.numpy()
    margin = size // 2
    padded = np.pad(feature, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = feature.shape[1:3]
    total = sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(size) for j in range(size))
    return total / np.sqrt(1 + 1e-3)


def test_review_lets_deeper_features_flow_back():
    teacher = dict(zip("ab", draw((2, 4, 4, 3), (2, 2, 2, 5)), strict=True))
    student = dict(zip("ab", draw((2, 4, 4, 2), (2, 2, 2, 4)), strict=True))
    objective = o.Review(["a", "b"], ["a", "b"])
    value = values(objective, teacher, student)

    deep = convolved(objective.reduce[1], student["b"], 1)
    expected = f.hierarchical_context(teacher["b"], convolved(objective.expand[1], deep, 3))
    own, larger = convolved(objective.reduce[0], student["a"], 1), deep.repeat(2, 1).repeat(2, 2)
    attend = objective.attend[0]
    attention = expit(np.concatenate([own, larger], -1) @ attend.kernel.numpy()[0, 0] + attend.bias.numpy())
    fused = own * attention[..., :1] + larger * attention[..., 1:]
    expected = expected + f.hierarchical_context(teacher["a"], convolved(objective.expand[0], fused, 3))
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_review_has_the_width_it_is_told():
    shapes = [(None, 4, 4, 3)], [(None, 4, 4, 2)]
    narrow, own = o.Review(["a"], ["a"], channels=7), o.Review(["a"], ["a"])
    narrow.build(*shapes)
    own.build(*shapes)
    assert narrow.reduce[0].layers[-2].kernel.shape == (1, 1, 2, 7)
    assert own.reduce[0].layers[-2].kernel.shape == (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: o.AttentionTransfer("t", "t", p=0.5),
            "`AttentionTransfer`: `p` must be >= 1. Received: p=0.5.",
        ),
        (
            lambda: o.ChannelWise("t", "t", temperature=0),
            "`ChannelWise`: `temperature` must be > 0. Received: temperature=0.",
        ),
        (
            lambda: o.Relational("t", "t", angle_weight=-1),
            "`Relational`: `angle_weight` must be >= 0. Received: angle_weight=-1.",
        ),
        (
            lambda: o.FlowOfSolution("a", ["a", "b"]),
            "`FlowOfSolution`: `teacher_tap` and `student_tap` must be two taps each. Received: ['a'], ['a', 'b'].",
        ),
        (
            lambda: o.FlowOfSolution(["a", "b"], ["a", "b"], projector="dense"),
            "`FlowOfSolution`: `projector` must be 'auto' or None. Received: 'dense'.",
        ),
        (
            lambda: o.FlowOfSolution(["a", "b"], ["a", "b"], projector=None).build(
                [(2, 4, 4, 3)] * 2, [(2, 4, 4, 2)] * 2
            ),
            "`FlowOfSolution`: teacher and student must have as many channels at their taps. Received: teacher "
            "(2, 4, 4, 3), student (2, 4, 4, 2). Use `projector='auto'`.",
        ),
        (
            lambda: o.Review(["a", "b"], ["a"]),
            "`Review`: `teacher_tap` and `student_tap` must be as many. Received: ['a', 'b'], ['a'].",
        ),
        (
            lambda: o.Review(["a"], ["b"]).build([(2, 4, 4, 3)], [(2, None, None, 2)]),
            "`Review`: the feature 'b' must be a grid of known size, (batch, height, width, channels). Received: "
            "(2, None, None, 2).",
        ),
        (
            lambda: o.Contrastive("t", "t", projector=None),
            "`Contrastive`: `projector` must be 'auto' or a Keras layer. Received: None.",
        ),
        (
            lambda: values(o.Contrastive("t", "t", dim=3, projector=keras.layers.Dense(4)), *draw((2, 5), (2, 5))),
            "`Contrastive`: the student feature 't' must have the channels of the teacher feature 't', (None, 3). "
            "Received: (2, 4). Use `projector='auto'`.",
        ),
        (
            lambda: o.SimilarityPreserving("t", "s").build([(None, 4)], [(None, None, 4)]),
            "`SimilarityPreserving`: the feature 's' must have a known shape, to be made a vector. Received: "
            "(None, None, 4). Tap it after pooling, as in 'head:input'.",
        ),
        (
            lambda: values(o.AttentionTransfer("t", "t", projector=None), *draw((2, 4, 4, 1), (2, 2, 2, 1))),
            "`AttentionTransfer`: the student feature 't' must have the places of the teacher feature 't', "
            "(2, 4, 4, 1). Received: (2, 2, 2, 1). Use `projector='auto'`.",
        ),
        (
            lambda: o.VariationalInformation("t", "t", variance=0),
            "`VariationalInformation`: `variance` must be > 1e-05. Received: variance=0.",
        ),
        (lambda: o.FactorTransfer("t", "t", rate=0), "`FactorTransfer`: `rate` must be > 0. Received: rate=0."),
        (lambda: o.SimKD("t", "t", reduction=0.5), "`SimKD`: `reduction` must be >= 1. Received: reduction=0.5."),
    ],
)
def test_errors_say_what_was_expected(make, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()
