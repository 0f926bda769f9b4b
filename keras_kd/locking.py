"""A lock on a folder that is written to: of two processes the second is refused, and a dead one keeps nothing."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".writing.lock"
# What file systems that have no locks say.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def writing(folder: Path, owner: str, part: str = "") -> Iterator[None]:
    """Keeps a folder, or a part of it, for whoever writes there.

    The kernel holds the lock for as long as the process lives, so that one which was killed hinders nobody; only its
    file is left, and goes with the next. Who holds a folder may ask for it again.

    On NFS `flock` locks between machines too, unless it was mounted with `nolock` or `local_lock=flock`: then, as on
    other file systems that lock within a machine only, writers on two machines do not see each other. Where there are
    no locks at all, as on Windows, nobody is refused.

    Args:
        folder: The folder, which exists.
        owner: Who asks, for the error.
        part: Name of the part; whoever writes another is let through. Defaults to the folder as a whole.

    Raises:
        ValueError: If another process, or another thread, is writing there.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, writing(Path(folder), "`me`"):
    ...     os.listdir(folder)
    ['.writing.lock']
    """
    path = folder.resolve() / (f".writing-{part}.lock" if part else LOCK)
    if fcntl is None or path in _held.get():
        yield
        return
    file = _locked(path, f"{owner}: {f'part {part} of {folder}' if part else folder}")
    token = _held.set(_held.get() | {path})
    try:
        yield
    finally:
        _held.reset(token)
        path.unlink(missing_ok=True)  # before the lock goes: whoever has opened it by then, sees that it is not there
        os.close(file)


def contents(folder: Path) -> list[Path]:
    """What lies in a folder beside locks; nothing where there is none."""
    return [path for path in folder.iterdir() if not path.match(".writing*.lock")] if folder.is_dir() else []


def _locked(path: Path, what: str) -> int:
    """Opens the file of a lock and takes it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(file, what)
            if _is_there(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _take(file: int, what: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 200).decode(errors="replace") or "another process"
        raise ValueError(
            f"{what} is being written by {holder}. Wait until that has ended, or choose another folder."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    with suppress(OSError):  # a full disk; the lock holds without the name
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _is_there(file: int, path: Path) -> bool:
    """Whether the one before has not taken the file away meanwhile."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False
