"""The Beam transform writes, on the local runner, the files that one call of `cache_teacher` writes."""

from functools import partial

import apache_beam as beam
import keras
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from keras_kd.cache import open_cache
from keras_kd.cache.beam import CacheTeacher
from tests.cache.caching import refusal_of
from tests.cache.writing_program import SHARDS, STARTS, NotingTeacher, files_of, shaken, small_shards, source, write


def run(*arguments, views=1, **settings):
    """Runs the transform, and checks what it gives."""
    with small_shards(views), beam.Pipeline("FnApiRunner") as pipeline:
        manifests = pipeline | CacheTeacher(*arguments, views=views, **settings)
        assert_that(
            manifests | beam.Map(lambda manifest: (str(manifest.path), manifest.examples)),
            equal_to([(str(arguments[2]), 50)]),
        )


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_any_number_of_parts_gives_the_files_of_one_writer(parts, tmp_path):
    write(tmp_path / "alone")
    run(NotingTeacher, source, tmp_path / "beam", parts=parts, dtype="float32")
    assert files_of(tmp_path / "beam") == files_of(tmp_path / "alone")
    assert len(files_of(tmp_path / "beam")) == SHARDS + 1


def test_settings_go_to_the_workers(tmp_path):
    settings = {"views": 2, "samples": 5, "temperature": 2.0, "seed": 3, "augment": shaken, "dtype": "float16"}
    write(tmp_path / "alone", kind="ids batched uncounted", **settings)
    run(NotingTeacher, partial(source, "ids batched uncounted"), tmp_path / "beam", parts=3, **settings)
    assert files_of(tmp_path / "beam") == files_of(tmp_path / "alone")


def test_closures_and_a_teacher_of_keras(tmp_path):
    file = tmp_path / "teacher.keras"
    teacher = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    teacher.save(file)
    write(tmp_path / "alone", teacher=keras.models.load_model(file), count=50)

    def make_teacher():
        return keras.models.load_model(file)

    count = 50
    run(make_teacher, lambda: source(count=count), str(tmp_path / "beam"), parts=2, dtype="float32")
    assert files_of(tmp_path / "beam") == files_of(tmp_path / "alone")


def test_each_block_is_asked_about_once_in_all(tmp_path):
    notes = tmp_path / "notes"
    run(partial(NotingTeacher, notes), source, tmp_path / "beam", parts=3, dtype="float32")
    numbers = [float(line) for line in notes.read_text("utf-8").splitlines()]
    assert sorted(start for start in numbers if start in STARTS[1:]) == STARTS[1:]


def test_a_pipeline_that_failed_goes_on_where_it_was(tmp_path):
    def fail(_):
        raise RuntimeError("The teacher is out.")

    text = refusal_of(
        run, lambda: NotingTeacher(at=28, act=fail), source, tmp_path / "beam", parts=2, dtype="float32", kind=Exception
    )
    assert "The teacher is out." in text
    left = [name for name in files_of(tmp_path / "beam") if name.endswith("tfrecord")]
    notes = tmp_path / "notes"
    run(partial(NotingTeacher, notes), source, tmp_path / "beam", parts=2, dtype="float32")
    numbers = [float(line) for line in notes.read_text("utf-8").splitlines()]
    assert left
    kept = {int(name[8:13]) for name in left}
    asked = sorted(start for start in numbers if start in STARTS[1:])
    # Of the third shard, the block before the failure was kept too.
    assert asked == [start for start in STARTS[1:] if start // 12 not in kept and start != 24]
    write(tmp_path / "alone")
    assert files_of(tmp_path / "beam") == files_of(tmp_path / "alone")


def test_it_opens(tmp_path):
    run(NotingTeacher, source, tmp_path / "beam", parts=2, dtype="float32")
    batch = next(iter(open_cache(tmp_path / "beam", source()).batch(50)))
    (signal,) = batch[0].signals.values()
    np.testing.assert_array_equal(signal["logits"], NotingTeacher()(source()))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"make_teacher": 3},
            "`make_teacher` must be a function without arguments. Received: 3. It is called on each worker.",
        ),
        (
            {"make_dataset": None},
            "`make_dataset` must be a function without arguments. Received: None. It is called on each worker.",
        ),
        ({"parts": 0}, "`parts` must be an integer >= 1. Received: parts=0."),
        ({"parts": 2.0}, "`parts` must be an integer >= 1. Received: parts=2.0."),
        (
            {"shard": (0, 2), "batch": 3},
            "it has no setting batch, shard. Received: {'shard': (0, 2), 'batch': 3}. Its settings are those of "
            "`cache_teacher`; for `shard`, give `parts`.",
        ),
    ],
)
def test_arguments_out_of_range(arguments, text, tmp_path):
    given = {"make_teacher": NotingTeacher, "make_dataset": source, "path": tmp_path, "parts": 2, **arguments}
    assert refusal_of(CacheTeacher, **given) == f"`CacheTeacher`: {text}"
