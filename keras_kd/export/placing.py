"""Files that are made elsewhere in a folder, and get their names there when all of them are whole."""

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from keras_kd.locking import writing

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PREFIX = ".export-"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def staging_in(directory: Path, owner: str) -> Iterator[Path]:
    """A folder to make files in, which goes in the end; the directory is ours for as long.

    Args:
        directory: Where the files will lie, made if missing.
        owner: Who asks, for the error.

    Raises:
        ValueError: If another process writes there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with writing(directory, owner):
        for left in directory.glob(f"{_PREFIX}*"):  # by one that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=directory) as staging, _named(directory, owner):
            yield Path(staging)


@contextmanager
def _named(directory: Path, owner: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            f"{owner}: cannot write {error.filename or directory} ({error.strerror}). What was there is kept: make "
            "room and run the same again",
        ) from error


@contextmanager
def full_disk_told(folder: str | Path) -> Iterator[None]:
    """Turns what TensorFlow says of a full disk, as it writes to a folder, into an `OSError`."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError) as error:
        code = errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EFBIG
        raise OSError(code, os.strerror(code), os.fspath(folder)) from error


def put_in_place(staging: Path, directory: Path, names: Sequence[str]) -> None:
    """Gives each its name, in this order; whatever had it goes, and is whole until then."""
    for name in names:
        made, target = staging / name, directory / name
        if target.is_dir():  # `os.replace` refuses a folder that is not empty
            _exchange(made, target)
        else:
            os.replace(made, target)


def _exchange(made: Path, target: Path) -> None:
    """Two folders change names: at once on Linux, and one after the other where the system or its disk cannot."""
    try:
        done = ctypes.CDLL(None).renameat2(_HERE, os.fsencode(made), _HERE, os.fsencode(target), _EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):
        done = False
    if not done:
        os.replace(target, made.with_name(f"replaced_{made.name}"))
        os.replace(made, target)
