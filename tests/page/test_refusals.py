"""What the folder holds does no harm: it is shown as text, or refused in one line that names file and fault."""

import os
import re
from urllib.parse import unquote

import pytest

from keras_kd.page import write_report
from tests.page import folders
from tests.page.folders import EVALUATION, FILES, REPORT, changed, image, of_class, page_of, read, text_of, write

SCRIPT = "<script>alert(1)</script>"
BREAKOUT = "\"' onload=alert(1) x=</title></style>&amp;\x00\ud800"


def hostile(value):
    """The same with other texts: names and labels that try to be HTML."""
    if isinstance(value, dict):
        return {
            key: each if key in ("image", "file", "format", "sha256") else hostile(each) for key, each in value.items()
        }
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return f"{value} {SCRIPT} {BREAKOUT}" if isinstance(value, str) else value


def test_every_text_of_the_folder_is_shown_as_text(tmp_path):
    run = {**hostile(folders.RUN), SCRIPT: {"nested": SCRIPT}}
    history = folders.HISTORY.replace("\n", f",{SCRIPT}\n", 1).replace("\n1", ",1\n1").replace("\n2", ",1\n2")
    tree = page_of(
        tmp_path,
        report=hostile(REPORT),
        evaluation=hostile(EVALUATION),
        run=run,
        history=history.rstrip("\n") + ",1\n",
    )
    plain = page_of(tmp_path / "plain")
    assert {element.tag for element in tree.iter()} == {element.tag for element in plain.iter()}
    assert "script" not in {element.tag for element in tree.iter()}
    names = {name for element in tree.iter() for name in element.attrib}
    assert names == {name for element in plain.iter() for name in element.attrib}
    shown = text_of(tree)
    for text in (f"shirt {SCRIPT}", f"pupil {SCRIPT}", f"master {SCRIPT}", f"CC BY 4.0 {SCRIPT}", f"coat {SCRIPT}"):
        assert text in shown
    assert shown.count("alert(1) x=</title></style>&amp;\ufffd\ufffd") > 20


@pytest.mark.parametrize("name", ['a"b.tflite', "100% #1?.tflite", "a b&c=<d>.tflite", "-x.tflite", "javascript:1"])
def test_links_lead_to_files_of_any_name(tmp_path, name):
    folder = write(tmp_path, report=changed(REPORT, files=[{**FILES[1], "file": name}]))
    (folder / name).write_bytes(folders.CONTENTS["student.tflite"])
    (link, *_) = (link for link in read(write_report(folder)).iter("a") if "download" in link.attrib)
    assert link.get("download") == name
    assert link.get("href").startswith("./")
    assert not set('?#"<> ') & set(link.get("href"))
    assert (folder / unquote(link.get("href"))).samefile(folder / name)


def test_links_find_the_files_from_a_page_elsewhere(tmp_path):
    folder = write(tmp_path / "the run")
    page = write_report(folder, tmp_path / "pages" / "one.html", title="Ours & <theirs>")
    tree = read(page)
    links = [link.get("href") for link in tree.iter("a") if "download" in link.attrib]
    assert links[0] == "./../the%20run/student.tflite"
    assert all((page.parent / unquote(link)).is_file() for link in links)
    assert tree.find("head/title").text == tree.find(".//h1").text == "Ours & <theirs>"


