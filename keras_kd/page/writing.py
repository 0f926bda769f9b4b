"""From a folder to its page: sections in their order, in one file that is whole whenever it is there."""

import os
from importlib.resources import files as package_files
from os import PathLike
from pathlib import Path
from uuid import uuid4

from keras_kd.page import costs, headline, judging, training
from keras_kd.page.html import Markup, join, tag
from keras_kd.page.reading import Findings, read_folder
from keras_kd.page.sections import LeftOut, Section, with_code

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def write_report(directory: str | PathLike, path: str | PathLike | None = None, title: str | None = None) -> Path:
    """Writes the page that shows what an export has left in its folder.

    One HTML file that needs no network and runs no script: what was distilled from what, what the files cost, how the
    student answers class by class and beside its teacher, how it was trained, and links to the files. What the folder
    does not hold is left out, and the page says what would make it.

    Args:
        directory: Folder that `export_student` or a `keras-kd` command wrote to. It must hold `report.json`;
            `evaluation.json`, `run.json` and `history.csv` are shown where they are there.
        path: The `.html` file to write; one that is there is replaced. Defaults to `report.html` in the folder.
        title: Heading of the page. Defaults to one of the student's name.

    Returns:
        The path of the page.

    Raises:
        ValueError: If there is no `report.json`, a file does not hold what it should, or `path` is no name of a page.

    Example:
        >>> import keras, tempfile
        >>> from keras_kd.export import export_student
        >>> student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="student")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = export_student(student, folder, formats="tflite")
        ...     page = write_report(folder).read_text(encoding="utf-8")
        >>> "student has 8 parameters" in page
        True
    """
    directory = Path(directory)
    path = directory / "report.html" if path is None else Path(path)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise ValueError(f"`write_report`: `path` must name a file that ends in .html. Received: {path}")
    findings = read_folder(directory)
    content = _page(findings, path, title or f"Distillation report: {findings.report['student']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _page(findings: Findings, path: Path, title: str) -> str:
    parts = [
        costs.accuracy_and_cost(findings),
        costs.files(findings, path),
        judging.by_class(findings),
        judging.differences(findings),
        judging.reliability(findings),
        training.training(findings),
    ]
    sections = [part for part in parts if isinstance(part, Section)]
    left_out = [part for part in parts if isinstance(part, LeftOut)]
    if left_out:
        sections.append(Section("missing", "Not shown", _missing(left_out)))
    links = [tag("li", tag("a", section.title, href=f"#{section.name}")) for section in sections]
    sentence = headline.headline(findings)
    body = tag(
        "body",
        tag("a", "Skip to the figures", href="#main", class_="skip"),
        tag("header", tag("h1", title), tag("p", sentence, class_="headline"), headline.key_figures(findings)),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("main", *(section.markup() for section in sections), id="main", tabindex=-1),
        tag(
            "footer", tag("p", "Written by keras_kd. Figures are those of the export; nothing here was measured anew.")
        ),
    )
    return f"<!DOCTYPE html>\n{tag('html', _head(title, sentence), body, lang='en')}\n"


def _head(title: str, description: str) -> Markup:
    style = package_files("keras_kd.page").joinpath("style.css").read_text(encoding="utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="description", content=description),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Markup(style)),
    )


def _missing(left_out: list[LeftOut]) -> Markup:
    items = [join(tag("dt", part.title), tag("dd", with_code(part.remedy))) for part in left_out]
    return tag("dl", *items, class_="missing")
