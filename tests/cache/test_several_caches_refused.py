"""Caches that are refused where they are opened together, and whose fault it is said to be."""

import re

import keras
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from tests.cache.caching import identified, lifted, refusal_of
from tests.cache.test_cached_training import PLAIN, heads
from tests.cache.test_several_caches import cached, named, two
from tests.distiller.small_models import compiled_distiller, examples, mlp

x, y = examples(14)
TOGETHER = "Caches that are opened together differ in their teacher and dtype alone; make it as that one was made."


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    keras.config.disable_interactive_logging()
    return cached(tmp_path_factory.mktemp("caches"), two(), PLAIN)


def lowered(x, seed):
    return x - tf.random.stateless_normal((), seed)


IMAGES = {"image": x}
DIFFERENT = {  # what the second cache is made of otherwise, and what is said of it
    "views": ({"views": 3}, "views: 3, not 2"),
    "seed": ({"seed": 4}, "seed: 4, not 3"),
    "seed and views": ({"seed": 4, "views": 1}, "seed: 4, not 3; another views: 1, not 2"),
    "augmentation": (
        {"augment": lowered},
        "augmentation: fingerprint #, name lowered, not fingerprint #, name lifted_anything",
    ),
    "no augmentation": (
        {"augment": None, "views": 1},
        "augmentation: fingerprint None, name None, not fingerprint #, name lifted_anything; another views: 1, not 2",
    ),
    "count": ({"dataset": x[:-1]}, "data set: examples 13, not examples 14"),
    "inputs": (
        {"dataset": x[:, :3], "teacher": mlp(7, features=3)},
        'data set: inputs [["", [3], "float32"]], not inputs [["", [4], "float32"]]',
    ),
    "names of inputs": (
        {"dataset": IMAGES},
        'data set: inputs [["image", [4], "float32"]], not inputs [["", [4], "float32"]]',
    ),
    "classes": ({"teacher": mlp(7, classes=4)}, "signals: output_0 [4], not output_0 [3]"),
    "outputs": ({"teacher": heads(7, 2, 2, False)}, "signals: head_0 [2], head_1 [3], not output_0 [3]"),
}


def lifted_anything(inputs, seed):
    return keras.tree.map_structure(lambda leaf: lifted(leaf, seed), inputs)


def made(folder, **settings):
    given = {"teacher": mlp(9), "dataset": x, "views": 2, "augment": lifted_anything, "seed": 3, **settings}
    return cache_teacher(given.pop("teacher"), given.pop("dataset"), folder, **given).path


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    keras.config.disable_interactive_logging()
    return made(tmp_path_factory.mktemp("first"))


def refused(paths, data=x, **settings):
    """The text, fingerprints masked."""
    return re.sub(r"[0-9a-f]{8}…", "#", refusal_of(open_cache, paths, data, **settings))


@pytest.mark.parametrize("what", DIFFERENT)
def test_caches_that_do_not_go_together(what, first, tmp_path):
    settings, difference = DIFFERENT[what]
    other = made(tmp_path, **settings)
    expected = f"`open_cache`: {other} does not go with {first}: another {difference}. {TOGETHER}"
    assert refused([first, first, other], augment=lifted_anything) == expected


def test_keys_and_places_do_not_go_together(tmp_path):
    place, ids = (made(tmp_path / f"{i}", dataset=data) for i, data in enumerate((IMAGES, identified(x))))
    assert refused([place, ids], IMAGES, augment=lifted_anything) == (
        f"`open_cache`: {ids} does not go with {place}: another data set: keyed_by tfds_id, not keyed_by position. "
        f"{TOGETHER}"
    )


def test_other_keys_of_the_outputs(tmp_path):
    one, other = (
        made(tmp_path / names, teacher=named(5, 1, names, keyed=True), views=1, augment=None) for names in ("ab", "ad")
    )
    assert refused([one, other]) == (
        f"`open_cache`: {other} does not go with {one}: another signals: a [2], d [3], not a [2], b [3]. {TOGETHER}"
    )


@pytest.mark.parametrize(("settings", "kind"), [({"top_k": 2}, "top_k"), ({"samples": 4}, "sampled")])
def test_a_cache_of_some_classes_is_refused(settings, kind, caches, tmp_path):
    part = cache_teacher(mlp(7), PLAIN, tmp_path, **settings).path
    for paths in ([caches[0], part], [part, part]):
        assert refused(paths, PLAIN) == (
            f"`open_cache`: the mean of several teachers is that of all classes. {part} holds 'output_0' as {kind}. "
            "Make it without `top_k` and `samples`, or open it alone."
        )


def test_a_cache_with_taps_is_refused(caches, tmp_path):
    tapped = cache_teacher(mlp(7), PLAIN, tmp_path, taps=["hidden"]).path
    assert refused([caches[0], tapped], PLAIN) == (
        f"`open_cache`: features of several teachers have no mean. {tapped} holds those of ['hidden']. Make it without "
        "`taps`, or open it alone."
    )


def test_no_cache_at_all():
    for none in ([], ()):
        assert refused(none) == (
            f"`open_cache`: `path` must be the folder of a cache, or a list of such. Received: {none}."
        )


def test_a_folder_without_a_cache_among_them(caches, tmp_path):
    assert refused([caches[0], tmp_path], PLAIN) == (
        f"`open_cache`: there is no finished cache in {tmp_path}: it holds 0 shards and no manifest.json. Run "
        "`cache_teacher` to make or to finish it."
    )


def test_what_all_caches_lack_is_said_of_the_first(first, caches):
    assert refused([first, first]) == (
        f"`open_cache`: {first} is the cache of augmented views. Give `augment=lifted_anything`."
    )
    assert refused(caches, (x[:-1], y[:-1])) == (
        f"`open_cache`: {caches[0]} is the cache of another data set: it has 14 examples, not 13."
    )


def another_order_of(cache):
    return (
        f"`open_cache`: {cache} is the cache of another data set, or of another order of it. Open it with the source "
        "in the order that the teacher saw, and shuffle afterwards; or give `tfds_id`s."
    )


@pytest.mark.parametrize("place", [3, 299])
def test_each_cache_proves_each_example(place, tmp_path):
    """Example 299 is beyond the block that is looked at when a stream is opened."""
    many, _ = examples(300)
    other = many.copy()
    other[place] += 1
    paths = [
        cache_teacher(teacher, data, tmp_path / f"{number}").path
        for number, (teacher, data) in enumerate(zip(two(), (many, other), strict=True))
    ]
    for data, wrong in ((many, paths[1]), (other, paths[0])):
        assert refused(paths, data) == f"{another_order_of(wrong)} The first is example {place}."
        stream = tf.data.Dataset.from_tensor_slices(data).filter(lambda _: True)
        if place < 256:
            assert refused(paths, stream) == f"{another_order_of(wrong)} The first is example {place}."
        else:
            text = refusal_of(list, open_cache(paths, stream), kind=tf.errors.InvalidArgumentError)
            assert another_order_of(wrong) in text


def test_features_are_refused_by_the_distiller(caches):
    hint = compiled_distiller(mlp(), None, [kd.objectives.Hint("hidden", "hidden")])
    assert refusal_of(hint.fit, open_cache(caches, PLAIN), verbose=0) == (
        "`Hint`: it needs the teacher features ['hidden'], but features of several teachers have no mean. Open one "
        "cache alone, made with `cache_teacher(..., taps=['hidden'])`."
    )