def test_the_policy_allows_nothing_but_inline_style_and_images_in_the_page(tmp_path):
    page = write_report(write(tmp_path))
    metas = [meta.attrib for meta in read(page).iter("meta")]
    (policy,) = (meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert (
        re.findall(r"(?i)https?:|//|url\(|@import|<script|\son\w+=", page.read_text(encoding="utf-8").replace("./", ""))
        == []
    )


def file_with(**changes):
    return changed(REPORT, files=[{**FILES[1], **changes}])


def per_class(**changes):
    return changed(EVALUATION, per_class=[{**EVALUATION["per_class"][0], **changes}])


def difference(**changes):
    return changed(EVALUATION, differences=[{**EVALUATION["differences"][0], **changes}])


MISSING = {key: value for key, value in REPORT.items() if key not in ("student", "files")}
GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"report": "[1]"}, "report.json: the whole must be an object. Received: [1]."),
        ({"report": "{"}, "report.json: it must be JSON in UTF-8. Received: Expecting property name"),
        ({"report": "[" * 200_000}, "report.json: it is nested too deep."),
        ({"report": MISSING}, "report.json: the whole must have `student`, `files`."),
        (
            {"report": changed(REPORT, keras_accuracy=float("nan"))},
            "report.json: it must hold numbers only that JSON has. Received: NaN.",
        ),
        (
            {"report": '{"student": "a", "parameters": 1e999, "files": []}'},
            "report.json: `parameters` must be a whole number of at least 0. Received: inf.",
        ),
        (
            {"report": changed(REPORT, parameters=True)},
            "`parameters` must be a whole number of at least 0. Received: True.",
        ),
        (
            {"report": changed(REPORT, keras_accuracy="0.9")},
            "`keras_accuracy` must be a number from 0 to 1. Received: '0.9'.",
        ),
        (
            {"report": changed(REPORT, keras_accuracy=95)},
            "`keras_accuracy` must be a number from 0 to 1. Received: 95.",
        ),
        ({"report": changed(REPORT, files={})}, "`files` must be a list. Received: {}."),
        (
            {"report": file_with(size_bytes=0)},
            "`files[0].size_bytes` must be a whole number of at least 1. Received: 0.",
        ),
        (
            {"report": file_with(latency_ms_median=0)},
            "`files[0].latency_ms_median` must be a number above 0. Received: 0.",
        ),
        (
            {"report": file_with(file="../secret.txt")},
            "`files[0].file` must be the name of a file in the same folder. Received: '../secret.txt'.",
        ),
        ({"report": file_with(file="/etc/passwd")}, "`files[0].file` must be the name of a file in the same folder."),
        ({"report": file_with(file="..\\secret")}, "`files[0].file` must be the name of a file in the same folder."),
        ({"report": file_with(file="..")}, "`files[0].file` must be the name of a file in the same folder."),
        ({"evaluation": "null"}, "evaluation.json: the whole must be an object. Received: None."),
        ({"evaluation": changed(EVALUATION, classes=[1])}, "evaluation.json: `classes[0]` must be text. Received: 1."),
        (
            {"evaluation": per_class(student_accuracy=-0.1)},
            "`per_class[0].student_accuracy` must be a number from 0 to 1. Received: -0.1.",
        ),
        ({"evaluation": difference(student={"class": "x"})}, "`differences[0].student` must have `probability`."),
        (
            {"evaluation": difference(image="https://example.org/a.png")},
            "`differences[0].image` must be a data URI of a base64 PNG or JPEG. Received: 'https://example.org/a.png'.",
        ),
        (
            {"evaluation": difference(image="data:image/svg+xml;base64,PHN2Zz4=")},
            "`differences[0].image` must be a data URI",
        ),
        ({"evaluation": difference(image=GIF)}, "`differences[0].image` must be a data URI"),
        ({"evaluation": difference(image=GIF.replace("gif", "png"))}, "`differences[0].image` must be a data URI"),
        (
            {"evaluation": difference(image=image() + '" onerror="alert(1)')},
            "`differences[0].image` must be a data URI",
        ),
        (
            {"evaluation": difference(image="data:image/png;base64,iVBORw0KGgo")},
            "`differences[0].image` must be a data URI",
        ),
        ({"run": "[]"}, "run.json: the whole must be an object. Received: []."),
        (
            {"run": {"teacher_parameters": "many"}},
            "run.json: `teacher_parameters` must be a whole number of at least 0. Received: 'many'.",
        ),
        ({"history": "epoch,loss\n0,nan\n"}, "history.csv: `loss` in row 1 must be a finite number. Received: 'nan'."),
        ({"history": "epoch,loss\n0,1\n1\n"}, "history.csv: `loss` in row 2 must be a finite number. Received: None."),
        ({"history": 'epoch,loss\n0,"1\n'}, "history.csv: it must be a table in CSV."),
    ],
)
def test_what_is_broken_is_refused_in_one_line(tmp_path, parts, expected):
    folder = write(tmp_path / "run", **parts)
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match=r"^`write_report`: ") as caught:
        write_report(folder)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(folder))
    assert sorted(folder.iterdir()) == before


def test_bytes_that_are_no_text_are_refused(tmp_path):
    folder = write(tmp_path)
    (folder / "report.json").write_bytes(b'{"student": "\xff"}')
    with pytest.raises(ValueError, match=r"report\.json: it must be JSON in UTF-8\. Received: 'utf-8' codec"):
        write_report(folder)


def test_a_folder_without_report_is_refused(tmp_path):
    expected = (
        f"`write_report`: {tmp_path} must hold the report.json of an export. Received: none there. Write one with "
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        write_report(tmp_path)


@pytest.mark.parametrize("name", ["report.json", "student.tflite", "page", "saved_model"])
def test_nothing_but_a_page_is_written_over(tmp_path, name):
    folder = write(tmp_path)
    with pytest.raises(ValueError, match=r"`path` must name a file that ends in \.html\. Received: "):
        write_report(folder, folder / name)


def test_the_page_is_whole_or_as_it_was(tmp_path, monkeypatch):
    folder = write(tmp_path)
    page = write_report(folder)
    before = page.read_bytes()
    names = sorted(os.listdir(folder))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(folder, title="another")
    assert page.read_bytes() == before
    assert sorted(os.listdir(folder)) == names


def test_texts_and_unlabelled_examples_have_cards_too(tmp_path):
    evaluation = difference(label=None, image=None, text=f"so it said {SCRIPT}")
    tree = page_of(tmp_path, evaluation=evaluation)
    (card,) = of_class(tree, "cards")[0]
    assert card.find("blockquote").text == f"so it said {SCRIPT}"
    assert [card.find("h3").text, card.find("img")] == ["Example 0", None]
    assert [term.text for term in card.iter("dt")] == ["student", "teacher"]
