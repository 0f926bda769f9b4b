"""HTML from Python values: whatever is not `Markup` already is escaped."""

import html
import re
from typing import Any

# Neither HTML nor XML has a way to write these; half a surrogate pair cannot even be encoded.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_VOID = {"img", "link", "meta"}


class Markup(str):
    """Text that is HTML already."""


def escape(value: Any) -> Markup:
    """A value as HTML text that means it, also inside quotes.

    Example:
        >>> escape('a"b <c>')
        'a&quot;b &lt;c&gt;'
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", str(value))))


def join(*children: Any) -> Markup:
    """Values one after another; `None` is nothing."""
    return Markup("".join(escape(child) for child in children if child is not None))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: Of the element, as in `"p"`.
        *children: What is in it; `None` is nothing.
        **attributes: `class_` is `class`, `aria_label` is `aria-label`, `True` needs no value, `None` is left out.

    Returns:
        The element, in a form that is XML too where no attribute is `True`.

    Example:
        >>> tag("a", "R & D", href="x?a=1&b=2", class_="plain", download=True, title=None)
        '<a href="x?a=1&amp;b=2" class="plain" download>R &amp; D</a>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    return Markup(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(key: str, value: Any) -> str:
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{escape(value)}"'
