"""`keras-kd chain`: what each hop leaves behind, that it goes on after an interruption, and what it refuses."""

import contextlib
import io
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_kd import data, open_cache
from keras_kd.cli import main
from keras_kd.cli.runs import CHAIN, CHECKPOINT, begin
from keras_kd.export import LiteRTModel
from tests.cli.test_bad_input import check_refusal, found, options

TRAINED_ON = 1167
layers = keras.layers


def network(name, width, shape=(8, 8, 1), activation=None):
    hidden = [layers.Flatten(), layers.Dense(width, activation="relu")]
    return keras.Sequential([keras.Input(shape), *hidden, layers.Dense(10, activation=activation)], name=name)


@pytest.fixture(scope="module")
def networks(files, tmp_path_factory):
    """The files that `keras-kd` refuses, beside a chain of three."""
    folder = shutil.copytree(files, tmp_path_factory.mktemp("chains") / "models")
    keras.utils.set_random_seed(0)
    for name, width in (("large", 48), ("middle", 24), ("small", 12)):
        network(name, width).save(folder / f"{name}.keras")
    network("elsewhere", 8, (12, 12, 3)).save(folder / "elsewhere.keras")
    return folder


def words(networks, out, **changes):
    named = {"teacher": "large", "assistant": "middle", "student": "small"}
    given = {role: networks / f"{name}.keras" for role, name in named.items()}
    given |= {"dataset": "digits", "out": out, "epochs": 2, **changes}
    return options(**{key: value for key, value in given.items() if value is not None})


