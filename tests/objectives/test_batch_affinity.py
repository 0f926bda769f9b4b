"""An objective between the matches that teacher and student make of the two modalities of a batch."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.objectives import BatchAffinity
from keras_kd.signals import Signals
from tests.losses.cases import embeddings as formulas

RNG = np.random.default_rng(0)
IMAGES, TEXTS = RNG.normal(size=(2, 5, 7)).astype("float32")
SMALL_IMAGES, SMALL_TEXTS = RNG.normal(size=(2, 5, 3)).astype("float32")
TEACHER = Signals.of(None, [], {"image": IMAGES, "text": TEXTS})
TWO = (["image", "text"], ["image", "text"])


def batch_affinity(teacher_pair, student_pair, *temperatures, **named):
    return formulas.batch_affinity(np.float64(teacher_pair), np.float64(student_pair), *temperatures, **named)


def student(**taps):
    return Signals.of(None, [], {"image": SMALL_IMAGES, "text": SMALL_TEXTS, **taps})


def values(objective, learnt=None):
    signals = TEACHER, learnt or student()
    objective.prepare(*signals)
    (value,) = objective.values(*signals, temperature=4.0).values()
    return value


@pytest.mark.parametrize("temperatures", [{}, {"teacher_temperature": 0.2, "student_temperature": 0.6}])
def test_two_taps_are_the_two_modalities_of_each_model(temperatures):
    objective = BatchAffinity(*TWO, **temperatures)
    expected = batch_affinity((IMAGES, TEXTS), (SMALL_IMAGES, SMALL_TEXTS), **temperatures)
    np.testing.assert_allclose(values(objective), expected, rtol=1e-4)
    assert objective.trainable_weights == []


@pytest.mark.parametrize(
    ("taps", "pairs"),
    [
        (("image", "text"), ((IMAGES, IMAGES), (SMALL_TEXTS, SMALL_TEXTS))),
        ((["image", "text"], "image"), ((IMAGES, TEXTS), (SMALL_IMAGES, SMALL_IMAGES))),
    ],
)
def test_a_single_tap_is_matched_with_itself(taps, pairs):
    value = values(BatchAffinity(*taps, teacher_temperature=0.5, student_temperature=0.5))
    np.testing.assert_allclose(value, batch_affinity(*pairs, 0.5, 0.5), rtol=1e-4, atol=1e-6)


def test_an_example_without_one_of_the_modalities_has_no_part_in_the_batch():
    no_image, no_text = np.array([1, 1, 0, 1, 1], bool), np.array([1, 0, 1, 1, 1], bool)
    taps = {"image": tf.constant(SMALL_IMAGES), "text": tf.constant(SMALL_TEXTS)}
    taps["image"]._keras_mask, taps["text"]._keras_mask = tf.constant(no_image), tf.constant(no_text)
    value = values(BatchAffinity(*TWO, teacher_temperature=0.5, student_temperature=0.5), student(**taps))
    keep = no_image & no_text
    pairs = (np.array([one[keep] for one in pair]) for pair in ((IMAGES, TEXTS), (SMALL_IMAGES, SMALL_TEXTS)))
    np.testing.assert_allclose(np.asarray(value)[keep], batch_affinity(*pairs, 0.5, 0.5), rtol=1e-5)
    np.testing.assert_array_equal(value._keras_mask, keep)


def embeddings(width, seed):
    """Two modalities, made embeddings by a layer each; zeros are a missing one."""
    keras.utils.set_random_seed(seed)
    inputs = {name: keras.Input((6,), name=name) for name in ("image", "text")}
    present = {name: keras.layers.Masking(name=f"{name}_masking")(one) for name, one in inputs.items()}
    embedded = [keras.layers.Dense(width, name=f"{name}_embedding")(one) for name, one in present.items()]
    outputs = keras.layers.Dense(2, name="head")(keras.layers.Concatenate()(embedded))
    return keras.Model(inputs, outputs)


def test_a_student_that_masks_missing_modalities_learns_from_the_others():
    x = dict(zip(("image", "text"), RNG.normal(size=(2, 8, 6)).astype("float32"), strict=True))
    x["text"][[1, 4]] = 0.0
    keep = np.array([0, 2, 3, 5, 6, 7])
    teacher, learner = embeddings(9, 1), embeddings(4, 2)
    taps = ["image_embedding", "text_embedding"]
    objective = BatchAffinity(taps, taps, teacher_temperature=0.3, student_temperature=0.3)
    distiller = kd.Distiller(learner, teacher, objective, alpha=0.0)
    distiller.compile(keras.optimizers.SGD(0.0))
    logged = distiller.train_on_batch(x, return_dict=True)
    pairs = (
        [
            x[name][keep] @ model.get_layer(f"{name}_embedding").kernel.numpy().astype("float64")
            for name in ("image", "text")
        ]
        for model in (teacher, learner)
    )
    np.testing.assert_allclose(logged["batch_affinity"], batch_affinity(*pairs, 0.3, 0.3).mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            (["a", "b", "c"], "d"),
            "`BatchAffinity`: `teacher_tap` and `student_tap` must be one tap or two each. Received: "
            "['a', 'b', 'c'], ['d'].",
        ),
        (
            ("a", []),
            "`BatchAffinity`: `teacher_tap` and `student_tap` must be one tap or two each. Received: ['a'], [].",
        ),
    ],
)
def test_other_numbers_of_taps_are_refused(arguments, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        BatchAffinity(*arguments)


@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), "cold"])
def test_temperatures_out_of_range_are_refused(side, temperature):
    text = f"`BatchAffinity`: `{side}_temperature` must be > 0. Received: {side}_temperature={temperature!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        BatchAffinity("a", "b", **{f"{side}_temperature": temperature})


@pytest.mark.parametrize(
    ("taps", "heard"),
    [
        ({"text": np.zeros((5, 4))}, "'image' (5, 3), 'text' (5, 4)"),
        ({"image": np.zeros((5, 2, 3))}, "'image' (5, 2, 3), 'text' (5, 3)"),
    ],
)
def test_taps_that_are_no_embeddings_of_one_width_are_refused(taps, heard):
    text = (
        f"`BatchAffinity`: the student's taps must be embeddings (batch, width) of one width. Received: {heard}. "
        "Tap them after pooling and projection, where the modalities are compared."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        values(BatchAffinity(*TWO), student(**taps))
