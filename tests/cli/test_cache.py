"""`keras-kd cache`, and `keras-kd distill --cache`: what is kept of a teacher, and what students make of it."""

import argparse
import contextlib
import io
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd import data, open_cache
from keras_kd.cache import planning
from keras_kd.cli import distill, lessons, main
from keras_kd.cli.augmentations import augmentation_of
from keras_kd.data import loading
from keras_kd.distiller import Distiller
from keras_kd.export import LiteRTModel
from keras_kd.plots import read_history
from tests.cli.test_adversarial import interrupted_at
from tests.cli.test_bad_input import cached_words, caching_words
from tests.cli.test_distill import weights

EXAMPLES = 1167
VIEWS = {"views": 3, "augment": "random_shift(2), random_flip()", "top_k": 3}


def cache_in(folder, files, **changes):
    assert main(["cache", *caching_words(files, folder, **changes)]) == 0
    return folder


def distilled(folder, cache, files, *more, **changes):
    assert main(["distill", *cached_words(files, cache, folder, **changes), *more]) == 0
    return folder


def record(folder):
    return json.loads((folder / "run.json").read_text())


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored_logits(cache):
    batches = open_cache(cache, data.load("digits").train.batch(100))
    return np.concatenate([next(iter(x.signals.values()))["logits"] for x, _ in batches])


def train_batches(cache, student):
    parser = argparse.ArgumentParser()
    distill.add_to(parser.add_subparsers())
    options = ["distill", "--cache", str(cache), "--student", "", "--out", ""]
    taken = lessons.lessons_of(parser.parse_args(options), student).train
    x, y = zip(*((x.x, y) for x, y in taken), strict=True)
    return np.concatenate(x), np.concatenate(y)


@pytest.fixture(scope="module")
def cache(files, tmp_path_factory):
    folder, printed = tmp_path_factory.mktemp("caches") / "whole", io.StringIO()
    with contextlib.redirect_stdout(printed):
        cache_in(folder, files, dtype="float32")
    name = re.sub(r"_\d+$", "", keras.saving.load_model(files / "teacher.keras").name)  # less Keras's own counter
    last = printed.getvalue().strip().splitlines()[-1]
    assert last == f"{folder}: what `{name}` says of 1,167 examples, 44 bytes each"
    return folder


@pytest.fixture(scope="module")
def viewed(files, tmp_path_factory):
    return cache_in(tmp_path_factory.mktemp("caches") / "views", files, **VIEWS)


@pytest.fixture(scope="module")
def taught(cache, files, tmp_path_factory):
    return distilled(tmp_path_factory.mktemp("runs") / "out", cache, files, epochs=2)


def test_the_cache_holds_what_the_teacher_says_of_each_training_example(cache, files):
    (x, _), _ = data.digits()
    teacher = keras.saving.load_model(files / "teacher.keras")
    np.testing.assert_allclose(stored_logits(cache), teacher.predict(x[:EXAMPLES], verbose=0), atol=1e-5)


def test_settings_are_on_record(cache, taught, files):
    assert record(cache) == {
        "teacher": str(files / "teacher.keras"),
        "dataset": "digits",
        "input_shape": [8, 8, 1],
        "scale": None,
        "augment": None,
        "views": 1,
        "seed": 0,
        "top_k": None,
        "samples": None,
        "temperature": 4.0,
        "dtype": "float32",
        "taps": [],
    }
    run = record(taught)
    assert (run["cache"], run["dataset"], run["temperature"], run["epochs"]) == (str(cache), "digits", 4.0, 2)
    assert "teacher" not in run


