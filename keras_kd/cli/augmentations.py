"""Augmentations named on the command line, read without running any code."""

import ast
from typing import Any

from keras_kd import data
from keras_kd.wording import one_line, shortened


def _makes_an_augmentation(value: Any) -> bool:
    given = getattr(value, "__annotations__", {}).get("return")
    return isinstance(given, type) and issubclass(given, data.Augmentation)


FACTORIES = {name: getattr(data, name) for name in data.__all__ if _makes_an_augmentation(getattr(data, name))}


def augmentation_of(text: str) -> data.Augmentation:
    """Reads calls of the augmentations of `keras_kd.data`, with literal arguments, several of them composed in turn.

    The `repr` of such an augmentation reads back as the same.

    Args:
        text: as `random_shift(2), random_flip()`.

    Returns:
        The augmentation.

    Raises:
        ValueError: If it is anything else, or an argument is refused.

    Example:
        >>> augmentation_of("random_shift(2), random_flip()")
        compose(random_shift(max_pixels=2), random_flip())
    """
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        body = None
    calls = body.elts if isinstance(body, ast.Tuple) else [body]
    try:
        made = [_made(call) for call in calls]
        return made[0] if len(made) == 1 else data.compose(*made)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read the augmentation {shortened(repr(text))}: {one_line(error)}") from None


def _made(node: ast.AST | None) -> data.Augmentation:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FACTORIES):
        received = "" if node is None else f" Received: {ast.unparse(node)}."
        raise ValueError(
            f"expected calls of {', '.join(sorted(FACTORIES))}, as in random_shift(2), random_flip().{received}"
        )
    read = _made if node.func.id == "compose" else _literal
    settings = {keyword.arg or "**": _literal(keyword.value) for keyword in node.keywords}
    return FACTORIES[node.func.id](*map(read, node.args), **settings)


def _literal(node: ast.AST) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise ValueError(f"expected plain values as arguments. Received: {ast.unparse(node)}.") from None
