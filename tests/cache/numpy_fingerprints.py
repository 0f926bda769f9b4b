"""Checksums and seeds of examples, in whole numbers of Python, from the formulas alone."""

import numpy as np

MODULUS = 2**32


def spread(number):
    number %= MODULUS
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        number = (number ^ (number >> shift)) * factor % MODULUS
    return number ^ (number >> 16)


def words(leaf):
    """The numbers that stand for one example's tensor: whole numbers as they are, others by their bits."""
    leaf = np.ascontiguousarray(leaf)
    if leaf.dtype.itemsize == 8:
        return leaf.reshape(-1).view("<u4").tolist()
    if leaf.dtype.kind == "f":
        return leaf.reshape(-1).view(f"<i{leaf.dtype.itemsize}").tolist()
    return [int(number) for number in leaf.reshape(-1)]


def checksum(*leaves):
    """Of one example, its tensors in the order of their paths."""
    total = 0
    for index, leaf in enumerate(leaves):
        weights = (spread(place + (index << 27)) | 1 for place in range(np.size(leaf) * 2))
        total = spread(total + sum(word * weight for word, weight in zip(words(leaf), weights, strict=False)))
    return total


def seed_of(checksum_of_example, key, view, seed):
    """The seed of a view, as a number with a sign."""
    number = spread(view + spread(seed))
    for part in (key % MODULUS, key // MODULUS, checksum_of_example):
        number = spread(number + part)
    return number - MODULUS if number >= MODULUS // 2 else number


def seeds(x, view, seed=0, keys=None):
    """Of all examples, known by their places unless keys are given."""
    keys = range(len(x)) if keys is None else keys
    return [seed_of(checksum(one), int(key), view, seed) for one, key in zip(x, keys, strict=True)]
