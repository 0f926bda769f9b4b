"""Every notebook runs from top to bottom, in its fast mode, shows what it promises, and is stored without outputs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import keras_kd as kd
from keras_kd.export import LiteRTModel
from tests.notebook_few_labels import check_few_labels
from tests.notebook_to_mobile import check_to_mobile

FOLDER = Path(__file__).parents[1] / "notebooks"


def check_quickstart(printed):
    assert re.search(r"^teacher: 151,306 weights", printed, re.MULTILINE)
    assert list(numbers(r"^(alone|distilled) +([\d.]+)%$", printed)) == ["alone", "distilled"]


def check_methods(printed):
    """In both modes and with four seeds, soft targets and SimKD were ahead of the student alone by 8 points or more."""
    by_method = numbers(r"^(\S.*?) +[\d,]+ +([\d.]+) +[\d.]+$", printed)
    assert set(by_method) > {"alone", "soft targets", "attention transfer", "similarity preserving", "SimKD"}
    assert all(10 < accuracy <= 100 for accuracy in by_method.values())
    assert min(by_method["soft targets"], by_method["SimKD"]) > by_method["alone"]

    ahead = sum(accuracy > by_method["alone"] for accuracy in by_method.values())
    first = max(by_method, key=by_method.get)
    assert f"{ahead} of the {len(by_method) - 1} methods are ahead of the student alone. First is {first}," in printed

    distances = numbers(r"^distance of maps, (\S.*?) +([\d.]+)$", printed)
    assert min(distances, key=distances.get) == "attention transfer"

    (best,) = re.findall(r"^best on validation: (.*),", printed, re.MULTILINE)
    assert round(100 * accuracy_of_report(printed), 1) == by_method[best]


def check_cached_teacher(printed):
    """Caches of 4 and 16 views were ahead of the student alone by 5 points or more, and so was the teacher live."""
    check_cache_on_disk(printed)
    check_refusals(printed)

    processor = numbers(r"^(alone|live|cached) +\d+ +(\d+)$", printed)
    assert processor["cached"] < processor["live"]

    asked = numbers(r"^(\S.*?) +([\d,]+) +[\d.]+ +[\d.]+$", printed)
    assert asked == {"alone": 0, "1 view": 200, "4 views": 800, "16 views": 3200, "live": 200 * 32}
    by_teacher = numbers(r"^(\S.*?) +[\d,]+ +[\d.]+ +([\d.]+)$", printed)
    assert min(by_teacher[name] for name in ("4 views", "16 views", "live")) > by_teacher["alone"]

    (best,) = re.findall(r"^best on validation: (.*),", printed, re.MULTILINE)
    assert round(100 * accuracy_of_report(printed), 1) == by_teacher[best]


def check_cache_on_disk(printed):
    """A view is a seed of 4 bytes and ten classes; an answer is that of its own digit, within what float16 rounds."""
    assert "saved_models/cached_teacher/16_views: what `teacher` says of 16 views of 200 examples, 384 bytes" in printed
    difference = numbers(r"^(?:largest difference, )?(\S.*?) {2,}([\d.]+)$", printed)
    assert difference["own digit"] <= difference["float16 may round by up to"] + 1e-4
    assert difference["next digit"] > 1

    kept = re.findall(r"^(\S+) +(\d+) ((?: {6}| +\d+\.\d){11})$", printed, re.MULTILINE)
    sizes = {"float32": 4 + 40, "float16": 4 + 20, "int8": 4 + 10 + 4, "top_k=3": 4 + 12, "samples=8": 4 + 8}
    assert {name: int(size) for name, size, _ in kept} == sizes
    percentages = {name: [float(value) for value in row.split()] for name, _, row in kept}
    np.testing.assert_allclose([sum(values) for values in percentages.values()], 100, atol=0.55)  # ten roundings
    highest = [sorted(percentages["float32"])[-3:], sorted(percentages["top_k=3"][:-1])]
    np.testing.assert_allclose(*highest, atol=0.101)  # float16 beside float32, each rounded to a tenth


def check_refusals(printed):
    assert (
        "`open_cache`: saved_models/cached_teacher/16_views is the cache of another data set, or of another order of "
        "it. Open it with the source in the order that the teacher saw, and shuffle afterwards; or give `tfds_id`s. "
        "The first is example "
    ) in printed
    assert (
        "`SoftTargets`: the cache holds what the teacher said at temperature 4, and nothing else can be told from it. "
        "Received: temperature=2. Use 4, or make a cache with `cache_teacher(..., temperature=2)`.\n"
    ) in printed


def check_teacher_assistants(printed):
    """Whether an assistant helps is not promised, but that what is said of it follows from the figures above it."""
    assert re.search(r"^teacher: 85,002 weights, .*\nstudent: 330 weights, ", printed, re.MULTILINE)
    (planned,) = set(re.findall(r"^assistant +\S+ +([\d,]+) +-$", printed, re.MULTILINE))
    assert int(planned.replace(",", "")) == pytest.approx(np.sqrt(85_002 * 330), rel=0.01)
    assert "\n3 trainings. The 2 chains, one by one, would take 3.\n" in printed

    ways = ["256 → 4", "256 → 44 → 4", "256 → 44 → 4, dense"]
    validated = numbers(r"^(256 .*?) +(\d+\.\d) +\d+\.\d +\d+\.\d$", printed)
    tested = numbers(r"^(256 .*?|labels alone) +(\d+\.\d) +\d+\.\d +\d$", printed)
    trained = numbers(r"^(256 .*?|labels alone) +\d+\.\d +\d+\.\d +(\d)$", printed)
    assert list(validated) == ways
    assert trained == dict(zip(["labels alone", *ways], (1, 1, 2, 2), strict=True))

    best = max(validated, key=validated.get)
    assert f"\nbest on validation: {best}\n" in printed
    assert round(100 * accuracy_of_report(printed), 1) == tested[best]
    (of_student,) = re.findall(r"^mlp_4 +330 +1\.3 +(\S+) ", printed, re.MULTILINE)
    assert round(100 * float(of_student), 1) == validated[best]
    check_verdict(printed, best, tested[best] - tested["256 → 4"])


def check_verdict(printed, best, gain):
    verdict = "It helped with every seed, of 1." if gain > 0 else "It did not help: validation chose it, and the test"
    expected = "No assistant is needed here:" if best == "256 → 4" else verdict
    (said,) = re.findall(r"^(?:No assistant|It (?:helped|did not)).*", printed, re.MULTILINE)
    assert said.startswith(expected)
    if best != "256 → 4":
        (shown,) = re.findall(r"^against direct distillation: (\S+) points", printed, re.MULTILINE)
        assert float(shown) == pytest.approx(gain, abs=1e-9)  # of 500 digits, each is a fifth of a percent


def check_multimodal(printed):
    """Whether a sense helps is not promised, but that what is said of it follows from the figures above it."""
    alone = numbers(r"^(\S+) +(\d+\.\d)$", printed)
    assert list(alone) == ["image", "audio", "text", "image+audio+text"]
    assert max(alone, key=alone.get) == "image+audio+text"

    taught = re.findall(r"^(\S+) +(0\.\d{4}) +([+-]0\.\d{4}) +\[(\S+), (\S+)\] +(.+)$", printed, re.MULTILINE)
    assert [teacher for teacher, *_ in taught] == ["image+audio+text"]
    (without,) = re.findall(r"^none +(0\.\d{4})$", printed, re.MULTILINE)
    for _, accuracy, gain, low, high, verdict in taught:
        assert float(gain) == pytest.approx(float(accuracy) - float(without), abs=1.01e-4)
        says = {"helps": float(low) > 0, "WARNING: negative transfer": float(high) < 0}
        assert verdict == next((word for word, holds in says.items() if holds), "no evidence")

    by_subset = re.findall(r"^(\S+) +(\d+\.\d) +(\d+\.\d)$", printed, re.MULTILINE)
    assert [subset for subset, *_ in by_subset] == [
        *("image", "audio", "text", "image+audio", "image+text", "audio+text", "image+audio+text")
    ]
    without, dropped = np.array([row[1:] for row in by_subset], float).T
    assert dropped.mean() > without.mean()
    assert f"ahead with modality dropout: {sum(dropped > without)} of 7 subsets. With all three there: " in printed
    assert round(100 * accuracy_of_report(printed), 1) == dropped[-1]


def check_adversarial(printed):
    """Whether the game helps is not promised, but that what is said of it follows from the figures above it."""
    assert re.search(r"^teacher: 151,306 weights, .*\nstudent: 1,626 weights$", printed, re.MULTILINE)
    rows = re.findall(r"^(labels alone|soft targets.*?) +(\d+\.\d) +(\d+\.\d) +(\d+\.\d)$", printed, re.MULTILINE)
    accuracy, told, _ = ({name: float(values[column]) for name, *values in rows} for column in range(3))
    ways = ["labels alone", "soft targets", "soft targets + MSE", "soft targets + game"]
    assert list(accuracy) == ways
    assert accuracy["labels alone"] < min(accuracy[way] for way in ways[1:])
    assert f"\nhardest to tell from its teacher: {min(told, key=told.get)}, told {min(told.values())}% of" in printed
    check_game(printed, "Is the student with the game right more often?", accuracy, 500, ("More often.", "Less often."))
    check_game(printed, "Is it harder to tell from its teacher?", told, 1000, ("Easier.", "Harder."))

    blind = numbers(r"^(guessing|student, 50 labels|student, no image|teacher) +(\d+\.\d)$", printed)
    assert blind["student, 50 labels"] == accuracy["labels alone"]
    assert 3 * blind["guessing"] < blind["student, no image"] < blind["teacher"]

    attacked = re.findall(r"^(teacher.*?|student (?:before|after)) +(\d+\.\d) +(\d+\.\d)$", printed, re.MULTILINE)
    natural, robust = ({name: float(values[column]) for name, *values in attacked} for column in range(2))
    assert robust["student after"] > robust["student before"]
    assert robust["teacher, robust"] > robust["teacher"]
    assert natural["student before"] == accuracy["soft targets"]
    assert round(100 * accuracy_of_report(printed), 1) == natural["student after"]


def check_game(printed, question, shares, examples, verdicts):
    pattern = r"^against (.*): (\S+) points, from \S+ to \S+; two standard errors are (\d+\.\d)\. (.*)$"
    said = re.findall(pattern, printed.split(question)[1].split("\n\n")[0], re.MULTILINE)
    assert [other for other, *_ in said] == ["soft targets", "soft targets + MSE"]
    for other, shown, errors, verdict in said:
        of_both = (shares["soft targets + game"] + shares[other]) / 200
        assert float(errors) == pytest.approx(200 * np.sqrt(2 * of_both * (1 - of_both) / examples), abs=0.07)
        gain = shares["soft targets + game"] - shares[other]
        assert float(shown) == pytest.approx(gain, abs=0.11)
        assert verdict == (verdicts[gain < 0] if abs(float(shown)) > float(errors) else "No evidence.")


def digits_to_test():
    _, test = kd.data.digits()
    return test


def tones_and_digits_to_test():
    """All three modalities are there."""
    x, y = next(kd.data.multimodal.tones_and_digits().test.batch(300).as_numpy_iterator())
    return {**x, **{f"{name}_present": np.ones(300, bool) for name in x}}, y


@dataclass(frozen=True)
class Shown:
    """What a notebook must show: pictures, sounds, pages, a TFLite file of ten classes, and what it prints."""

    pictures: int
    file: str
    least_bytes: int
    check: Callable[[str], None]
    sounds: int = 0
    pages: int = 0
    examples: Callable[[], tuple] = digits_to_test


NOTEBOOKS = {
    "01_quickstart": Shown(3, "saved_models/quickstart/student.tflite", 15_000, check_quickstart),
    "02_methods": Shown(3, "saved_models/methods/student.tflite", 7_880, check_methods),
    "03_cached_teacher": Shown(3, "saved_models/cached_teacher/student/student.tflite", 15_000, check_cached_teacher),
    "04_teacher_assistants": Shown(
        1, "saved_models/teacher_assistants/student.tflite", 330 * 4, check_teacher_assistants
    ),
    "05_multimodal": Shown(
        2, "saved_models/multimodal/student.tflite", 8_000, check_multimodal, 2, examples=tones_and_digits_to_test
    ),
    "06_adversarial": Shown(3, "saved_models/adversarial/student.tflite", 1_626 * 4, check_adversarial),
    "07_to_mobile": Shown(4, "saved_models/to_mobile/student.tflite", 19_466 * 4, check_to_mobile, pages=1),
    "08_few_labels": Shown(2, "saved_models/few_labels/student.tflite", 3_818 * 4, check_few_labels),
}


def numbers(pattern, printed):
    return {name: float(number.replace(",", "")) for name, number in re.findall(pattern, printed, re.MULTILINE)}


def accuracy_of_report(printed):
    (accuracy,) = re.findall(r": [\d,]+ parameters, accuracy in Keras ([\d.]+)", printed)
    return float(accuracy)


@pytest.fixture(params=NOTEBOOKS)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_has_a_row_here():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NOTEBOOKS)


def test_no_outputs_are_stored(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}


def test_every_file_that_it_points_to_is_there(notebook):
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    linked = re.findall(r"\]\(((?!https?:)[^)]+)\)", text)
    assert [path for path in linked if not (FOLDER / path).exists()] == []


def test_first_cell_opens_this_notebook_in_colab_and_second_installs_the_package(name, notebook):
    assert "colab-badge.svg" in notebook.cells[0].source
    assert f"/blob/main/notebooks/{name}.ipynb)" in notebook.cells[0].source
    assert "pip install" in next(cell for cell in notebook.cells if cell.cell_type == "code").source


def test_runs_from_top_to_bottom(name, notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_FAST", "1")
    done = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    shown, file = NOTEBOOKS[name], tmp_path / NOTEBOOKS[name].file

    pages = [output.get("data", {}).get("text/html", "") for output in outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == shown.pictures
    assert sum("<audio" in page for page in pages) == shown.sounds
    assert sum("<iframe" in page for page in pages) == shown.pages
    assert file.name in printed
    assert file.stat().st_size > shown.least_bytes
    x, y = shown.examples()
    assert round(np.mean(LiteRTModel(file)(x).argmax(-1) == y), 4) == accuracy_of_report(printed)
    shown.check(printed)
