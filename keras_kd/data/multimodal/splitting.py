"""Which examples are for training, validation and test."""

from collections.abc import Sequence

import numpy as np

from keras_kd.data.multimodal.source import SPLITS
from keras_kd.data.source import held_out_size


def lacking(splits: Sequence[str]) -> tuple[str, ...]:
    """Returns the splits that no example names and that are therefore cut from training."""
    return tuple(split for split in ("test", "validation") if split not in splits)


def split_rows(splits: Sequence[str], labels: Sequence[int], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Divides examples into three splits, the same ones on every machine.

    A split that no example names is cut from training, a tenth of each class. What is cut, and the order within each
    split, follow `keys` alone.

    Args:
        splits: the split that each example names.
        labels: class of each example, with at least `1 + len(lacking(splits))` training examples in every class.
        keys: what examples are ordered by, such as a hash of their content.

    Returns:
        Row numbers by split.

    Example:
        >>> rows = split_rows(["train"] * 20, [0] * 20, [f"{row:02}" for row in range(20)])
        >>> rows["validation"].tolist(), rows["test"].tolist()
        ([16, 17], [18, 19])
    """
    order = sorted(range(len(keys)), key=lambda row: (keys[row], row))
    rows = {split: [row for row in order if splits[row] == split] for split in SPLITS}
    by_class = {label: [row for row in rows["train"] if labels[row] == label] for label in labels}
    cuts = {label: held_out_size(len(members)) for label, members in by_class.items()}
    for split in lacking(splits):
        for label, members in by_class.items():
            rows[split] += members[-cuts[label] :]
            del members[-cuts[label] :]
    kept = {row for members in by_class.values() for row in members}
    rows["train"] = [row for row in rows["train"] if row in kept]
    rank = {row: place for place, row in enumerate(order)}
    return {split: np.array(sorted(members, key=rank.get), "int64") for split, members in rows.items()}
