"""`keras-kd report`: a page of what an export has left, or one line that says why not."""

import pytest

from keras_kd.cli import main
from tests.page.folders import REPORT, changed, headline, read, write


@pytest.mark.parametrize("out", [None, "a page.html"])
def test_it_writes_the_page(tmp_path, capsys, out):
    folder = write(tmp_path / "run")
    page = folder / "report.html" if out is None else tmp_path / out
    more = [] if out is None else ["--out", str(page), "--title", "Ours"]
    assert main(["report", str(folder), *more]) == 0
    assert capsys.readouterr().out == f"Written: {page}\n"
    tree = read(page)
    assert headline(tree).startswith("pupil was distilled from master: 30 times fewer parameters")
    assert tree.find(".//h1").text == ("Distillation report: pupil" if out is None else "Ours")


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (None, "must hold the report.json of an export."),
        ("[]", "report.json: the whole must be an object. Received: []."),
        (changed(REPORT, parameters="many"), "`parameters` must be a whole number of at least 0. Received: 'many'."),
    ],
)
def test_bad_input_costs_one_line_and_exit_code_2(tmp_path, capsys, report, expected):
    folder = write(tmp_path / "run", report=report)
    before = sorted(folder.iterdir())
    assert main(["report", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("keras-kd report: `write_report`: ")
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(folder.iterdir()) == before