def test_tflite_file_says_what_the_keras_file_says(taught):
    _, (x_test, y_test) = data.digits()
    logits = keras.saving.load_model(taught / "student.keras").predict(x_test, verbose=0)
    np.testing.assert_allclose(LiteRTModel(taught / "student.tflite")(x_test), logits, atol=1e-4)
    report = json.loads((taught / "report.json").read_text())
    tflite = next(file for file in report["files"] if file["file"] == "student.tflite")
    assert tflite["accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == y_test))


def test_from_a_cache_comes_the_student_that_the_teacher_itself_makes(taught, files, tmp_path):
    words = {"teacher": files / "teacher.keras", "student": files / "student.keras", "dataset": "digits", "epochs": 2}
    words = [str(word) for name, value in words.items() for word in (f"--{name}", value)]
    assert main(["distill", *words, "--out", str(tmp_path / "live")]) == 0
    # Batches in another order would differ by some of the 20 steps of 1e-3.
    for cached, live in zip(weights(taught), weights(tmp_path / "live"), strict=True):
        np.testing.assert_allclose(cached, live, atol=1e-6)
    figures, live = (read_history(folder / "history.csv") for folder in (taught, tmp_path / "live"))
    assert figures["agreement"] == live["agreement"]


def test_a_finished_cache_says_so_and_stays_as_it_is(cache, files, capsys):
    before = bytes_of(cache)
    cache_in(cache, files, dtype="float32")
    lines = [line for line in capsys.readouterr().out.splitlines() if str(cache) in line]
    assert len(lines) == 1
    assert lines[0].startswith("Nothing to do: ")
    assert bytes_of(cache) == before


def test_parts_of_two_machines_are_the_files_of_one(viewed, files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planning, "ROWS_PER_SHARD", 256 * VIEWS["views"])  # five shards of a block
    one = cache_in(tmp_path / "one", files, **VIEWS)
    two = cache_in(tmp_path / "two", files, shard="1/2", **VIEWS)
    assert {path.name for path in two.glob("signals-*")} == {"signals-00001.tfrecord", "signals-00003.tfrecord"}
    assert "of 5 shards are still to come" in capsys.readouterr().out
    cache_in(two, files, shard="0/2", **VIEWS)
    assert len(bytes_of(one)) == 7
    assert bytes_of(one) == bytes_of(two)


def test_interrupted_caching_goes_on_to_the_same_bytes(files, tmp_path, interrupted):
    settings = {"views": 30, "augment": "random_rotation(30), random_shift(2)"}
    code, error = interrupted("cache", *caching_words(files, tmp_path / "cut", **settings), at=b"256/1167")
    assert code == 130
    assert error.strip().splitlines()[-1] == "keras-kd cache: interrupted. The same command goes on where it was."
    assert not (tmp_path / "cut" / "manifest.json").exists()
    assert any((tmp_path / "cut").glob("signals-*.partial"))
    cache_in(tmp_path / "cut", files, **settings)
    cache_in(tmp_path / "whole", files, **settings)
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")


def test_interrupted_training_goes_on_with_its_view_to_the_same_weights(viewed, files, tmp_path):
    words = {"epochs": 4}  # more than views
    whole = distilled(tmp_path / "whole", viewed, files, **words)
    cut = tmp_path / "cut"
    with interrupted_at(1) as told:
        assert main(["distill", *cached_words(files, viewed, cut, **words)]) == 130
    assert "--resume goes on after the last whole epoch" in told.getvalue()
    distilled(cut, viewed, files, "--resume", **words)
    for unbroken, resumed in zip(weights(whole), weights(cut), strict=True):
        np.testing.assert_array_equal(unbroken, resumed)


def test_each_epoch_shows_the_next_view(viewed, files, tmp_path, monkeypatch):
    augment = augmentation_of(VIEWS["augment"])
    source = data.load("digits").train
    opened = open_cache(viewed, source, augment=augment)
    shown = [frozenset(x.x.numpy().tobytes() for x, _ in opened) for _ in range(VIEWS["views"])]
    assert len(set(shown)) == VIEWS["views"]
    seen = []

    class Watched(Distiller):
        def train_step(self, batch):
            tf.py_function(lambda images: seen.extend(image.numpy().tobytes() for image in images), [batch[0].x], [])
            return super().train_step(batch)

    monkeypatch.setattr(distill, "Distiller", Watched)
    distilled(tmp_path / "out", viewed, files, epochs=4)
    assert len(seen) == 4 * EXAMPLES
    for epoch in range(4):
        assert set(seen[epoch * EXAMPLES : (epoch + 1) * EXAMPLES]) == shown[epoch % VIEWS["views"]]


@pytest.mark.parametrize(("kept", "agreement"), [({"top_k": 2}, True), ({"samples": 20}, False)])
def test_temperature_and_metrics_are_those_that_the_cache_allows(files, tmp_path, kept, agreement):
    cache = cache_in(tmp_path / "cache", files, temperature=2, **kept)
    out = distilled(tmp_path / "out", cache, files, epochs=1)
    assert record(out)["temperature"] == 2.0
    history = read_history(out / "history.csv")
    assert ("agreement" in history) == agreement
    assert "val_accuracy" in history


def test_mixed_labels_are_learnt_and_plain_ones_validated(files, tmp_path):
    cache = cache_in(tmp_path / "cache", files, views=2, augment="random_flip(), mixup(num_classes=10)")
    assert record(cache)["augment"] == "compose(random_flip(), mixup(alpha=0.2, num_classes=10))"
    out = distilled(tmp_path / "out", cache, files, epochs=2)
    (x, y), _ = data.digits()
    logits = keras.saving.load_model(out / "student.keras").predict(x[EXAMPLES:], verbose=0).astype("float64")
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(130), y[EXAMPLES:]]
    assert read_history(out / "history.csv")["val_student_loss"][-1] == pytest.approx(losses.mean(), rel=1e-5)
    assert read_history(out / "history.csv")["val_accuracy"][-1] == pytest.approx(
        np.mean(logits.argmax(-1) == y[EXAMPLES:])
    )


