"""The page says what the folder holds: every figure is the one in the files, and the sentence follows from them."""

import pytest

from tests.page import folders
from tests.page.folders import (
    EVALUATION,
    FILES,
    REPORT,
    TEACHER_FILE,
    by_id,
    changed,
    headline,
    of_class,
    page_of,
    rows_of,
)

FIGURES = (
    *("size_bytes", "gzip_bytes", "agreement", "teacher_agreement", "accuracy", "latency_ms_median", "latency_ms_p95"),
    *("latency_ms_median_threads", "peak_memory_bytes"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("pages") / "whole")


def test_one_sentence_says_what_came_of_it(tree):
    assert headline(tree) == (
        "pupil was distilled from master: 30 times fewer parameters (5,000 against 150,000), 30 times fewer bytes as "
        "float32 (20,000 against 600,000), 96.0% of the accuracy kept (95.0% against 99.0%, 4.0 points lost), the "
        "teacher's answer on 96.0% of 500 examples; student_int8.tflite loses 1.2 points of "
        "the student's accuracy."
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"keras_accuracy": 0.993}, "0.3 points more accurate (99.3% against 99.0%)"),
        ({"keras_accuracy": 0.9897}, "as accurate (99.0% against 99.0%)"),
        ({"parameters": 300_000}, "2.0 times as many parameters (300,000 against 150,000)"),
        ({"parameters": 150_000}, "as many parameters (150,000)"),
        ({"keras_accuracy": None}, "student_int8.tflite loses"),
        ({"teacher": None}, "pupil has 5,000 parameters: right on 95.0% of 500 examples, the teacher's answer on"),
    ],
)
def test_the_sentence_is_honest(tmp_path, changes, expected):
    said = headline(page_of(tmp_path, report=changed(REPORT, **changes)))
    assert (expected in said) == (changes != {"keras_accuracy": None})


def test_without_labels_files_are_held_against_the_keras_student(tmp_path):
    files = [{**file, "accuracy": None} for file in FILES]
    teacher = {"name": "master", "parameters": 150_000}
    report = changed(REPORT, keras_accuracy=None, files=files, teacher=teacher)
    tree = page_of(tmp_path, report=report, evaluation=None, run=None, history=None)
    assert headline(tree).endswith("; student_int8.tflite answers differently from Keras on 1.6%.")


def test_the_teacher_of_a_run_stands_in_for_one_that_the_export_was_not_given(tmp_path):
    run = {"teacher": "models/master.keras", "teacher_parameters": 20_000, "teacher_accuracy": 0.9}
    said = headline(page_of(tmp_path, report=changed(REPORT, teacher=None), run=run))
    assert said.startswith("pupil was distilled from master.keras: 4.0 times fewer parameters (5,000 against 20,000), ")
    assert "5.0 points more accurate (95.0% against 90.0%)" in said


def test_key_figures_stand_beside_the_teacher_s(tree):
    (found,) = of_class(tree, "key-figures")
    figures = {one.find("dt").text: [float(each.get("value")) for each in one.iter("data")] for one in found}
    assert figures == {
        "Parameters": [5000, 150_000],
        "Smallest file": [7500, 600_000],
        "Accuracy": [0.95, 0.99],
        "Agreement": [0.96],
        "Latency": [0.25, 2.0],
    }


def test_the_table_of_files_holds_every_figure(tree):
    rows = rows_of(by_id(tree, "files"), "files")
    expected = [[file.get(key, "–") for key in FIGURES] for file in (*FILES, TEACHER_FILE)]
    assert [row[1:] for row in rows] == expected
    assert [row[0] for row in rows] == [
        "saved_modela folder",
        "student.tflitefloat32",
        "student_float16.tflitefloat16",
        "student_int8.tfliteint8",
        "teacher, not keptfloat32",
    ]
    hashes = [code.text for code in of_class(tree, "checksums")[0].iter("code")]
    assert hashes == [file["sha256"] for file in FILES[1:]]


