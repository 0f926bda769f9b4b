"""Every notebook runs from top to bottom, in its fast mode, and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_notebooks_exist():
    assert NOTEBOOKS[0].stem == "01_quickstart"


def test_no_outputs_are_stored(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}


def test_first_cell_opens_in_colab_and_second_installs_the_package(notebook):
    assert "colab-badge.svg" in notebook.cells[0].source
    assert "pip install" in notebook.cells[1].source


def test_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_FAST", "1")
    done = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    pictures = [out for cell in done.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    printed = "".join(
        out["text"] for cell in done.cells for out in cell.get("outputs", []) if out.get("name") == "stdout"
    )
    assert len(pictures) == 3
    assert "student.tflite" in printed
    assert (tmp_path / "saved_models/quickstart/student.tflite").stat().st_size > 15_000