def _as_tflite(teacher, folder):
    path = folder / "teacher.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(teacher).convert())
    return path


def _as_saved_model(teacher, folder):
    teacher.export(folder / "saved", verbose=False)
    return folder / "saved"


def _as_probabilities(teacher, folder):
    return _as_saved_model(keras.Sequential([teacher, keras.layers.Softmax()]), folder)


@pytest.mark.parametrize("form", [_as_tflite, _as_saved_model, _as_probabilities])
def test_teachers_that_are_no_keras_files(cache, files, tmp_path, form):
    path = form(keras.saving.load_model(files / "teacher.keras"), tmp_path)
    same = stored_logits(cache_in(tmp_path / "cache", files, teacher=path, dtype="float32"))
    logits = stored_logits(cache)
    if form is _as_probabilities:
        logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(same, logits, atol=1e-5)


@pytest.mark.parametrize("teacher_shape", [(8, 8, 1), (8, 8)])
@pytest.mark.parametrize("student_shape", [(12, 12, 3), (8, 8, 1), (8, 8)])
def test_the_student_sees_the_teachers_images_in_its_own_shape(cache, files, tmp_path, teacher_shape, student_shape):
    layers = keras.layers
    if teacher_shape == (8, 8):
        flat = keras.Sequential([keras.Input(teacher_shape), layers.Flatten(), layers.Dense(10)])
        flat.save(tmp_path / "flat.keras")
        cache = cache_in(tmp_path / "cache", files, teacher=tmp_path / "flat.keras")
    student = keras.Sequential([keras.Input(student_shape), layers.Flatten(), layers.Dense(10)])
    seen, labels = train_batches(cache, student)
    (x, y), _ = data.digits()
    x, y = x[:EXAMPLES], y[:EXAMPLES]
    if student_shape == (12, 12, 3):
        x = np.repeat(tf.image.resize(x, (12, 12), antialias=True).numpy(), 3, axis=-1)
    expected = sorted((image.tobytes(), label) for image, label in zip(x.reshape(-1, *student_shape), y, strict=True))
    assert sorted((image.tobytes(), label) for image, label in zip(seen, labels, strict=True)) == expected


@pytest.mark.parametrize("teacher_shape", [(4,), (4, 1)])
def test_audio_is_fitted_from_the_teachers_samples(teacher_shape):
    samples = np.arange(8, dtype="float32").reshape(2, 4)
    seen = tf.data.Dataset.from_tensor_slices((samples.reshape(2, *teacher_shape), [0, 1]))
    source = data.Source("tones", "audio", seen, seen, seen, (None,), ("low", "high"))
    fit = lessons.refit(source, seen, (6, 1))
    np.testing.assert_array_equal(fit(next(iter(seen))[0]), [[0], [1], [2], [3], [0], [0]])


def test_a_folder_whose_teacher_was_trained_on_raw_pixels(raw_pixels, monkeypatch):
    monkeypatch.chdir(raw_pixels)
    cache = cache_in(raw_pixels / "cache", raw_pixels, dataset="images")
    assert record(cache)["scale"] == 1.0
    monkeypatch.chdir(raw_pixels / "cache")  # the data set is found from anywhere
    student = keras.saving.load_model(raw_pixels / "student.keras")
    seen, labels = train_batches(cache, student)
    assert seen[labels == 0].max() == 99
    assert seen[labels == 1].min() == 120


def test_an_example_that_changed_since_is_told_in_one_line(cache, files, tmp_path, monkeypatch, capsys):
    (x, y), test = data.digits()
    x[700, 0, 0] += 1
    monkeypatch.setattr(loading, "digits", lambda: ((x, y), test))
    assert main(["distill", *cached_words(files, cache, tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        f"keras-kd distill: `open_cache`: {cache} is the cache of another data set, or of another order of it. Open it "
        "with the source in the order that the teacher saw, and shuffle afterwards; or give `tfds_id`s."
    )


def test_a_run_is_not_resumed_with_another_cache(cache, taught, viewed, files, capsys):
    assert main(["distill", *cached_words(files, viewed, taught, epochs=2), "--resume"]) == 2
    assert f"was begun with cache='{cache}'" in capsys.readouterr().err
