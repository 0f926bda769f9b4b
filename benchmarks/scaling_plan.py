"""What a long run will take, from what its parts take: the arithmetic of `docs/scaling.md`."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """Seconds that grow with the number of examples: `fixed + per_example · n`."""

    fixed: float
    per_example: float

    @classmethod
    def through(cls, fewer: tuple[int, float], more: tuple[int, float]) -> "Line":
        """The line through two points `(examples, seconds)`."""
        slope = (more[1] - fewer[1]) / (more[0] - fewer[0])
        return cls(fewer[1] - slope * fewer[0], slope)

    def __call__(self, examples: float) -> float:
        return self.fixed + self.per_example * examples


def seconds_of_asking(line: Line, examples: int, workers: int, views: int = 1) -> float:
    """How long `workers` take to ask a teacher once of each view of each example, in parts of equal size."""
    return line(math.ceil(examples / workers) * views)


def seconds_of_epoch(batches: int, read: float, step: float, readers: int = 0, buffer: int = 2) -> float:
    """When the last batch of an epoch is learnt.

    Args:
        batches: Batches of the epoch.
        read: Seconds a reader takes for a batch.
        step: Seconds a step takes.
        readers: Cores that do nothing but read, at most `buffer` batches ahead of the step; 0, if one core does both,
            one after the other.
        buffer: As in `prefetch`.
    """
    if readers == 0:
        return batches * (read + step)
    free, taken = [0.0] * readers, []
    for batch in range(batches):
        room = taken[batch - buffer] if batch >= buffer else 0.0
        first = free.index(min(free))
        free[first] = max(free[first], room) + read
        ready = max(free[first], taken[-1] + step if taken else 0.0)
        taken.append(ready)
    return taken[-1] + step


def readers_for(per_second: float, read: float) -> int:
    """Readers that keep up with so many examples a second, at `read` seconds an example."""
    return math.ceil(per_second * read)
