"""What notebook 07 says of its files, held against the figures that it prints."""

import re

import pytest


def check_to_mobile(printed):
    """How much a form loses is not promised, but that what is said of it follows from the figures above it."""
    rows = re.findall(r"^(.+?) +([\d,]+) +([\d,]+) +([\d.]+)% +([\d.]+)% +([\d.]+)%$", printed, re.MULTILINE)
    names = ["calibrated", "learnt", "float32", "float16", "dynamic"]
    names += ["int8, calibrated", "int8, learnt", "float32, pruned", "int8, pruned"]
    assert [name for name, *_ in rows] == names
    size, gzip, agreement, with_teacher, accuracy = (
        {name: float(values[column].replace(",", "")) for name, *values in rows} for column in range(5)
    )
    assert size["float16"] < 0.6 * size["float32"]
    assert size["int8, calibrated"] < 0.4 * size["float32"]
    assert size["float32, pruned"] == pytest.approx(size["float32"], rel=0.01)
    assert gzip["float32, pruned"] < 0.6 * gzip["float32"]
    assert gzip["int8, pruned"] == min(gzip.values())
    assert agreement["float32"] == 100
    assert agreement["learnt"] >= agreement["calibrated"]
    title = r": 19,466 parameters, accuracy in Keras ([\d.]+), agreement with the teacher ([\d.]+)$"
    ((of_student, as_teacher),) = re.findall(title, printed, re.MULTILINE)
    assert accuracy["float32"] == round(100 * float(of_student), 1)
    assert with_teacher["float32"] == round(100 * float(as_teacher), 1)

    (differ,) = re.findall(r"^other answers than Keras: calibrated (\d+), learnt (\d+), of 500$", printed, re.MULTILINE)
    assert [100 - int(count) / 5 for count in differ] == [agreement["calibrated"], agreement["learnt"]]
    check_digits_won(printed, accuracy)
    check_app(printed, accuracy["learnt"])


def check_digits_won(printed, accuracy):
    pattern = r"^(.+) against (.+): (\d+) digits right that were wrong, (\d+) wrong that were right\. (.+)$"
    compared = re.findall(pattern, printed, re.MULTILINE)
    assert [name for name, *_ in compared] == ["learnt", "float32, pruned", "int8, pruned"]
    for name, other, won, lost, verdict in compared:
        gain = int(won) - int(lost)
        assert gain / 5 == pytest.approx(accuracy[name] - accuracy[other])  # of 500 digits
        sure = gain**2 > 4 * (int(won) + int(lost))
        says = "It is better." if gain > 0 else "It is worse."
        assert verdict == (says if sure else "No evidence that the one is better.")


def check_app(printed, accuracy):
    """It is the learnt file, with the way from a photo to a name inside."""
    assert "\n['metadata.json', 'labels.txt']\n" in printed
    assert "\ninputs      [{'name': 'photo', 'shape': [None, 8, 8, 1], 'dtype': 'uint8'}]\n" in printed
    assert re.search(r"^one photo, \(8, 8, 1\) uint8: [a-z]+, \d+%$", printed, re.MULTILINE)
    (rightly,) = re.findall(r"^of 500 photos, one by one: ([\d.]+)% right$", printed, re.MULTILINE)
    assert float(rightly) == pytest.approx(accuracy, abs=0.61)  # a byte may round three pixels otherwise than float32
    assert "saved_models/to_mobile/report.html: " in printed
