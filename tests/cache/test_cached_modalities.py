"""Caches of teachers that see several modalities, some of them missing, and of ensembles that weigh them."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from keras_kd.cache.fingerprints import teacher_fingerprint
from tests.cache.caching import batched, check_replayed_exactly, refusal_of
from tests.distiller.small_models import answers, mlp

RNG = np.random.default_rng(0)
COUNT = 18
X = {
    "image": RNG.normal(size=(COUNT, 4)).astype("float32"),
    "audio": RNG.normal(size=(COUNT, 6)).astype("float32"),
    "text": RNG.integers(1, 9, (COUNT, 3)).astype("int32"),
    "image_present": np.ones(COUNT, bool),
    "audio_present": np.arange(COUNT) % 3 != 1,
    "text_present": np.arange(COUNT) % 4 != 2,
}
X["audio"][~X["audio_present"]] = 0.0
X["text"][~X["text_present"]] = 0
Y = RNG.integers(0, 3, COUNT)
DATA = batched((X, Y))


def seeing_all(seed=1):
    """Sees the three modalities and which of them are there."""
    keras.utils.set_random_seed(seed)
    inputs = {name: keras.Input(array.shape[1:], name=name, dtype=array.dtype.name) for name, array in X.items()}
    seen = {
        "image": inputs["image"],
        "audio": inputs["audio"],
        "text": keras.layers.Flatten()(keras.layers.Embedding(9, 2)(inputs["text"])),
    }
    branches = [
        keras.layers.Dense(5, "tanh")(one) * ops.cast(inputs[f"{name}_present"], "float32")[:, None]
        for name, one in seen.items()
    ]
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()(branches)))


def unimodal(weights):
    members = [kd.Teacher(mlp(8, seed=3), inputs=["image"]), kd.Teacher(mlp(7, seed=4, features=6), inputs=["audio"])]
    return kd.Ensemble(members, weights)


def where_present(x):
    return ops.stack([x["image_present"], x["audio_present"]], axis=-1)


TEACHERS = {
    "all modalities": seeing_all,
    "by class": lambda: unimodal([[3.0, 1.0, 0.0], [1.0, 1.0, 2.0]]),
    "by example": lambda: unimodal(where_present),
}


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("name", TEACHERS)
def test_a_student_of_one_modality_learns_from_the_cache_what_it_learns_live(name, labels, tmp_path):
    data, alpha = (DATA, 0.3) if labels else (batched(X), 0.0)
    check_replayed_exactly(tmp_path, TEACHERS[name](), data, student_inputs=["image"], alpha=alpha)


def test_a_student_of_all_modalities_learns_from_the_cache_what_it_learns_live(tmp_path):
    check_replayed_exactly(tmp_path, unimodal(where_present), DATA, lambda: seeing_all(seed=7))


def test_what_is_kept_of_an_example_is_said_by_those_who_see_it(tmp_path):
    ensemble = unimodal(where_present)
    cache_teacher(ensemble, X, tmp_path, dtype="float32", temperature=1.0, verbose=0)
    (kept,) = (batch[0] for batch in open_cache(tmp_path, X).batch(COUNT).map(lambda x: (x,)))
    said = kept.heard().logits(1.0)["output_0"].numpy()
    image, audio = (
        answers(member.model, X[name]) for member, name in zip(ensemble.members, ("image", "audio"), strict=True)
    )
    alone = ~X["audio_present"]
    log_softmax = [np.float64(one) - np.log(np.exp(np.float64(one)).sum(1, keepdims=True)) for one in (image, audio)]
    np.testing.assert_allclose(said[alone], log_softmax[0][alone], rtol=1e-5, atol=1e-5)
    both = np.log(np.exp(log_softmax).mean(0))
    np.testing.assert_allclose(said[~alone], both[~alone], rtol=1e-5, atol=1e-5)


def test_weights_have_a_say_in_what_a_cache_is_of():
    by_class = [
        [[3.0, 1.0, 0.0], [1.0, 1.0, 2.0]],
        [[6.0, 1.0, 0.0], [2.0, 1.0, 1.0]],
        [[1.0, 1.0, 0.0], [1.0, 1.0, 2.0]],
    ]
    one, scaled, another = (teacher_fingerprint(unimodal(weights)) for weights in by_class)
    assert scaled == one
    assert another != one
    assert teacher_fingerprint(unimodal(None)) not in (one, another)


def test_a_function_that_weighs_otherwise_is_told_from_the_one_before(tmp_path):
    cache = cache_teacher(unimodal(where_present), DATA, tmp_path, verbose=0)
    again = cache_teacher(unimodal(lambda x: 2.0 * ops.cast(where_present(x), "float32")), DATA, tmp_path, verbose=0)
    assert again.teacher == cache.teacher
    refusal = refusal_of(cache_teacher, unimodal(lambda x: ops.ones_like(where_present(x))), DATA, tmp_path, verbose=0)
    expected = re.escape(f"`cache_teacher`: {tmp_path} holds a cache of another teacher: fingerprint ")
    expected += r"[0-9a-f]{8}…, not fingerprint [0-9a-f]{8}…\. Choose another folder\."
    assert re.fullmatch(expected, refusal)


@pytest.mark.parametrize("place", [4, 16])
def test_an_example_that_nobody_speaks_of_is_named(place, tmp_path):
    nobody = {**X, "image_present": np.arange(COUNT) != place}
    ensemble = unimodal(where_present)
    assert refusal_of(cache_teacher, ensemble, nobody, tmp_path, verbose=0) == (
        f"`cache_teacher`: the teacher `{ensemble.name}` gave NaN, infinity or more than 3.403e+38 in 'output_0' for "
        f"example {place}. What was written before is kept."
    )
