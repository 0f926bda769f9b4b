"""`keras-kd adversarial`: it plays the game it is told, saves the student alone, resumes, and refuses."""

import contextlib
import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd import AdversarialDistiller, data, export_student
from keras_kd.cli import main
from keras_kd.export import LiteRTModel
from keras_kd.plots import read_history
from tests.cli.test_bad_input import cached_words, caching_words, options
from tests.cli.test_bad_input import words as all_words

EPOCHS = 3
# None of them a default, so that one that goes astray is missed.
GAME = {"mode": "gan", "adversarial_weight": 0.5, "discriminator_steps": 2, "label_smoothing": 0.1}
ASKED = {**GAME, "alpha": 0.4, "temperature": 2.0, "seed": 1, "discriminator_learning_rate": 0.01}
FLAGS = ("--on", "wide,narrow", "--spectral-normalization")
layers = keras.layers


def network(name, hidden, width, activation=None):
    body = [layers.Flatten(name="flat"), layers.Dense(width, activation="relu", name=hidden)]
    head = layers.Dense(10, activation=activation, name="head")
    return keras.Sequential([keras.Input((8, 8, 1), name="input"), *body, head], name=name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with `teacher.keras`, `student.keras`, and models that some games refuse."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    network("large", "wide", 16).save(folder / "teacher.keras")
    network("small", "narrow", 6).save(folder / "student.keras")
    network("large", "wide", 16, "softmax").save(folder / "softmax.keras")
    return folder


def words(files, out, **changes):
    return all_words(files, out, **{"epochs": EPOCHS, "batch_size": 400, **changes})


def played(*arguments):
    """Runs the command to its end; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["adversarial", *arguments]) == 0
    return printed.getvalue()


def by_hand(files, *, seed, rate, batch_size=400, teacher=None, **arguments):
    """A distiller of so many epochs over the digits, without the command, and its history."""
    student = keras.saving.load_model(files / "student.keras")
    keras.utils.set_random_seed(seed)
    # To load it draws numbers, on which the discriminator's first weights depend.
    teacher = keras.saving.load_model(files / "teacher.keras") if teacher is None else teacher
    distiller = AdversarialDistiller(student, teacher, **arguments)
    train = data.pipeline(data.load("digits").train, training=True, batch_size=batch_size, seed=seed)
    distiller.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * len(train))),
        keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    endless = {"epochs": EPOCHS, "steps_per_epoch": len(train), "shuffle": False, "verbose": 0}
    return distiller, distiller.fit(train.repeat(), **endless).history


def assert_same_weights(folder, student):
    saved = keras.saving.load_model(folder / "student.keras").get_weights()
    for expected, received in zip(student.get_weights(), saved, strict=True):
        np.testing.assert_array_equal(received, expected)


@contextlib.contextmanager
def interrupted_at(stop):
    """Ctrl-C at the beginning of an epoch; what is told on stderr."""
    told, on_epoch_begin = io.StringIO(), keras.callbacks.CallbackList.on_epoch_begin

    def begin_epoch(self, epoch, logs=None):
        if epoch == stop:
            raise KeyboardInterrupt
        on_epoch_begin(self, epoch, logs)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(told):
        patch.setattr(keras.callbacks.CallbackList, "on_epoch_begin", begin_epoch)
        yield told


@pytest.fixture(scope="module")
def interrupted(files, tmp_path_factory):
    """What is told of a run that is interrupted at its last epoch; its folder, what it had written, and its words."""
    out = tmp_path_factory.mktemp("runs") / "out"
    given = [*words(files, out, **ASKED), *FLAGS]
    with interrupted_at(EPOCHS - 1) as told:
        assert main(["adversarial", *given]) == 130
    return told.getvalue(), out, {path.name for path in out.iterdir()}, given


@pytest.fixture(scope="module")
def run(interrupted):
    """The folder of the same run, which went on, and what was printed."""
    _, out, _, given = interrupted
    return out, played(*given, "--resume")


def test_ctrl_c_leaves_the_student_so_far(interrupted):
    told, out, written, _ = interrupted
    assert told.strip().splitlines()[-1] == (
        f"keras-kd adversarial: interrupted. The student so far is {out / 'student.keras'}; the same command with "
        "--resume goes on after the last whole epoch."
    )
    assert written == {"student.keras", "run.json", "history.csv", "checkpoint"}


def test_a_run_that_went_on_is_that_of_the_distiller_unbroken_with_the_same_settings(run, files):
    settings = {**GAME, "alpha": 0.4, "temperature": 2.0, "on": ("wide", "narrow"), "spectral_normalization": True}
    distiller, history = by_hand(files, seed=1, rate=0.01, **settings)
    assert_same_weights(run[0], distiller.student)
    received = read_history(run[0] / "history.csv")
    assert {name: received[name] for name in history} == history


def test_in_kdgan_the_teacher_plays_too_and_its_file_stays(files, tmp_path):
    before = (files / "teacher.keras").read_bytes()
    played(*words(files, tmp_path / "out", mode="kdgan", epochs=1))
    assert (files / "teacher.keras").read_bytes() == before
    history = {name: value for name, (value,) in read_history(tmp_path / "out" / "history.csv").items()}
    taught = 0.3 * history["student_loss"] + 0.7 * history["soft_targets"]
    assert history["loss"] == pytest.approx(taught + 0.1 * history["adversarial_loss"], rel=1e-5)
    # Of a discriminator that knows nothing yet: 0.5 log(1 - 0.5) for the student, 0.1 of that for the teacher.
    assert history["adversarial_loss"] == pytest.approx(0.5 * np.log(0.5), rel=0.1)
    assert history["teacher_loss"] == pytest.approx(0.05 * np.log(0.5), rel=0.1)


def test_history_adds_up_to_the_total_and_the_end_of_the_game_is_told(run):
    out, printed = run
    history = {name: np.array(values) for name, values in read_history(out / "history.csv").items()}
    assert len(history["loss"]) == EPOCHS
    taught = 0.4 * history["student_loss"] + 0.6 * history["soft_targets"]
    np.testing.assert_allclose(history["loss"], taught + 0.5 * history["adversarial_loss"], rtol=1e-5)
    assert printed.splitlines()[-1] == (
        f"The game in its last epoch: adversarial loss {history['adversarial_loss'][-1]:.4f}, discriminator loss "
        f"{history['discriminator_loss'][-1]:.4f}, discriminator accuracy {history['discriminator_accuracy'][-1]:.4f}."
    )


def test_settings_are_on_record_with_the_teachers_accuracy(run, files):
    record = json.loads((run[0] / "run.json").read_text())
    _, (x_test, y_test) = data.digits()
    named = keras.saving.load_model(files / "teacher.keras").predict(x_test, verbose=0).argmax(-1)
    asked = {**ASKED, "on": "wide,narrow", "spectral_normalization": True, "epochs": EPOCHS, "batch_size": 400}
    assert {name: record[name] for name in asked} == asked
    assert record["teacher_accuracy"] == pytest.approx(np.mean(named == y_test))


def test_tflite_file_says_what_the_keras_file_says(run):
    _, (x_test, _) = data.digits()
    logits = keras.saving.load_model(run[0] / "student.keras").predict(x_test, verbose=0)
    np.testing.assert_allclose(LiteRTModel(run[0] / "student.tflite")(x_test), logits, atol=1e-5)


def test_no_file_holds_more_than_the_student(run, tmp_path):
    out, shapes = run[0], [(6,), (6, 10), (10,), (64, 6)]
    assert {path.name for path in out.iterdir()} == {
        *("student.keras", "saved_model", "student.tflite", "report.json", "run.json", "history.csv", "curves.png"),
        *("checkpoint", "evaluation.json", "labels.txt"),
    }
    assert arrays_of_keras_file(out / "student.keras") == shapes
    assert arrays_of_saved_model(out / "saved_model") == shapes
    export_student(keras.saving.load_model(out / "student.keras"), tmp_path, formats="tflite")
    # What follows in an archive is no part of the model: names of the teacher, the objectives and the classes.
    files = ((folder / "student.tflite").read_bytes().partition(b"PK\x03\x04") for folder in (out, tmp_path))
    of_run, alone = (model for model, _, _ in files)
    assert len(of_run) == len(alone)


def arrays_of_keras_file(path):
    shapes = []
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda _, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    return sorted(shapes)


def arrays_of_saved_model(path):
    listed = tf.train.list_variables(str(path / "variables" / "variables"))
    return sorted(tuple(shape) for name, shape in listed if name.startswith("_all_variables/"))


@pytest.fixture(scope="module")
def cache(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches") / "cache"
    assert main(["cache", *caching_words(files, folder, dtype="float32")]) == 0
    return folder


def test_a_cache_and_the_defaults_play_as_the_distiller_with_its_teacher(files, cache, tmp_path):
    # In one batch, since the two draw other orders.
    played(*cached_words(files, cache, tmp_path / "out", batch_size=2000, epochs=EPOCHS))
    teacher = keras.saving.load_model(files / "teacher.keras")
    _, history = by_hand(files, seed=0, rate=1e-4, batch_size=2000, teacher=teacher)
    received = read_history(tmp_path / "out" / "history.csv")
    assert {"adversarial_loss", "discriminator_loss", "discriminator_accuracy", "soft_targets"} <= set(history)
    for name, expected in history.items():
        np.testing.assert_allclose(received[name], expected, rtol=1e-5, err_msg=name)


def assert_refused(arguments, out, capsys, text):
    assert main(["adversarial", *arguments]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-kd")]
    assert told == [f"keras-kd adversarial: {text}"]
    assert not out.exists()


OWNER, THREE = "`AdversarialDistiller`", "`ThreePlayerDistiller`"
CASES = {
    "rate": ({"discriminator_learning_rate": 0}, "--discriminator-learning-rate must be > 0. Received: 0"),
    "steps": (
        {"discriminator_steps": 0},
        f"{OWNER}: `discriminator_steps` must be an integer >= 1. Received: discriminator_steps=0. For one update in "
        "two steps give the discriminator's optimizer `gradient_accumulation_steps=2`.",
    ),
    "smoothing": (
        {"label_smoothing": 0.1, "mode": "hinge"},
        f"{OWNER}: the discriminator of `Hinge` has no labels to smooth. Received: label_smoothing=0.1. Leave it out, "
        "or take mode='gan', 'ac' or 'anc'.",
    ),
    "three layers": (
        {"on": "a,b,c"},
        f"{OWNER}: `on` must be 'logits', a tap of both models, or a pair of taps, the teacher's first. Received: "
        "on=['a', 'b', 'c'].",
    ),
    "unknown layer of the teacher": (
        {"on": "narrow"},
        "Tap 'narrow': `large` has no layer `narrow`. Its layers: input, flat, wide, head. Its named tensors: none.",
    ),
    "unknown layer of the student": (
        {"on": "wide,wide"},
        "Tap 'wide': `small` has no layer `wide`. Its layers: input, flat, narrow, head. Its named tensors: none.",
    ),
    "layers for three players": (
        {"on": "wide,narrow", "mode": "kdgan"},
        f"{THREE}: the three players give labels, on='logits'. Received: on=['wide', 'narrow'].",
    ),
    "probabilities for three players": (
        {"teacher": "softmax.keras", "mode": "kdgan"},
        f"{THREE}: the teacher learns from its logits, and is saved. Received: `large` with outputs='probabilities', "
        "preprocess=None. Give a model that ends in logits and has the preprocessing inside.",
    ),
    "no such file": ({"teacher": "no.keras"}, "the teacher file does not exist: {files}/no.keras"),
}


@pytest.mark.parametrize(("changes", "text"), CASES.values(), ids=CASES)
def test_bad_input_is_told_in_one_line(files, tmp_path, capsys, changes, text):
    given = {name: files / value if str(value).endswith(".keras") else value for name, value in changes.items()}
    out = tmp_path / "out"
    assert_refused(words(files, out, **given), out, capsys, text.replace("{files}", str(files)))


CACHED_CASES = {
    "anc": (
        f"{OWNER}: `ANC` judges what goes into the last layer, and the teacher does not tell which that is: it is not "
        "built, has no graph or several outputs, or is not there. Name the layers, the teacher's first, as in "
        "`on=('head:input', 'head:input')`."
    ),
    "kdgan": f"{THREE}: a teacher that learns cannot be read from a cache. Give the model as `teacher`.",
}


@pytest.mark.parametrize(("mode", "text"), CACHED_CASES.items(), ids=CACHED_CASES)
def test_what_a_cache_cannot_play_is_told_in_one_line(files, cache, tmp_path, capsys, mode, text):
    out = tmp_path / "out"
    assert_refused(cached_words(files, cache, out, mode=mode), out, capsys, text)


def test_an_unknown_mode_is_argparse_error_2(files, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["adversarial", *words(files, tmp_path / "out", mode="wgan")])
    assert stop.value.code == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("keras-kd adversarial: error: argument --mode: invalid choice: 'wgan' (choose from ")
    )


@pytest.mark.parametrize(("command", "more"), [("distill", []), ("adversarial", [*options(mode="ac"), *FLAGS])])
def test_another_game_does_not_go_on_with_a_run(run, files, capsys, command, more):
    shared = {name: ASKED[name] for name in ("alpha", "temperature", "seed")}
    own = {name: value for name, value in ASKED.items() if name not in shared and name != "mode" and more}
    assert main([command, *words(files, run[0], **shared, **own), *more, "--resume"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"keras-kd {command}: the run in {run[0]} was begun with mode='gan'. Resume it with the same."
    )
