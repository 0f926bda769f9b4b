"""Which view a pass shows, and that it is what the teacher saw."""

import contextlib
import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.cache import cache_teacher, open_cache
from keras_kd.cache.passes import show_epoch
from tests.cache import views_program
from tests.cache.caching import batched, check_aligned, identified, lifted, printed_by, refusal_of
from tests.cache.numpy_fingerprints import seeds
from tests.distiller.small_models import compiled_distiller, examples, mlp, values_of

COUNT, VIEWS = 14, 3
x, y = examples(COUNT)


def view(number, seed=0, inputs=x):
    """View 0, 1, ... of all examples, from the formulas."""
    drawn = [float(tf.random.stateless_normal((), [one, 0])) for one in seeds(inputs, number, seed)]
    return inputs + np.float32(drawn)[:, None]


EXPECTED = [view(number) for number in range(VIEWS)]


@pytest.fixture(scope="module")
def teacher():
    return mlp(9, seed=1)


@pytest.fixture(scope="module")
def cache(teacher, tmp_path_factory):
    keras.config.disable_interactive_logging()
    folder = tmp_path_factory.mktemp("views")
    return cache_teacher(teacher, (x, y), folder, dtype="float32", views=VIEWS, augment=lifted).path


def opened(cache, size=7):
    return open_cache(cache, batched((x, y), size), augment=lifted)


def shown(data):
    """What one pass shows."""
    return np.concatenate([signals.x for signals, _ in data])


def check_shows(received, *views):
    np.testing.assert_allclose(received, np.concatenate([EXPECTED[number] for number in views]), atol=1e-6)


