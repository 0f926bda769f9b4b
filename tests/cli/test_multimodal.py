"""`keras-kd multimodal`: from a manifest of real files to a student for the phone."""

import contextlib
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from keras_kd.cli import main
from keras_kd.data.multimodal import load_vocabulary, tones_and_digits
from keras_kd.litert import LiteRTFile
from keras_kd.modalities import fusion_model
from keras_kd.plots import read_history
from tests.cli import test_chain
from tests.cli.test_bad_input import options
from tests.data.multimodal.examples import write_csv

epochs_begun = test_chain.epochs_begun

RATE, SAMPLES, LENGTH = 4000, 1000, 8
FORM = {"image": "8x8x1", "rate": RATE, "seconds": SAMPLES / RATE, "text_length": LENGTH}
SPLITS = {"train": 32, "validation": 8, "test": 16}
THREE = ("image", "audio", "text")
SUBSETS = ["image", "audio", "text", "image+audio", "image+text", "audio+text", "image+audio+text"]


def write_examples(folder):
    """A PNG, a stereo WAV and a text file for each of two classes in turn; the rows of a manifest."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in SPLITS.items():
        for index in range(count):
            label, name = index % 2, f"{split}{index}"
            pixels = rng.integers(0, 150, (8, 8), "uint8") + np.uint8(100 * label)
            Image.fromarray(pixels).save(folder / f"{name}.png")
            time = np.arange(rng.integers(600, SAMPLES + 1)) / RATE
            tone = np.sin(2 * np.pi * (500, 1200)[label] * time) + rng.normal(0, 0.2, (2, len(time)))
            wavfile.write(folder / f"{name}.wav", RATE, (8000 * tone.T).astype("int16"))
            text = f"{('low', 'high')[label]} {rng.integers(100)}"
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
            files = {"image": f"{name}.png", "audio": f"{name}.wav", "text_file": f"{name}.txt"}
            rows.append({**files, "label": ("down", "up")[label], "split": split})
    return rows


def as_arrays(folder, rows, vocabulary):
    """What the files hold, read without the package, and the labels."""
    x = {name: [] for name in THREE}
    for row in rows:
        x["image"].append(np.asarray(Image.open(folder / row["image"]), "float32")[..., None] / 255)
        _, samples = wavfile.read(folder / row["audio"])
        x["audio"].append(np.pad(samples.mean(axis=1) / 32768, (0, SAMPLES - len(samples))))
        letters = (folder / row["text_file"]).read_text()
        ids = [vocabulary.index(letter) if letter in vocabulary else 1 for letter in letters]
        x["text"].append(ids + [0] * (LENGTH - len(ids)))
    types = {"image": "float32", "audio": "float32", "text": "int32"}
    labels = np.array([row["label"] == "up" for row in rows], int)
    return {name: np.array(values, types[name]) for name, values in x.items()}, labels


def words(manifest, out, **changes):
    given = {"manifest": manifest, "out": out, "epochs": 3, "batch_size": 8, **FORM, **changes}
    return options(**{name: value for name, value in given.items() if value is not None})


def ran(manifest, out, *flags, **changes):
    """Runs the command to its end; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["multimodal", *words(manifest, out, **changes), *flags]) == 0
    return printed.getvalue()


