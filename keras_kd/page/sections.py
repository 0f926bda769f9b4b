"""What all sections are made of: a heading with what stands under it, tables, and charts in a row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_kd.page.html import Markup, join, tag


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: What links to it are made of.
        title: Its heading.
        body: What stands under that.
    """

    name: str
    title: str
    body: Markup

    def markup(self) -> Markup:
        heading = tag("h2", self.title, id=f"{self.name}-title")
        return tag("section", heading, self.body, id=self.name, aria_labelledby=f"{self.name}-title")


@dataclass(frozen=True)
class LeftOut:
    """A part that the folder holds nothing for.

    Attributes:
        title: Its heading, had it one.
        remedy: What would make it.
    """

    title: str
    remedy: str


def table(name: str, caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        name: Unique on the page.
        caption: What it shows.
        header: Of the columns.
        rows: Their cells, the first the heading of its row; one that is a `<td>` already stays as it is.

    Returns:
        The table.
    """
    kinds = [None, *["number"] * (len(header) - 1)]
    head = tag("tr", *(tag("th", text, scope="col", class_=kind) for text, kind in zip(header, kinds, strict=True)))
    body = [tag("tr", tag("th", first, scope="row"), *map(_cell, cells, kinds[1:])) for first, *cells in rows]
    title = tag("p", caption, id=f"{name}-caption", class_="caption")  # a <caption> would scroll away with its table
    whole = tag("table", tag("thead", head), tag("tbody", *body), aria_labelledby=f"{name}-caption")
    region = tag("div", whole, class_="scroll", role="region", tabindex=0, aria_labelledby=f"{name}-caption")
    return join(title, region)


def bar(number: Any, share: float | None) -> Markup:
    """A cell with a share of one, and a bar of that length under it."""
    length = None if share is None else f"--share: {100 * share:.2f}%"
    return tag("td", number, class_="number bar" if share is not None else "number", style=length)


def pictures(*figures: tuple[str, Markup, Any]) -> Markup:
    """Charts beside each other: heading, picture, and what is to be said of it."""
    drawn = [
        tag("figure", tag("h3", title), picture, tag("figcaption", text) if text else None)
        for title, picture, text in figures
    ]
    return tag("div", *drawn, class_="pictures")


def with_code(text: str) -> Markup:
    """Text whose words in backticks are code."""
    words = text.split("`")
    return join(*(tag("code", word) if place % 2 else word for place, word in enumerate(words)))


def folded(title: str, *children: Any) -> Markup:
    """What is shown on demand."""
    return tag("details", tag("summary", title), *children)


def described(pairs: Iterable[tuple[str, Any]], **attributes: Any) -> Markup:
    """Names with what they are."""
    items = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs]
    return tag("dl", join(*items), **attributes)


def _cell(cell: Any, kind: str | None) -> Markup:
    ready = isinstance(cell, Markup) and cell.startswith("<td")
    return cell if ready else tag("td", cell, class_=kind)
