"""The README's words are what a user types, so they are run."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd
from keras_kd import objectives
from keras_kd.export import LiteRTModel

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_stand_in_the_first_screen_and_ci_runs_the_second():
    first_screen = README.splitlines()[:12]
    commands = [line.split("#")[0].strip() for line in first_screen if line.startswith("pip install")]
    assert commands == ["pip install . && keras-kd demo", 'pip install ".[test]" && pytest']
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1].replace("--quiet ", "") == commands[1]


def test_the_python_of_the_readme_distils_and_exports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 32, 28, 28, 1), "float32"), rng.integers(0, 10, (3, 32))
    keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]).save("teacher.keras")
    names = dict(zip(("x_train", "x_val", "x_test"), x, strict=True)) | dict(
        zip(("y_train", "y_val", "y_test"), y, strict=True)
    )
    live, cached, exported, learnt, assisted, several, played, spread = re.findall(
        r"```python\n(.*?)```", README, re.DOTALL
    )
    exec(live, names)
    logits = names["student"].predict(x[2], verbose=0)
    np.testing.assert_allclose(LiteRTModel(tmp_path / "saved_models/mine/student.tflite")(x[2]), logits, atol=1e-5)
    assert names["report"].keras_accuracy == np.mean(logits.argmax(-1) == y[2])

    exec(cached, names)
    shown = list(keras_kd.open_cache("caches/mine", (x[0], y[0]), augment=names["augment"]).batch(32))
    said, seen = shown[0][0].heard().outputs["output_0"], shown[0][0].x
    np.testing.assert_allclose(said, names["teacher"](seen), atol=1e-2)
    assert len(names["history"].history["soft_targets"]) == 4

    exec(exported, names)
    assert [file.agreement for file in names["report"].files[1:]] == [1.0] * 3
    assert keras_kd.export.read_labels(tmp_path / "saved_models/phone/student.tflite")[9] == "class 9"
    assert "CC BY 4.0" in (tmp_path / "saved_models/phone/report.html").read_text(encoding="utf-8")

    exec(learnt, names)
    said = names["learner"].predict(x[2], verbose=0)
    np.testing.assert_allclose(LiteRTModel(tmp_path / "saved_models/int8/student_int8.tflite")(x[2]), said, atol=1e-4)

    exec(assisted, names)
    (record,) = [record for record in names["chain"].records if record.name == names["student"].name]
    right = names["student"].predict(x[1], verbose=0).argmax(-1) == names["y_val"]
    assert record.results["accuracy"] == pytest.approx(right.mean())

    write_manifest(tmp_path, rng)
    exec(several, names)
    x, _ = next(iter(names["source"].test.batch(3)))
    file = LiteRTModel(tmp_path / "saved_models/sees/student.tflite")
    np.testing.assert_allclose(file({"image": x["image"]}), names["light"]({"image": x["image"]}), atol=1e-5)

    exec(played, names)
    logged = {name: np.array(values) for name, values in names["adversarial"].history.history.items()}
    terms = 0.3 * logged["student_loss"] + 0.7 * logged["soft_targets"] + 0.1 * logged["adversarial_loss"]
    np.testing.assert_allclose(logged["loss"], terms, rtol=1e-5)

    exec(spread, names)
    logged = {name: np.array(values) for name, values in names["shared"].history.history.items()}
    np.testing.assert_allclose(logged["loss"], 0.3 * logged["student_loss"] + 0.7 * logged["soft_targets"], rtol=1e-5)


def write_manifest(folder, rng):
    """Three examples for each split, of noise."""
    lines = ["image,audio,text,label,split"]
    for index, split in enumerate(3 * ("train", "validation", "test")):
        pixels, samples = rng.integers(0, 256, (28, 28, 1)), rng.uniform(-1, 1, (4000, 1))
        tf.io.write_file(str(folder / f"{index}.png"), tf.io.encode_png(pixels.astype("uint8")))
        tf.io.write_file(str(folder / f"{index}.wav"), tf.audio.encode_wav(samples.astype("float32"), 8000))
        lines.append(f"{index}.png,{index}.wav,word {index},{index // 3},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")


def test_every_picture_and_table_that_it_points_to_is_there():
    linked = re.findall(r"\]\(((?!https?:|#)[^)]+)\)", README)
    assert "benchmarks/results/digits/demo.png" in linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("table", "section"),
    [
        ("kdgan.md", 1),
        ("kdgan.md", 2),
        ("adversarial.md", 0),
        ("against_builtin.md", 0),
        ("assistants.md", 0),
        ("data_free.md", 0),
        ("fashion_mnist.md", 0),
        ("hinton_mnist.md", 0),
        ("hinton_mnist.md", 1),
        ("label_efficiency.md", 0),
        ("methods.md", 0),
        ("modality_focusing.md", 0),
        ("patient_teacher.md", 0),
        ("privileged.md", 0),
        ("spoken_mnist.md", 1),
        ("spoken_mnist.md", 3),
        ("quantization.md", 0),
        ("robust.md", 0),
        ("speed.md", 0),
        ("views.md", 0),
    ],
)
def test_its_tables_are_the_measured_ones(table, section):
    sections = (ROOT / "benchmarks/results" / table).read_text(encoding="utf-8").split("\n## ")
    measured = [line for line in sections[section].splitlines() if line.startswith("| ")]
    assert len(measured) > 2
    assert [line for line in measured if line not in README] == []


def test_every_method_has_its_row():
    rows = {line.split("|")[1].strip() for line in README.splitlines() if line.startswith("| ")}
    methods = {name for name in objectives.__all__ if isinstance(getattr(objectives, name), type)}
    assert methods - rows == {"BatchAffinity", "DenseGuidance", "Objective", "FromKeras", "SoftCrossEntropy"}
