"""Files that are whole whenever they are there: written under another name, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of another when it is whole.

    A killed process leaves the one before, and beside it a part of the new, which the next to write there replaces.

    Args:
        path: The name of the file. It is written under one that begins with `partial_`.

    Raises:
        OSError: If it cannot be written, as on a full disk, with the name of the file.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(Path(folder, "notes.txt")) as file:
    ...         _ = file.write_text("all of them")
    ...     os.listdir(folder)
    ['notes.txt']
    """
    partial = path.with_name(f"partial_{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path} ({error.strerror}). What was there is kept") from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole, or not at all."""
    with whole(path) as file:
        file.write_text(text, encoding="utf-8")