def test_a_file_that_changed_or_went_is_not_passed_off_as_the_measured_one(tmp_path):
    folder = folders.write(tmp_path)
    (folder / "student.tflite").write_bytes(b"g" * 20_000)
    (folder / "student_int8.tflite").unlink()
    tree = folders.read(folders.write_report(folder))
    names = [row[0] for row in rows_of(by_id(tree, "files"), "files")]
    assert names[1] == "student.tflitechanged since it was measured"
    assert names[3] == "student_int8.tfliteno longer in the folder"
    assert "student_int8.tflite" not in [link.get("download") for link in tree.iter("a")]


def test_tables_of_the_evaluation_hold_its_figures(tree):
    rows = rows_of(by_id(tree, "classes"), "classes")
    keys = ("class", "examples", "student_accuracy", "teacher_accuracy", "agreement")
    assert rows == [[row[key] for key in keys] for row in EVALUATION["per_class"]]
    bars = [cell.get("style") for cell in of_class(by_id(tree, "classes"), "bar")][:3]
    assert bars == ["--share: 90.00%", "--share: 98.00%", "--share: 91.00%"]
    for who in ("student", "teacher"):
        rows = rows_of(by_id(tree, "reliability"), f"bins-{who}")
        bins = EVALUATION["reliability"][who]
        assert [row[1:] for row in rows] == [
            [bin_[key] or "–" for key in ("confidence", "accuracy")] + [bin_["count"]] for bin_ in bins
        ]
        assert rows[9][0] == "90% to 100%"
    errors = [float(strong.find("data").get("value")) for strong in by_id(tree, "reliability").iter("strong")]
    assert errors == [0.0211, 0.0143]


def test_cards_show_both_answers_and_which_is_right(tree):
    section = by_id(tree, "differences")
    cards = list(section.iter("li"))
    assert [float(card.findall("p")[-1].find("data").get("value")) for card in cards] == [
        each["divergence"] for each in EVALUATION["differences"]
    ]
    assert [card.find("img").get("src") for card in cards] == [each["image"] for each in EVALUATION["differences"]]
    assert folders.text_of(cards[3]) == (
        "Label coatExample 3student, wrongshirt 61.0%teacher, rightcoat 98.5%divergence 2.97"
    )
    assert cards[3].find("img").get("alt") == "Example 3, number 4 by divergence, labelled coat"
    folded = section.find("details")
    assert folders.text_of(folded.find("summary")) == "2 more"
    assert [folded.find("ol").get("start"), len(folded.find("ol"))] == ["13", 2]


def test_settings_and_epochs(tree):
    section = by_id(tree, "training")
    settings = {one.find("dt").text: one.find("dd").text for one in of_class(section, "settings")[0]}
    assert settings == {
        "Teacher": "master.keras",
        "Dataset": "digits",
        "Epochs": "3",
        "Alpha": "0.3",
        "Temperature": "4.0",
        "Objectives": "SoftTargets",
        "Licence": "CC BY 4.0",
        "Versions": "keras 3.15.1",
    }
    assert rows_of(section, "epochs") == [
        ["1", 0.4, 40.0, 0.5, 2.0],
        ["2", 0.7, 4.0, "–", 1.0],
        ["3", 0.9, 1.5, 0.85, 0.5],
    ]


def test_what_is_not_there_is_named_with_what_would_make_it(tmp_path):
    report = {"student": "pupil", "parameters": 1, "files": [FILES[0]]}
    tree = page_of(tmp_path, report=report, evaluation=None, run=None, history=None)
    assert headline(tree) == "pupil has 1 parameter."
    missing = by_id(tree, "missing")
    titles = [title.text for title in missing.iter("dt")]
    assert titles == ["Accuracy and cost", "Class by class", "Where they differ most", "Reliability", "Training"]
    remedies = [folders.text_of(remedy) for remedy in missing.iter("dd")]
    assert remedies[0] == "Give evaluation_data with labels to export_student."
    assert remedies[4] == "Distil with keras-kd distill, which writes run.json and history.csv."
    assert [word.text for word in missing.iter("code")][:2] == ["evaluation_data", "export_student"]
    assert [heading.text for heading in by_id(tree, "files").find(".//thead/tr")] == ["File", "Bytes"]
    assert [section.get("id") for section in tree.iter("section")] == ["files", "missing"]