def read(folder, name="run.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def logits_of(path, x):
    return np.asarray(keras.saving.load_model(path)(x))


def logits_of_lite(path, x):
    (logits,) = LiteRTFile(path, "test").run(x).values()
    return logits


def right(logits, labels):
    return np.mean(logits.argmax(axis=-1) == labels)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The folder of the files, and the rows of its manifest."""
    folder = tmp_path_factory.mktemp("examples")
    return folder, write_examples(folder)


@pytest.fixture(scope="module")
def manifest(rows):
    folder, listed = rows
    return write_csv(folder, listed, name="things.csv")


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    """An image-only student of a teacher of three modalities that is trained first, and what was printed."""
    out = tmp_path_factory.mktemp("runs") / "out"
    return out, ran(manifest, out, student_inputs="image")


@pytest.fixture(scope="module")
def held_out(rows, run):
    folder, listed = rows
    vocabulary = read(run[0], "vocabulary.json")["text"]["vocabulary"]
    return as_arrays(folder, [row for row in listed if row["split"] == "test"], vocabulary)


def test_everything_that_is_told_to_be_written_is_there(run):
    out, printed = run
    folder, _, names = printed.strip().splitlines()[-1].removeprefix("Written to ").partition(": ")
    assert folder == str(out)
    written = {name.rstrip("/") for name in names.split(", ")}
    assert written == {
        "teacher.keras",
        "student.keras",
        "saved_model",
        "student.tflite",
        "report.json",
        "evaluation.json",
        "run.json",
    } | {
        *("vocabulary.json", "teacher_history.csv", "student_history.csv", "curves.png"),
    }
    assert {path.name for path in out.iterdir()} == written | {"checkpoint"}
    assert Image.open(out / "curves.png").format == "PNG"


def test_a_teacher_of_three_modalities_has_learnt_and_is_on_record(run, held_out):
    (out, printed), (x, labels) = run, held_out
    record = read(out)
    accuracy = right(logits_of(out / "teacher.keras", x), labels)
    assert accuracy > 0.8
    assert record["teacher_accuracy"] == pytest.approx(accuracy)
    assert "The teacher, which sees image, audio, text, learns." in printed
    assert f"teacher (teacher): {record['teacher_parameters']:,} parameters, accuracy {accuracy:.4f}" in printed
    assert "skipped.txt" not in printed


def test_the_student_sees_images_alone_and_learns_from_labels_and_teacher(run):
    out, printed = run
    assert "The student, which sees image, learns." in printed
    record, history = read(out), read_history(out / "student_history.csv")
    assert (record["modalities"], record["class_names"]) == (["image"], ["down", "up"])
    assert (record["alpha"], record["temperature"], record["mel"], record["skipped"]) == (0.3, 4.0, "inside", 0)
    assert len(history["loss"]) == 3
    np.testing.assert_allclose(
        history["loss"], 0.3 * np.array(history["student_loss"]) + 0.7 * np.array(history["soft_targets"]), rtol=1e-5
    )


def test_the_file_for_the_phone_says_of_real_images_what_keras_says(run, held_out):
    (out, _), (x, labels) = run, held_out
    image = {"image": x["image"]}
    logits = logits_of(out / "student.keras", image)
    assert set(LiteRTFile(out / "student.tflite", "test").specs) == {"image"}
    np.testing.assert_allclose(logits_of_lite(out / "student.tflite", image), logits, atol=1e-4)
    tflite = next(file for file in read(out, "report.json")["files"] if file["file"] == "student.tflite")
    assert (tflite["examples"], tflite["agreement"]) == (16, 1.0)
    assert tflite["accuracy"] == pytest.approx(right(logits, labels))


def test_the_vocabulary_lies_beside_it(run, rows):
    text = load_vocabulary(run[0] / "vocabulary.json")["text"]
    folder, listed = rows
    texts = [(folder / row["text_file"]).read_text() for row in listed if row["split"] == "train"]
    assert (text.length, set(text.vocabulary[2:])) == (LENGTH, set("".join(texts)))


@pytest.fixture(scope="module")
def dropped(run, manifest, tmp_path_factory):
    """A student of all modalities that lost some of them in training, of the same teacher."""
    out = tmp_path_factory.mktemp("runs") / "out"
    of_teacher = {"teacher": run[0] / "teacher.keras", "vocabulary": run[0] / "vocabulary.json", "text_length": None}
    return out, ran(manifest, out, modality_dropout=0.5, **of_teacher)


def test_a_student_of_all_modalities_takes_them_by_name_on_the_phone(dropped, run, held_out):
    (out, printed), (x, _) = dropped, held_out
    assert "The teacher, which sees" not in printed
    specs = LiteRTFile(out / "student.tflite", "test").specs
    assert {name: (spec.shape[1:], spec.dtype.name) for name, spec in specs.items()} == {
        "image": ((8, 8, 1), "float32"),
        "audio": ((SAMPLES,), "float32"),
        "text": ((LENGTH,), "int32"),
    }
    logits = logits_of(out / "student.keras", x)
    np.testing.assert_allclose(logits_of_lite(out / "student.tflite", x), logits, atol=1e-4)
    assert read(out)["teacher_accuracy"] == read(run[0])["teacher_accuracy"]


def test_a_table_tells_its_accuracy_on_each_subset(dropped, held_out):
    (out, printed), (x, labels) = dropped, held_out
    table = read(out)["subsets"]
    assert list(table) == SUBSETS
    lines = printed.splitlines()
    start = lines.index("the student sees  examples  accuracy") + 1
    for line, name in zip(lines[start : start + 7], SUBSETS, strict=True):
        shown = {key: value * (key in name.split("+")) for key, value in x.items()}
        accuracy = right(logits_of_lite(out / "student.tflite", shown), labels)
        assert table[name] == {"examples": 16, "accuracy": pytest.approx(accuracy)}
        assert line.split() == [name, "16", f"{accuracy:.4f}"]


def test_interrupted_runs_go_on_in_their_stage_and_epoch(run, manifest, tmp_path, capsys, epochs_begun):
    (begun, stops), out = epochs_begun, tmp_path / "out"
    given = ["multimodal", *words(manifest, out, student_inputs="image")]
    stops.update({2: KeyboardInterrupt, 6: KeyboardInterrupt})
    for flags, role in (([], "teacher"), (["--resume"], "student")):
        assert main([*given, *flags]) == 130
        assert capsys.readouterr().err.strip().splitlines()[-1] == (
            f"keras-kd multimodal: interrupted. The {role} so far is {out / f'{role}.keras'}; the same command with "
            "--resume goes on after the last whole epoch."
        )
    assert main([*given, "--resume"]) == 0
    assert begun == [0, 1, 1, 2, 0, 1, 1, 2]
    for name in ("teacher", "student"):
        unbroken, resumed = (keras.saving.load_model(folder / f"{name}.keras") for folder in (run[0], out))
        for first, second in zip(unbroken.get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_array_equal(first, second)
        assert read_history(out / f"{name}_history.csv") == read_history(run[0] / f"{name}_history.csv")
    assert main([*given, "--resume", "--mel", "outside"]) == 2
    assert "was begun with mel='inside'. Resume it with the same." in capsys.readouterr().err


def test_the_toy_and_a_student_of_ones_own_with_a_bare_input(tmp_path):
    source = tones_and_digits()
    fusion_model(source.modalities, 10, width=4).save(tmp_path / "teacher.keras")
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save(tmp_path / "student.keras")
    given = {"teacher": tmp_path / "teacher.keras", "student": tmp_path / "student.keras", "student_inputs": "image"}
    ran("toy", tmp_path / "out", **dict.fromkeys(FORM), **given, epochs=1, batch_size=100)
    images, labels = (np.array(values) for values in zip(*((x["image"], y) for x, y in source.test), strict=True))
    logits = np.asarray(keras.saving.load_model(tmp_path / "out" / "student.keras")(images))
    report = read(tmp_path / "out", "report.json")
    assert report["keras_accuracy"] == pytest.approx(right(logits, labels))
    assert read(tmp_path / "out")["modalities"] == ["image"]
