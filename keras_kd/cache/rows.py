"""Arithmetic on rows of logits: the greatest of them, where draws fall, and how they fit into few bits."""

from collections.abc import Callable

import numpy as np

LEAST_ID_BITS = 16
MANTISSA_BITS = 10
# Elements whose float64 copies are in memory at a time.
BLOCK = 1 << 19


def in_blocks(function: Callable, rows: np.ndarray, *more: np.ndarray) -> list[np.ndarray]:
    """`function` of some rows at a time, its results joined."""
    size = max(1, BLOCK // rows.shape[-1])
    starts = range(0, max(1, len(rows)), size)
    parts = [function(*(array[start : start + size] for array in (rows, *more))) for start in starts]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def logsumexp(values: np.ndarray) -> np.ndarray:
    """Over the last axis, which is kept."""
    greatest = values.max(axis=-1, keepdims=True)
    return greatest + np.log(np.exp(values - greatest).sum(axis=-1, keepdims=True))


def greatest_classes(rows: np.ndarray, k: int) -> np.ndarray:
    """Ids of the `k` greatest, the greatest first, equal ones by id: a float is its order before the id's bits."""
    bits = (0.0 - rows).view("int32")  # 0 - x has no zero with a sign, as -x has
    order = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype("int64")
    keys = (order << 32) | np.arange(rows.shape[-1])
    return np.sort(np.partition(keys, k - 1, axis=-1)[:, :k], axis=-1) & 0xFFFFFFFF


def first_at_least(ascending: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each target the first place of its row that is no less, by halving: `searchsorted` takes one row alone."""
    low, high = np.zeros(targets.shape, "int64"), np.full(targets.shape, ascending.shape[-1] - 1)
    for _ in range((ascending.shape[-1] - 1).bit_length()):
        middle = (low + high) // 2
        less = np.take_along_axis(ascending, middle, axis=-1) < targets
        low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
    return low


def quantized(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Integers from -127 to 127, and the scale of each row."""
    scale = (np.abs(logits).max(axis=-1) / np.float32(127)).astype("float32")
    # A quotient just above 127 is the rounding of the scale, and that of a scale which underflowed is left out.
    steps = np.divide(logits, scale[..., None], out=np.zeros_like(logits), where=scale[..., None] > 0)
    return {"logits": np.clip(np.rint(steps), -127, 127).astype("int8"), "scale": scale}


def packed(ids: np.ndarray, ratios: np.ndarray, bits: int) -> np.ndarray:
    """Words of an id in the lowest bits and a float16, less its lowest bits where the id needs them."""
    lost = bits - LEAST_ID_BITS
    # The greatest number of the bits that stay: a probability of e^-65504 is 0 either way, and none is infinite.
    limit = (2.0 - 2.0 ** (lost - MANTISSA_BITS)) * 2.0**15
    halves = np.clip(ratios, -limit, limit).astype("<f2").view("<u2").astype("<u4")
    kept = halves >> lost
    if lost:
        # To the nearest, to the even of two.
        kept = (halves + (1 << (lost - 1)) - 1 + (kept & 1)) >> lost
    return ((kept << bits) | ids.astype("<u4")).astype("<u4")


def unpacked(words: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids and the numbers of words."""
    halves = (words >> bits) << (bits - LEAST_ID_BITS)
    return words & ((1 << bits) - 1), halves.astype("<u2").view("<f2").astype("float64")
