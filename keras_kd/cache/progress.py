"""What is seen of the writing of a cache."""

import time

import keras


class Progress:
    """A progress bar with examples a second and bytes an example.

    Args:
        examples: How many there are, `None` where it is not known.
        size: Bytes of an example with all its views.
        verbose: 0 for none; `"auto"` is a bar.
    """

    def __init__(self, examples: int | None, size: int, verbose: str | int):
        names = ("examples_per_second", "bytes_per_example")
        verbose = 1 if verbose == "auto" else verbose
        self._bar = keras.utils.Progbar(examples, verbose=verbose, stateful_metrics=names, unit_name="example")
        self._start, self._done, self._size = time.perf_counter(), 0, size

    def add(self, examples: int) -> None:
        """Shows that so many more are done."""
        self._done += examples
        self._bar.update(self._done, self._values(), finalize=False)

    def close(self) -> None:
        """Ends the line."""
        self._bar.update(self._done, self._values(), finalize=True)

    def _values(self) -> list[tuple[str, float]]:
        rate = self._done / (time.perf_counter() - self._start)
        return [("examples_per_second", round(rate)), ("bytes_per_example", self._size)]