def chained(networks, out, *flags, **changes):
    """Runs the command to its end; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["chain", *words(networks, out, **changes), *flags]) == 0
    return printed.getvalue()


def read(folder, name="run.json"):
    return json.loads((folder / name).read_text())


def unseen():
    return data.digits()[1]


def predicted(path, x):
    return keras.saving.load_model(path).predict(x, verbose=0)


def right(path, x, y):
    return np.mean(predicted(path, x).argmax(-1) == y)


@pytest.fixture(scope="module")
def run(networks, tmp_path_factory):
    """A folder, and what was printed while it was filled."""
    out = tmp_path_factory.mktemp("runs") / "out"
    return out, chained(networks, out)


def test_each_model_learns_from_the_one_before_it(run):
    _, printed = run
    hops = [line for line in printed.splitlines() if line.startswith("Hop ")]
    assert hops == ["Hop 1 of 2: middle learns from large.", "Hop 2 of 2: small learns from middle."]


def test_everything_that_is_told_to_be_written_is_there(run):
    out, printed = run
    folder, _, names = printed.strip().splitlines()[-1].removeprefix("Written to ").partition(": ")
    assert folder == str(out)
    written = {name.rstrip("/") for name in names.split(", ")}
    assert written == {"1_middle.keras", "2_small.keras", "student.keras", "saved_model", "student.tflite"} | {
        *("report.json", "evaluation.json", "run.json", "history.json", "summary.txt", "curves.png"),
    }
    assert {path.name for path in out.iterdir()} == written | {CHAIN}
    assert Image.open(out / "curves.png").format == "PNG"
    assert (out / "summary.txt").read_text() in printed


def test_figures_on_record_are_those_of_the_files(run, networks):
    out, _ = run
    (x, y), (x_test, y_test) = data.digits()
    x, y = x[TRAINED_ON:], y[TRAINED_ON:]
    teacher = predicted(networks / "large.keras", x).argmax(-1)
    record = read(out)
    assert record["teacher_accuracy"] == pytest.approx(right(networks / "large.keras", x_test, y_test))
    assert [hop["file"] for hop in record["hops"]] == ["1_middle.keras", "2_small.keras"]
    for hop, width in zip(record["hops"], (24, 12), strict=True):
        assert hop["parameters"] == 65 * width + (width + 1) * 10
        assert hop["accuracy"] == pytest.approx(right(out / hop["file"], x_test, y_test))
        assert hop["validation"]["accuracy"] == pytest.approx(right(out / hop["file"], x, y))
        agreed = predicted(out / hop["file"], x).argmax(-1) == teacher
        assert hop["validation"]["agreement"] == pytest.approx(np.mean(agreed))


def test_validation_examples_have_chosen_the_weights(run):
    out, _ = run
    histories = read(out, "history.json")
    assert list(histories) == ["1_middle", "2_small"]
    for hop, history in zip(read(out)["hops"], histories.values(), strict=True):
        assert len(history["loss"]) == 2
        assert hop["best_epoch"] == np.argmax(history["val_accuracy"])
        assert hop["validation"]["accuracy"] == pytest.approx(max(history["val_accuracy"]))


def test_settings_are_on_record(run, networks):
    record = read(run[0])
    assert (record["teacher"], record["student"]) == (str(networks / "large.keras"), str(networks / "small.keras"))
    assert record["assistant"] == [str(networks / "middle.keras")]
    numbers = ("epochs", "alpha", "temperature", "batch_size", "seed", "dense", "cache", "train_teacher")
    assert [record[name] for name in numbers] == [2, 0.3, 4.0, 128, 0, False, False, False]


def test_the_phone_gets_what_the_last_hop_made(run):
    (out, _), (x, y) = run, unseen()
    logits = predicted(out / "2_small.keras", x)
    np.testing.assert_array_equal(predicted(out / "student.keras", x), logits)
    np.testing.assert_allclose(LiteRTModel(out / "student.tflite")(x), logits, atol=1e-4)
    tflite = next(file for file in read(out, "report.json")["files"] if file["file"] == "student.tflite")
    assert tflite["accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == y))


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


@pytest.fixture
def epochs_begun(monkeypatch):
    """The epochs that were begun, and what to raise at the n-th of them."""
    begun, stops, on_epoch_begin = [], {}, keras.callbacks.CallbackList.on_epoch_begin

    def begin_epoch(self, epoch, logs=None):
        begun.append(epoch)
        if len(begun) in stops:
            raise stops.pop(len(begun))
        on_epoch_begin(self, epoch, logs)

    monkeypatch.setattr(keras.callbacks.CallbackList, "on_epoch_begin", begin_epoch)
    return begun, stops


def test_a_killed_and_an_interrupted_chain_go_on_in_their_hop_and_epoch(run, networks, tmp_path, capsys, epochs_begun):
    (begun, stops), out = epochs_begun, tmp_path / "out"
    stops[2] = Killed
    with pytest.raises(Killed):
        main(["chain", *words(networks, out)])
    assert begun == [0, 1]

    begun.clear()
    stops[3] = KeyboardInterrupt
    assert main(["chain", *words(networks, out), "--resume"]) == 130
    assert begun == [1, 0, 1]
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "keras-kd chain: interrupted. Models that are done: 1_middle.keras. The same command with --resume goes on "
        "after the last whole epoch."
    )
    done = predicted(out / "1_middle.keras", unseen()[0])

    begun.clear()
    chained(networks, out, "--resume")
    assert begun == [1]
    np.testing.assert_array_equal(predicted(out / "1_middle.keras", unseen()[0]), done)
    first, resumed = (read(folder, "history.json")["1_middle"] for folder in (run[0], out))
    assert {name: values[0] for name, values in resumed.items()} == {name: values[0] for name, values in first.items()}
    assert [len(history["loss"]) for history in read(out, "history.json").values()] == [2, 2]
    assert read(out)["hops"][1]["accuracy"] == pytest.approx(right(out / "2_small.keras", *unseen()))


@pytest.fixture(scope="module")
def trained_cached_dense(networks, tmp_path_factory):
    """A folder, and what was printed while it was filled."""
    out = tmp_path_factory.mktemp("runs") / "out"
    return out, chained(networks, out, "--train-teacher", "--cache", "--dense", epochs=1, batch_size=16)


def test_an_untrained_teacher_is_trained_first(trained_cached_dense, networks):
    out, printed = trained_cached_dense
    assert "Hop 0 of 2: large learns from the labels." in printed
    record = read(out)
    assert [hop["file"] for hop in record["hops"]] == ["0_large.keras", "1_middle.keras", "2_small.keras"]
    accuracy = right(out / "0_large.keras", *unseen())
    assert record["teacher_accuracy"] == record["hops"][0]["accuracy"] == pytest.approx(accuracy)
    assert accuracy > right(networks / "large.keras", *unseen()) + 0.2


def test_all_larger_models_are_asked_once(trained_cached_dense):
    out, printed = trained_cached_dense
    assert "Hop 2 of 2: small learns from large and middle." in printed
    objectives = [kind for ((kind, _),) in read(out / CHAIN, "chain.json")["objectives"]]
    assert objectives == ["DenseGuidance", "DenseGuidance"]
    (x, _), _ = data.digits()
    caches = sorted((out / CHAIN / "signals").iterdir())
    for cache, file in zip(caches, ("0_large.keras", "1_middle.keras"), strict=True):
        batches = open_cache(cache, data.load("digits").train.batch(500))
        kept = np.concatenate([next(iter(batch.signals.values()))["logits"] for batch, _ in batches])
        np.testing.assert_allclose(kept, predicted(out / file, x[:TRAINED_ON]), atol=2e-3)  # kept as float16


def test_without_assistants_the_teacher_that_was_trained_teaches_the_student(networks, tmp_path):
    out = tmp_path / "out"
    printed = chained(networks, out, "--train-teacher", assistant=None, epochs=1, batch_size=TRAINED_ON)
    assert "Hop 1 of 1: small learns from large." in printed
    record = read(out)
    assert record["assistant"] == []
    trained, student = (right(out / file, *unseen()) for file in ("0_large.keras", "1_small.keras"))
    assert [hop["accuracy"] for hop in record["hops"]] == pytest.approx([trained, student])


def test_of_a_softmax_teacher_and_an_assistant_the_mean_teaches(networks, tmp_path):
    out, teacher = tmp_path / "out", networks / "softmax.keras"
    printed = chained(networks, out, "--ensemble", teacher=teacher, epochs=1)
    assert f"small learns from {keras.saving.load_model(teacher).name} and middle." in printed
    chain = read(out / CHAIN, "chain.json")
    assert chain["dense"] == "ensemble"
    assert [kind for ((kind, _),) in chain["objectives"]] == ["SoftTargets", "SoftTargets"]
    assert read(out)["teacher_accuracy"] == pytest.approx(right(teacher, *unseen()))


CASES = {
    "missing assistant": ({"assistant": "no.keras"}, "the assistant file does not exist"),
    "damaged": ({"assistant": "cut.keras"}, "the assistant file is damaged, or no `.keras` file at all"),
    "class counts": ({"assistant": "seven_classes.keras"}, "has 7 classes, but the data set digits has 10"),
    "input shapes": (
        {"assistant": "elsewhere.keras"},
        "all models of a chain must take inputs of the same shape. Received: the teacher `large` (8, 8, 1), the "
        "assistant `elsewhere` (12, 12, 3), the student `small` (8, 8, 1). `keras-kd distill` fits the inputs to each "
        "of two models.",
    ),
    "softmax student": ({"student": "softmax.keras"}, "the student must give logits"),
    "softmax assistant": ({"assistant": "softmax.keras"}, "the student must give logits"),
    "alpha": ({"alpha": 3}, "`alpha` must be >= 0 and <= 1. Received: alpha=3.0"),
    "temperature": ({"temperature": 0}, "`temperature` must be > 0. Received: temperature=0.0"),
    "epochs": ({"epochs": 0}, "--epochs must be at least 1. Received: 0"),
    "batch size": ({"batch_size": 0}, "--batch-size must be at least 1. Received: 0"),
}


@pytest.mark.parametrize(("changes", "text"), CASES.values(), ids=CASES)
def test_bad_input_is_told_in_one_line(networks, tmp_path, capsys, changes, text):
    out = tmp_path / "out"
    check_refusal("chain", words(networks, out, **found(networks, changes)), out, capsys, text)


def test_a_teacher_that_ends_in_softmax_is_not_trained(networks, tmp_path, capsys):
    given = [*words(networks, tmp_path / "out", teacher=networks / "softmax.keras"), "--train-teacher"]
    check_refusal("chain", given, tmp_path / "out", capsys, "the student must give logits")


def test_all_and_the_mean_of_all_exclude_each_other(networks, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["chain", *words(networks, tmp_path / "out"), "--dense", "--ensemble"])
    assert stop.value.code == 2
    assert "argument --ensemble: not allowed with argument --dense" in capsys.readouterr().err


def test_an_existing_folder_is_left_alone(networks, run, capsys):
    out, _ = run
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for flags, text in (
        ([], "the output folder exists"),
        (["--resume", "--alpha", "0.9"], "was begun with alpha=0.3. Resume it with the same."),
        (["--resume", "--dense"], "was begun with dense=False. Resume it with the same."),
    ):
        assert main(["chain", *words(networks, out), *flags]) == 2
        assert text in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_one_command_does_not_resume_the_run_of_another(networks, run, tmp_path, capsys):
    given = {"teacher": networks / "large.keras", "student": networks / "small.keras", "dataset": "digits"}
    assert main(["distill", *options(**given, epochs=2, out=run[0]), "--resume"]) == 2
    assert f"there is no run to resume in {run[0]}" in capsys.readouterr().err
    begin(tmp_path, {"of": "distill"}, resume=False)
    assert main(["chain", *words(networks, tmp_path), "--resume"]) == 2
    assert f"there is no run to resume in {tmp_path}" in capsys.readouterr().err


def test_a_new_run_forgets_how_far_the_one_before_had_come(tmp_path):
    for state, other in ((CHECKPOINT, CHAIN), (CHAIN, CHECKPOINT)):
        begin(tmp_path, {}, resume=False, state=state)
        (tmp_path / state / "left").touch()
        begin(tmp_path, {}, resume=False, state=other)
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [other]
        assert not any((tmp_path / other).iterdir())
