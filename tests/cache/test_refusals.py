"""What `cache_teacher` refuses: arguments out of range, and folders that hold the cache of something else."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from tests.cache.caching import refusal_of
from tests.cache.test_interruptions import outcomes_of
from tests.cache.writing_program import files_of, shaken, small_shards, source


def linear(factor=1.0, name="linear"):
    layers = [keras.layers.Dense(4, use_bias=False, name="first"), keras.layers.Dense(2, use_bias=False)]
    model = keras.Sequential([keras.Input((3,)), *layers], name=name)
    model.set_weights([np.full((3, 4), factor, "float32"), np.ones((4, 2), "float32")])
    return model


def shaken_more(x, seed):
    return 2 * shaken(x, seed)


def cached(folder, **arguments):
    """A cache of two views, or of what is given otherwise."""
    given = {"teacher": linear(), "dataset": source(), "views": 2, "augment": shaken, "seed": 3, **arguments}
    with small_shards(views=2):
        return cache_teacher(given.pop("teacher"), given.pop("dataset"), folder, **given)


def identified():
    return tf.data.Dataset.from_tensor_slices({"image": source(), "tfds_id": [f"{place}" for place in range(50)]})


DIFFERENT = {
    "weights": ({"teacher": linear(2.0)}, "teacher: fingerprint #, not fingerprint #"),
    "name": ({"teacher": linear(name="other")}, "teacher: name linear, not name other"),
    "preprocessing": ({"teacher": kd.Teacher(linear(), preprocess=lambda x: x / 2)}, "preprocessing: #, not #"),
    "examples": ({"dataset": source()[::-1].copy()}, "data set: beginning #, not beginning #"),
    "names of inputs": (
        {"dataset": {"image": source()}},
        'data set: inputs [["", [3], "float32"]], not inputs [["image", [3], "float32"]]',
    ),
    "count": ({"dataset": source(count=49)}, "data set: 50 examples, not 49"),
    "keys": (
        {"dataset": identified()},
        'data set: inputs [["", [3], "float32"]], keyed_by position, not inputs [["image", [3], "float32"]], '
        "keyed_by tfds_id",
    ),
    "augmentation": (
        {"augment": shaken_more},
        "augmentation: fingerprint #, name shaken, not fingerprint #, name shaken_more",
    ),
    "no augmentation": (
        {"augment": None, "views": 1},
        "augmentation: fingerprint #, name shaken, not fingerprint None, name None; another views: 2, not 1",
    ),
    "top classes": ({"top_k": 1}, "form: top_k None, not top_k 1"),
    "samples": ({"samples": 8}, "form: samples None, not samples 8"),
    "temperature": ({"temperature": 2.0}, "form: temperature 4.0, not temperature 2.0"),
    "dtype": ({"dtype": "int8"}, "form: dtype float16, not dtype int8"),
    "taps": ({"taps": ["first"]}, "signals: output_0 [2], not output_0 [2], first [4]"),
    "seed": ({"seed": 4}, "seed: 3, not 4"),
    "views": ({"views": 3}, "views: 2, not 3"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "cache"
    cached(folder)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """All that a writer has left who was stopped in the first shard."""
    folder = tmp_path_factory.mktemp("begun") / "cache"

    def two_blocks(x):
        if x[0, 0] == 8:
            raise RuntimeError("Stopped.")
        return linear()(x).numpy()

    two_blocks.__name__ = "linear"
    refusal_of(cached, folder, teacher=two_blocks, kind=Exception)
    assert [path.name for path in folder.iterdir()] == ["signals-00000.partial"]
    return folder


def refused_as(folder, arguments):
    """What differs, fingerprints masked; all files as they were."""
    before = files_of(folder)
    text = refusal_of(cached, folder, **arguments)
    assert files_of(folder) == before
    return re.sub(r"[0-9a-f]{8}…", "#", text)


@pytest.mark.parametrize("what", DIFFERENT)
def test_the_cache_of_something_else_is_refused(what, finished):
    arguments, difference = DIFFERENT[what]
    expected = f"`cache_teacher`: {finished} holds a cache of another {difference}. Choose another folder."
    assert refused_as(finished, arguments) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [(None, "sequential"), ("sequential_9", "sequential"), ("net_2", "net_2")]
)
def test_the_number_that_keras_counts_up_is_no_part_of_a_name(name, expected, tmp_path):
    assert cached(tmp_path / "first", teacher=linear(name=name)).teacher == expected
    cached(tmp_path / "second", teacher=linear(name=name))
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


def test_a_begun_cache_of_something_else_is_refused_too(begun):
    assert refused_as(begun, {}) == (
        f"`cache_teacher`: {begun} holds a cache of another teacher: fingerprint #, not fingerprint #. Choose another "
        "folder."
    )


def test_what_makes_no_difference_is_not_refused(finished, capsys):
    before = files_of(finished)
    compiled = linear()
    compiled.compile("sgd", "mse")
    cached(finished, teacher=compiled, dataset=tf.data.Dataset.from_tensor_slices(source()).batch(16))
    assert capsys.readouterr().out == (
        f"Nothing to do: {finished}: what `linear` says of 2 views of 50 examples, 16 bytes each.\n"
    )
    assert files_of(finished) == before


ARGUMENTS = [
    ({"teacher": None}, "`teacher` must be a teacher. Received: None."),
    ({"views": 0}, "`views` must be an integer >= 1. Received: views=0."),
    ({"views": 1.5}, "`views` must be an integer >= 1. Received: views=1.5."),
    (
        {"augment": None},
        "without `augment` all views are the same. Received: views=2. Give `augment`, as in "
        "`keras_kd.data.random_shift(2)`, or leave views=1.",
    ),
    ({"augment": 3}, "`augment` must be a function (x, seed) -> x. Received: 3."),
    ({"seed": -1}, "`seed` must be an integer in [0, 2**32). Received: seed=-1."),
    ({"seed": 2**32}, "`seed` must be an integer in [0, 2**32). Received: seed=4294967296."),
    ({"seed": None}, "`seed` must be an integer in [0, 2**32). Received: seed=None."),
    ({"shard": 3}, "`shard` must be two integers (i, n). Received: shard=3."),
    ({"shard": (0, 2.0)}, "`shard` must be two integers (i, n). Received: shard=(0, 2.0)."),
    ({"shard": (2, 2)}, "`shard` must be (i, n) with 0 <= i < n. Received: shard=(2, 2)."),
    ({"shard": (-1, 2)}, "`shard` must be (i, n) with 0 <= i < n. Received: shard=(-1, 2)."),
    ({"temperature": "4"}, "`temperature` must be > 0. Received: temperature='4'."),
    ({"dtype": "bfloat16"}, "`dtype` must be one of float32, float16, int8. Received: dtype='bfloat16'."),
    ({"dataset": np.zeros((0, 3), "float32")}, "`dataset` has no examples."),
    ({"dataset": tf.data.Dataset.from_tensor_slices(source()).filter(lambda _: False)}, "`dataset` has no examples."),
    (
        {"dataset": "mnist"},
        "`dataset` must be a `tf.data.Dataset`, or arrays: x, or (x, y). Received: <class 'str'>.",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), ARGUMENTS)
def test_arguments_out_of_range_are_refused_before_a_folder_is_made(arguments, text, tmp_path):
    assert refusal_of(cached, tmp_path / "cache", **arguments) == f"`cache_teacher`: {text}"
    assert not (tmp_path / "cache").exists()


def test_a_path_that_is_none(tmp_path):
    assert refusal_of(cached, None) == "`cache_teacher`: `path` must be the path of a folder. Received: path=None."


def test_a_path_of_another_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal_of(cached, "gs://bucket/cache") == (
        "`cache_teacher`: `path` must be a folder of a mounted file system. Received: path='gs://bucket/cache'. Write "
        "to a folder and copy its files there, or mount the store."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    text = "`cache_teacher`: `path` must be a folder to write to, there or to be made. Received: {} ({})"
    assert refusal_of(cached, file, kind=OSError) == f"[Errno 17] {text.format(file, 'File exists')}"
    assert refusal_of(cached, file / "cache", kind=OSError) == (
        f"[Errno 20] {text.format(file / 'cache', 'Not a directory')}"
    )
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_may_not_be_written_to(there, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    folder = closed if there else closed / "cache"
    case = {"folder": str(folder), "as_nobody": True, "warm_up": str(tmp_path / "open")}
    assert outcomes_of([case]) == [
        [
            "PermissionError: [Errno 13] `cache_teacher`: `path` must be a folder to write to, there or to be made. "
            f"Received: {folder} (Permission denied)"
        ]
    ]
    assert os.listdir(Path(closed)) == []


@pytest.mark.parametrize("seed", [None, 3])
def test_an_augmentation_that_draws_from_more_than_its_seed(seed, tmp_path):
    tf.random.set_seed(seed)

    def shaken(x, seed):
        return x + tf.random.uniform(())

    x = np.ones((4, 3), "float32")
    assert refusal_of(cache_teacher, lambda x: x, x, tmp_path, augment=shaken) == (
        "`cache_teacher`: `augment` must depend on nothing but the example and the seed. Shown the same twice, "
        "test_an_augmentation_that_draws_from_more_than_its_seed.<locals>.shaken gave two different things. Draw with "
        "`tf.random.stateless_uniform(shape, seed)` and its like."
    )


def test_an_augmentation_that_takes_no_made_up_example_is_told_by_its_name(tmp_path):
    def decoded(x, seed):
        return tf.cast(tf.io.decode_png(x, channels=1), "float32")

    encoded = np.array([tf.io.encode_png(np.full((2, 2, 1), value, "uint8")).numpy() for value in (3, 7)])
    cache_teacher(lambda x: x.reshape(-1, 4), encoded, tmp_path, augment=decoded, dtype="float32", verbose=0)
    ((batch,),) = open_cache(tmp_path, encoded, augment=decoded).batch(2)
    np.testing.assert_array_equal(batch.heard().outputs["output_0"], [[3.0] * 4, [7.0] * 4])

    def another(x, seed):
        return decoded(x, seed)

    assert "is the cache of another augmentation" in refusal_of(open_cache, tmp_path, encoded, augment=another)
