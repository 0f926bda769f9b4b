"""Broken and hostile files on the command line: exit code 2 and one line that names the file, whichever command."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_kd.cli import main
from tests.data.multimodal.examples import write_csv
from tests.hostile.damage import flipped, pickled
from tests.page import folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One file of each kind that must be refused, and a sound student and images beside them."""
    folder = tmp_path_factory.mktemp("files")
    student = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    student.save(folder / "sound.keras")
    whole = (folder / "sound.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.keras").write_bytes(flipped(whole, 3, bits=40))
    for name in ("pickle.keras", "pickle.tflite", "saved/saved_model.pb", "labels.txt", "vocabulary.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(pickled(folder / "ran") + b"\xff")
    for label in ("cat", "dog"):
        (folder / "images" / label).mkdir(parents=True)
        for index in range(4):
            image = np.full((8, 8), index, "uint8")
            Image.fromarray(image).save(folder / "images" / label / f"{index}.png")
    (folder / "images" / "dog" / "2.png").write_bytes(pickled(folder / "ran"))
    rows = [{"text": "fine", "label": label} for label in "aaabbb"]
    write_csv(folder, [*rows, {"text": "", "label": "a", "image": "../secret.png"}], name="leaving.csv")
    (folder / "deep.jsonl").write_bytes(b"[" * 200_000)
    (folder / "noise.csv").write_bytes(b'label,text\n"' + b"x" * 200_000)
    folders.write(folder / "export", history="epoch,loss\n0,1e400\n")
    (folder / "cache").mkdir()
    made = {"teacher": "t", "dataset": "digits", "input_shape": [8, 8, 1], "scale": None, "augment": None}
    (folder / "cache" / "run.json").write_text(json.dumps(made), "utf-8")
    (folder / "cache" / "manifest.json").write_bytes(b"[" * 200_000)
    (folder / "odd cache").mkdir()
    (folder / "odd cache" / "run.json").write_text(json.dumps({**made, "input_shape": [10**9, 10**9, 1]}), "utf-8")
    return folder


STUDENT, DIGITS = "--student {}/sound.keras ", "--dataset digits "
CASES = {
    "a cut teacher": ("distill", STUDENT + DIGITS + "--teacher {}/cut.keras", "the teacher file is damaged"),
    "a flipped student": ("export", "--student {}/flipped.keras", "{}/flipped.keras"),
    "a pickled teacher": ("distill", STUDENT + DIGITS + "--teacher {}/pickle.keras", "{}/pickle.keras"),
    "a pickled assistant": ("chain", STUDENT + DIGITS + "--teacher {}/pickle.keras", "{}/pickle.keras"),
    "a pickled TFLite teacher": ("cache", DIGITS + "--teacher {}/pickle.tflite", "{}/pickle.tflite"),
    "a pickled SavedModel": ("cache", DIGITS + "--teacher {}/saved", "'{}/saved' cannot be loaded"),
    "pickled labels": ("export", STUDENT + "--labels {}/labels.txt", "--labels must be a text file in UTF-8"),
    "a pickled image": ("distill", STUDENT + "--teacher {}/sound.keras --dataset {}/images", "images/dog/2.png"),
    "a manifest that leaves": (
        "multimodal",
        "--manifest {}/leaving.csv",
        "outside of {}. Copy it there, or give a folder of all by --root",
    ),
    "a deep manifest": ("multimodal", "--manifest {}/deep.jsonl", "it is nested too deep"),
    "an endless cell": ("multimodal", "--manifest {}/noise.csv", "{}/noise.csv"),
    "a pickled vocabulary": ("multimodal", "--manifest {}/leaving.csv --vocabulary {}/vocabulary.json", "vocabulary"),
    "a deep cache": ("distill", STUDENT + "--cache {}/cache", "manifest.json is damaged"),
    "a cache of huge inputs": ("distill", STUDENT + "--cache {}/odd:cache", "odd cache has no run.json"),
    "a table of infinities": ("report", "{}/export", "history.csv: `loss` in row 1 must be a finite number"),
}


def words_of(case, folder, out):
    command, words, text = case
    words = [word.format(folder, folder).replace(":cache", " cache") for word in words.split()]
    return [command, *words, *([] if command == "report" else ["--out", str(out)])], text.replace("{}", str(folder))


@pytest.mark.parametrize("name", CASES)
def test_each_is_told_in_one_line(name, folder, tmp_path, capsys):
    words, text = words_of(CASES[name], folder, tmp_path / "out")
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in said if line.startswith(f"keras-kd {words[0]}: ")]
    assert len(lines) == 1
    assert text in lines[0]
    assert len(lines[0]) < 800
    assert "Traceback" not in "\n".join(said)
    assert not (tmp_path / "out").exists()
    assert not (folder / "ran").exists()


@pytest.mark.slow
def test_a_process_of_its_own_ends_with_code_2_and_no_traceback(folder, tmp_path):
    words, text = words_of(CASES["a pickled teacher"], folder, tmp_path / "out")
    command = [sys.executable, "-m", "keras_kd.cli", *words]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 2
    assert text in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (folder / "ran").exists()
