"""Every mark stands where its axis says, and the text beside the picture says the same."""

import math
import re
from xml.etree import ElementTree

import pytest

from keras_kd.page import charts
from tests.page.folders import EVALUATION, FILES, HISTORY, TEACHER_FILE, by_id, page_of, read

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "µs": 1e-3, "ms": 1, "%": 0.01, "": 1}
CLOSE = 0.02  # places have two digits


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "whole"
    page_of(folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def pictures(page):
    """By section, as XML."""
    tree = read(page)
    sections = ("cost", "classes", "reliability", "training")
    return {
        name: [ElementTree.fromstring(ElementTree.tostring(svg)) for svg in by_id(tree, name).iter("svg")]
        for name in sections
    }


def number(text):
    digits, unit = re.fullmatch(r"([\d.,]+) ?(\D*)", text).groups()
    return float(digits.replace(",", "")) * UNITS[unit]


def scale_of(svg, along, logarithmic=False):
    """From a place to a value, by the first and the last number that is written beside an axis."""
    ticks = [text for text in svg.iter("text") if text.get("class") == "tick"]
    ticks = [text for text in ticks if (text.get("text-anchor") == "middle") == (along == "x")]
    (first, low), *_, (last, high) = ((float(tick.get(along)), number(tick.text)) for tick in ticks)
    if logarithmic:
        low, high = math.log10(low), math.log10(high)

    def value(place):
        found = low + (high - low) * (place - first) / (last - first)
        return 10**found if logarithmic else found

    return value


def marks_of(svg):
    groups = [group for group in svg.iter("g") if group.get("class").startswith("mark ")]
    groups = [group for group in groups if group.find("title") is not None]
    return [(*map(float, re.findall(r"[\d.]+", group.get("transform"))), group) for group in groups]


def test_pictures_are_well_formed_xml(page):
    drawn = re.findall(r"<svg.*?</svg>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert [ElementTree.fromstring(svg).get("role") for svg in drawn] == ["img"] * 7


@pytest.mark.parametrize(("index", "cost"), [(0, "size_bytes"), (1, "latency_ms_median")])
def test_accuracy_against_cost(pictures, index, cost):
    svg = pictures["cost"][index]
    across, up = scale_of(svg, "x", logarithmic=True), scale_of(svg, "y")
    measured = [*FILES[1:], TEACHER_FILE]
    marks = marks_of(svg)
    assert [up(y) for _, y, _ in marks] == pytest.approx([file["accuracy"] for file in measured], abs=1e-4)
    assert [across(x) for x, _, _ in marks] == pytest.approx([file[cost] for file in measured], rel=2e-3)
    shapes = [(mark[1].tag, len(mark[1].get("points", "").split())) for _, _, mark in marks]
    assert shapes == [("circle", 0), ("polygon", 4), ("polygon", 3), ("polygon", 6)]
    told = svg.get("aria-label")
    assert "float32 95.0% at" in told
    assert "teacher 99.0% at" in told
    assert told.endswith({"size_bytes": "at 600 kB.", "latency_ms_median": "at 2 ms."}[cost])


def test_labels_do_not_lie_on_each_other(pictures):
    for svg in pictures["cost"]:
        (group,) = (group for group in svg.iter("g") if group.get("class") == "label")
        boxes = []
        for text in group.iter("text"):
            width = 6 * len(text.text)
            left = float(text.get("x")) - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
            boxes.append((left, float(text.get("y")), left + width))
        assert len(boxes) == 4
        for place, one in enumerate(boxes):
            for other in boxes[:place]:
                assert one[0] >= other[2] or other[0] >= one[2] or abs(one[1] - other[1]) >= 12


def test_learning_curves(pictures):
    rows = [line.split(",") for line in HISTORY.splitlines()[1:]]
    for svg, column, logarithmic in zip(pictures["training"], (1, 2), (False, True), strict=True):
        across, up = scale_of(svg, "x"), scale_of(svg, "y", logarithmic)
        for kind, shift in (("training", 0), ("validation", 2)):
            (line,) = (line for line in svg.iter("polyline") if line.get("class") == f"curve {kind}")
            places = [tuple(map(float, place.split(","))) for place in line.get("points").split()]
            expected = [
                (epoch, float(row[column + shift])) for epoch, row in enumerate(rows, 1) if row[column + shift] != "NA"
            ]
            assert [across(x) for x, _ in places] == pytest.approx([epoch for epoch, _ in expected], abs=1e-3)
            assert [up(y) for _, y in places] == pytest.approx([value for _, value in expected], rel=2e-3)
    assert pictures["training"][0].get("aria-label") == (
        "Accuracy over 3 epochs: training from 40.0% to 90.0%; validation from 50.0% to 85.0%."
    )


def test_reliability(pictures):
    for svg, who in zip(pictures["reliability"], ("student", "teacher"), strict=True):
        across, up = scale_of(svg, "x"), scale_of(svg, "y")
        filled = [one for one in EVALUATION["reliability"][who] if one["count"]]
        marks = marks_of(svg)
        assert [across(x) for x, _, _ in marks] == pytest.approx([one["confidence"] for one in filled], abs=1e-3)
        assert [up(y) for _, y, _ in marks] == pytest.approx([one["accuracy"] for one in filled], abs=1e-3)
        gaps = [line for line in svg.iter("line") if line.get("class") == "range"]
        assert [up(float(gap.get("y2"))) for gap in gaps] == pytest.approx(
            [one["confidence"] for one in filled], abs=1e-3
        )
        (ideal,) = (line for line in svg.iter("line") if line.get("class") == "ideal")
        ends = [(across(float(ideal.get(f"x{end}"))), up(float(ideal.get(f"y{end}")))) for end in (1, 2)]
        assert ends == [pytest.approx((0, 0), abs=1e-3), pytest.approx((1, 1), abs=1e-3)]
    told = pictures["reliability"][0].get("aria-label")
    assert told.startswith(
        "Reliability of the student, expected calibration error 2.1%: 30.0% right at 45.0% sure (20 "
    )
    radii = [float(mark.find("circle").get("r")) for _, _, mark in marks_of(pictures["reliability"][0])]
    assert [(radius - 2.5) ** 2 / 64 for radius in radii] == pytest.approx([20 / 400, 80 / 400, 1])


def test_classes(pictures):
    (svg,) = pictures["classes"]
    across = scale_of(svg, "x")
    marks = marks_of(svg)
    keys = ("teacher_accuracy", "agreement", "student_accuracy")
    expected = [row[key] for row in EVALUATION["per_class"] for key in keys]
    assert [across(x) for x, _, _ in marks] == pytest.approx(expected, abs=1e-3)
    assert len({y for _, y, _ in marks}) == 3
    assert svg.get("aria-label") == (
        "By class: shirt: teacher 98.0%, agreement 91.0%, student 90.0%; coat: teacher 99.0%, agreement 97.5%, student "
        "97.0%; bag: teacher 96.0%, agreement 95.5%, student 100.0%."
    )


def test_of_many_classes_those_are_drawn_that_the_student_knows_least(tmp_path):
    rows = [
        {"class": f"class {index}", "examples": 10, "student_accuracy": 1 - index / 100, "agreement": None}
        for index in range(30)
    ]
    section = by_id(page_of(tmp_path, evaluation={**EVALUATION, "per_class": rows}), "classes")
    (svg,) = section.iter("svg")
    drawn = [text.text for text in svg.iter("text") if text.text.startswith("class ")]
    assert drawn == [f"class {index}" for index in range(29, 9, -1)]
    assert section.find(".//figcaption").text == "The 20 classes of 30 on which the student is least accurate."
    assert len(list(section.find(".//details//tbody"))) == 30


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [1.0, 1.0, 1.0], [1e-90, 1e90], [-3.0, 2.0]])
def test_any_curve_stays_inside_its_picture(values):
    are_shares = all(0 <= value <= 1 for value in values)
    svg = ElementTree.fromstring(charts.curves(values, [None] * len(values), "Metric", are_shares))
    places = [tuple(map(float, place.split(","))) for place in svg.find("polyline").get("points").split()]
    assert all(40 <= x <= 350 and 0 <= y <= 200 + CLOSE for x, y in places)
    assert len([text for text in svg.iter("text") if text.get("class") == "tick"]) >= 3
