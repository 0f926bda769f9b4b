"""`keras-kd multimodal`: rows and models that it refuses, rows that it leaves out, examples that lack a modality."""

import keras
import pytest

from keras_kd.litert import LiteRTFile
from keras_kd.modalities import fusion_model
from tests.cli import test_multimodal
from tests.cli.test_bad_input import check_refusal
from tests.cli.test_multimodal import SAMPLES, ran, read, words
from tests.data.multimodal.examples import write_csv

rows, manifest = test_multimodal.rows, test_multimodal.manifest

BAD = {
    "missing": ({"image": "no.png"}, "image {folder}/no.png does not exist. Correct the path"),
    "unreadable": (
        {"audio": "noise.wav"},
        "audio {folder}/noise.wav is not a WAV that can be read (it is not a WAV file). Replace it",
    ),
    "not UTF-8": (
        {"text_file": "latin.txt"},
        "text_file {folder}/latin.txt is not a UTF-8 text that can be read ('utf-8' codec can't decode byte 0xfc in "
        "position 2: invalid start byte). Replace it",
    ),
    "no label": ({"label": ""}, "it has no label. Fill in `label`"),
}


@pytest.fixture(scope="module")
def spoilt(rows):
    folder, _ = rows
    (folder / "noise.wav").write_bytes(b"OggS")
    (folder / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    return rows


@pytest.mark.parametrize(("changes", "fault"), BAD.values(), ids=BAD)
def test_a_bad_row_is_told_with_its_line_and_file(spoilt, tmp_path, capsys, changes, fault):
    folder, listed = spoilt
    path = write_csv(folder, [*listed[:4], {**listed[4], **changes}, *listed[5:]], name="one_bad.csv")
    out = tmp_path / "out"
    said = f"keras-kd multimodal: `from_manifest`: line 6 of {path}: {fault.format(folder=folder)}"
    check_refusal("multimodal", words(path, out), out, capsys, f"{said}, or leave such rows out by --skip-bad.")


def test_bad_rows_are_counted_and_an_example_may_lack_what_it_lacks(spoilt, tmp_path):
    folder, listed = spoilt
    listed = [dict(row) for row in listed]
    for index, (changes, _) in enumerate(BAD.values()):
        listed[2 * index].update(changes)
    tests = [row for row in listed if row["split"] == "test"]
    for row in tests[:3]:
        row["image"] = ""
    for row in tests[3:5]:
        row["image"] = row["audio"] = ""
    path, out = write_csv(folder, listed, name="lacking.csv"), tmp_path / "out"
    seen = {"image": (8, 8, 1), "audio": (1 + SAMPLES // 64, 40)}
    fusion_model(seen, 2, width=4, present=True).save(tmp_path / "teacher.keras")
    changes = {
        "teacher": tmp_path / "teacher.keras",
        "student_inputs": "image,audio",
        "modality_dropout": 0.3,
        "mel": "outside",
        "epochs": 1,
    }
    printed = ran(path, out, "--skip-bad", **changes)

    assert f"Bad rows left out: 4, listed in {out / 'skipped.txt'}." in printed
    faults = [fault.format(folder=folder) for _, fault in BAD.values()]
    told = [f"line {2 + 2 * index}: {fault}." for index, fault in enumerate(faults)]
    assert (out / "skipped.txt").read_text(encoding="utf-8").splitlines() == told
    assert [line.strip() for line in printed.splitlines() if line.startswith("  line ")] == told
    record = read(out)
    assert record["skipped"] == 4
    assert {name: row["examples"] for name, row in record["subsets"].items()} == {
        "image": 11,
        "audio": 14,
        "image+audio": 14,
    }
    specs = LiteRTFile(out / "student.tflite", "test").specs
    assert {name: tuple(spec.shape[1:]) for name, spec in specs.items()} == {
        **seen,
        "image_present": (),
        "audio_present": (),
    }
    tflite = next(file for file in read(out, "report.json")["files"] if file["file"] == "student.tflite")
    assert (tflite["examples"], tflite["agreement"]) == (14, 1.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of models that do not fit."""
    folder = tmp_path_factory.mktemp("models")

    def save(name, inputs, classes=2, activation=None):
        inputs = {key: keras.Input(shape, name=key) for key, shape in inputs.items()}
        flat = [keras.layers.Flatten()(value) for value in inputs.values()]
        joint = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
        scores = keras.layers.Dense(classes, activation=activation)(joint)
        keras.Model(inputs, scores, name=name).save(folder / f"{name}.keras")

    save("video", {"image": (8, 8, 1), "video": (4,)})
    save("large", {"image": (28, 28, 1)})
    save("ten", {"image": (8, 8, 1)}, classes=10)
    save("scores", {"image": (8, 8, 1)}, activation="softmax")
    save("fitting", {"image": (8, 8, 1)})
    (folder / "vocabulary.json").write_text("{}")
    return folder


CASES = {
    "no manifest": ({"manifest": "no.csv"}, "expected an existing .csv or .jsonl file. Received: no.csv."),
    "unknown modality": (
        {"student_inputs": "image,video"},
        "--student-inputs must be among image, audio, text, the modalities of things. Received: image,video",
    ),
    "model of another modality": (
        {"teacher": "video.keras"},
        "the teacher `video` takes 'video', but the modalities of things are image, audio, text. Give its inputs such "
        "names, or add what it lacks.",
    ),
    "model of another size": (
        {"student": "large.keras"},
        "the student `large` takes 'image' of shape (28, 28, 1), but it is (8, 8, 1) here. Change that by --image, "
        "--rate, --seconds, --text-length or --mel.",
    ),
    "class counts": ({"teacher": "ten.keras"}, "the teacher `ten` has 10 classes, but things has 2."),
    "softmax student": ({"student": "scores.keras"}, "the student must give logits"),
    "not what the student takes": (
        {"student": "fitting.keras", "student_inputs": "image,audio"},
        "the student `fitting` takes image. Received: --student-inputs image,audio. Leave it out.",
    ),
    "missing teacher": ({"teacher": "no.keras"}, "the teacher file does not exist"),
    "image size": ({"image": "28x28"}, "--image must be HxWxC, C 1 or 3, as in 28x28x1. Received: 28x28"),
    "seconds": ({"seconds": "nan"}, "--seconds must be more than 0. Received: nan"),
    "rate": ({"rate": 0}, "`Audio`: `samples` must be"),
    "too short": ({"seconds": 0.01}, "inputs must be waveforms of shape (batch, samples), of at least 65 samples."),
    "rate of dropout": ({"modality_dropout": 1.5}, "`rates` must be >= 0 and <= 1. Received: rates=1.5"),
    "dropout of the only one": (
        {"modality_dropout": 0.5, "student_inputs": "image"},
        "`rates` must be for two modalities or more, as one is always kept",
    ),
    "dropout of another student": (
        {"modality_dropout": 0.5, "student": "fitting.keras"},
        "--modality-dropout is for the student that is built here. Put a `keras_kd.ModalityDropout` layer into ",
    ),
    "alpha": ({"alpha": 3}, "`alpha` must be >= 0 and <= 1. Received: alpha=3.0"),
    "temperature": ({"temperature": 0}, "`temperature` must be > 0. Received: temperature=0.0"),
    "epochs": ({"epochs": 0}, "--epochs must be at least 1. Received: 0"),
    "vocabulary": (
        {"vocabulary": "vocabulary.json", "text_length": None},
        "--vocabulary must be that of `text`. Received: ",
    ),
    "form of the toy": (
        {"manifest": "toy", "image": None, "seconds": None},
        "--rate, --text-length are for manifests of files; the toy has a form of its own.",
    ),
}


@pytest.mark.parametrize(("changes", "text"), CASES.values(), ids=CASES)
def test_bad_input_is_told_in_one_line(manifest, models, tmp_path, capsys, changes, text):
    out, files = tmp_path / "out", (".keras", ".json")
    changes = {key: models / value if str(value).endswith(files) else value for key, value in changes.items()}
    check_refusal("multimodal", words(**{"manifest": manifest, "out": out, **changes}), out, capsys, text)


def test_nobody_has_the_only_modality_of_the_student(rows, tmp_path, capsys):
    folder, listed = rows
    lacking = [{**row, "audio": "" if row["split"] == "test" else row["audio"]} for row in listed]
    path, out = write_csv(folder, lacking, name="silent.csv"), tmp_path / "out"
    check_refusal("multimodal", words(path, out, student_inputs="audio"), out, capsys, "no test example of silent has")