class Recorder(keras.layers.Layer):
    """Remembers what it is trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, inputs, training=None):
        if training and hasattr(inputs, "numpy"):
            self.seen.append(inputs.numpy())
        return inputs


def fitted(data, callbacks=(), student=None, **kwargs):
    """What a student sees in `fit`."""
    recorder = Recorder()
    student = keras.Sequential([recorder, keras.layers.Dense(3)])
    distiller = compiled_distiller(student, None, compile_with={"run_eagerly": True})
    with contextlib.suppress(KeyboardInterrupt):
        distiller.fit(data, verbose=0, callbacks=list(callbacks), **kwargs)
    return np.concatenate(recorder.seen)


def test_each_pass_shows_the_next_view_with_the_teachers_answers(cache, teacher):
    data = opened(cache)
    for number in (0, 1, 2, 0):
        check_shows(check_aligned(data, teacher, COUNT), number)


def test_a_pass_that_is_not_read_to_its_end_does_not_count(cache):
    data = opened(cache)
    next(iter(data))
    list(data.take(1))
    check_shows(shown(data), 0)
    next(iter(data))
    check_shows(shown(data), 1)


def test_the_view_of_a_pass_is_settled_when_it_begins(cache):
    """Two passes side by side, of which one is read to its end first."""
    data = opened(cache)
    slow = iter(data)
    first = next(slow)
    check_shows(shown(data), 0)
    check_shows(np.concatenate([first[0].x, *(signals.x for signals, _ in slow)]), 0)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_pass_that_ends_late_does_not_move_the_next(epoch, cache):
    """`fit` reads as many batches as there are, and the end of the data perhaps when the next epoch has begun."""
    data = opened(cache)
    last = iter(data)
    next(last), next(last)
    show_epoch(data, epoch)
    assert next(last, None) is None
    check_shows(shown(data), epoch)


def test_repetitions_shuffling_and_prefetching(cache, teacher):
    check_shows(check_aligned(opened(cache).repeat(4).prefetch(2), teacher, 4 * COUNT), 0, 1, 2, 0)
    data = opened(cache).unbatch().shuffle(COUNT, seed=1).batch(4).prefetch(tf.data.AUTOTUNE)
    for number in (0, 1):
        seen = check_aligned(data, teacher, COUNT)
        assert not np.allclose(seen, EXPECTED[number])
        np.testing.assert_allclose(np.sort(seen, axis=0), np.sort(EXPECTED[number], axis=0), atol=1e-6)


def test_an_epoch_of_fit_shows_its_view(cache):
    check_shows(fitted(opened(cache), epochs=4), 0, 1, 2, 0)


def test_fit_begins_with_the_view_of_its_first_epoch(cache):
    data = opened(cache)
    list(data)  # a pass before does not move it
    check_shows(fitted(data, initial_epoch=2, epochs=4), 2, 0)


def test_an_endless_stream_shows_one_view_after_another(cache):
    check_shows(fitted(opened(cache).repeat(), epochs=4, steps_per_epoch=2), 0, 1, 2, 0)


def test_a_part_of_the_data_in_fit(cache):
    seen = fitted(opened(cache).take(1), epochs=3)
    np.testing.assert_allclose(seen, np.concatenate([EXPECTED[number][:7] for number in range(3)]), atol=1e-6)


def test_validation_and_peeking_between_epochs_do_not_move_the_view(cache):
    data = opened(cache)
    peek = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: list(data))
    check_shows(fitted(data, [peek], validation_data=data, epochs=3), 0, 1, 2)


def test_an_interrupted_fit_goes_on_with_the_view_of_its_epoch(cache, tmp_path):
    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    check_shows(fitted(opened(cache), [backup(), Interrupted()], epochs=4), 0, 1)
    check_shows(fitted(opened(cache), [backup()], epochs=4), 2, 0)


def test_training_on_views_is_training_with_the_teacher_on_them(cache, teacher):
    live, replay = compiled_distiller(mlp(), teacher), compiled_distiller(mlp(), None)
    expected = [live.fit(batched((each, y), 7), verbose=0).history["loss"][0] for each in EXPECTED]
    received = replay.fit(opened(cache), epochs=VIEWS, verbose=0).history["loss"]
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    for one, other in zip(values_of(replay.weights), values_of(live.weights), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_the_seed_of_a_cache_draws_its_views(teacher, tmp_path):
    cache_teacher(teacher, x, tmp_path, dtype="float32", augment=lifted, seed=5)
    ((signals,),) = open_cache(tmp_path, batched(x, COUNT), augment=lifted)
    np.testing.assert_allclose(signals.x, view(0, seed=5), atol=1e-6)
    assert np.abs(view(0, seed=5) - EXPECTED[0]).min() > 1e-4


def test_views_do_not_depend_on_how_a_source_is_batched(teacher, tmp_path):
    sources = {"arrays": (x, y), "threes": batched((x, y), 3), "whole": batched((x, y), COUNT, drop_remainder=True)}
    written = {
        name: cache_teacher(teacher, source, tmp_path / name, views=2, augment=lifted).contents
        for name, source in sources.items()
    }
    assert written["threes"] == written["arrays"]
    assert written["whole"] == written["arrays"]


def test_views_of_examples_with_ids_do_not_depend_on_their_order(teacher, tmp_path):
    cache_teacher(teacher, identified(x, y), tmp_path, dtype="float32", views=2, augment=lifted_image)
    passes = []
    for source in (identified(x, y), identified(x, y).skip(3).concatenate(identified(x, y).take(3)).batch(4)):
        data = open_cache(tmp_path, source, augment=lifted_image)
        data = data.map(lambda signals, y: (signals._replace(x=signals.x["image"]), y))
        data = data if source.element_spec[1].shape.rank else data.batch(4)
        passes.append([check_aligned(data, teacher, COUNT) for _ in range(2)])
    for straight, turned in zip(*passes, strict=True):
        np.testing.assert_array_equal(np.roll(straight, -3, axis=0), turned)


def lifted_image(inputs, seed):
    return {"image": lifted(inputs["image"], seed)}


@pytest.mark.parametrize("size", [1, 4, 5, 14, 20])
def test_views_come_in_batches_of_the_sources_size(size, cache, teacher):
    data = opened(cache, size)
    expected = [min(size, COUNT - start) for start in range(0, COUNT, size)]
    assert [len(signals.x) for signals, _ in data] == expected
    assert int(data.cardinality()) == len(expected)
    check_aligned(data, teacher, COUNT)


def test_views_of_a_source_in_batches_of_many_sizes(cache, teacher):
    """They are batched by the first, so that there may be fewer than the source has."""
    parts = [batched((x[start : start + 5], y[start : start + 5])) for start in (0, 5, 10)]
    source = parts[0].concatenate(parts[1]).concatenate(parts[2])
    assert [len(batch) for batch, _ in source] == [4, 1, 4, 1, 4]
    data = open_cache(cache, source, augment=lifted)
    assert [len(signals.x) for signals, _ in data] == [4, 4, 4, 2]
    check_aligned(data, teacher, COUNT)


def test_views_of_single_examples(cache, teacher):
    data = open_cache(cache, (x, y), augment=lifted)
    assert int(data.cardinality()) == COUNT
    check_shows(check_aligned(data.batch(4), teacher, COUNT), 0)


@pytest.fixture(scope="module")
def seen_by_teacher(tmp_path_factory):
    """A cache of images, and the pixels that its teacher was asked about, view by view."""
    keras.config.disable_interactive_logging()
    folder, asked = tmp_path_factory.mktemp("pixels"), []

    def teacher(images):
        asked.append(images.copy())
        return images.reshape(len(images), -1)[:, :3].astype("float32")

    cache_teacher(
        teacher,
        views_program.images(),
        folder,
        views=views_program.VIEWS,
        augment=views_program.augmentation(),
    )
    return folder, asked[-views_program.VIEWS :]


def test_the_student_sees_the_very_pixels_that_the_teacher_saw(seen_by_teacher):
    folder, asked = seen_by_teacher
    digests = [hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in asked]
    assert len(set(digests)) == views_program.VIEWS
    assert views_program.shown(folder) == digests


def test_another_process_sees_the_same_pixels(seen_by_teacher):
    folder, asked = seen_by_teacher
    received = printed_by("views_program", folder)
    assert received == [hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in asked]


def test_another_augmentation_is_refused(cache, teacher, tmp_path):
    def lowered(x, seed):
        return x - tf.random.stateless_normal((), seed)

    lowered.__qualname__ = "lowered"
    assert refusal_of(open_cache, cache, (x, y)) == (
        f"`open_cache`: {cache} is the cache of augmented views. Give `augment=lifted`."
    )
    assert refusal_of(open_cache, cache, (x, y), augment=lowered) == (
        f"`open_cache`: {cache} is the cache of another augmentation: lifted; lowered shows other pixels."
    )
    cache_teacher(teacher, (x, y), tmp_path)
    assert refusal_of(open_cache, tmp_path, (x, y), augment=lifted) == (
        f"`open_cache`: {tmp_path} is the cache of examples as they are, without an augmentation. Leave out `augment`."
    )
