"""Runs a reader within bounds of time and memory, and holds what comes of it against what may come."""

import contextlib
import re
import time
from pathlib import Path

SECONDS = 10
BYTES = 2**31  # beyond what the process has taken already


@contextlib.contextmanager
def bounded(seconds=SECONDS, size=BYTES):
    """Refuses memory beyond a bound, which is an error of another kind, and fails if it took long."""
    begun = time.perf_counter()
    with _memory(size):
        yield
    took = time.perf_counter() - begun
    assert took < seconds, f"{took:.1f} s"


@contextlib.contextmanager
def _memory(size):
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except (ImportError, OSError):  # no Linux
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def outcome(read, *arguments, told, what=""):
    """What a reader makes of a file: its result, or `None` where it refuses the file as it should.

    Args:
        read: The reader. Any error but `ValueError` is passed on.
        arguments: What it is given.
        told: A regular expression for all of the error's text.
        what: What was done to the file.
    """
    with bounded():
        try:
            return read(*arguments)
        except ValueError as error:
            text = str(error)
    assert re.fullmatch(told, text, re.DOTALL), f"{what}: {text}"
    assert len(text) < 2000, f"{what}: {len(text)} characters"
    return None
