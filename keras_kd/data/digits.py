"""The embedded data set: handwritten digits that need no download."""

from pathlib import Path

import numpy as np


def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Loads 1,797 real 8x8 scans of handwritten digits, in the convention of `keras.datasets`.

    These are the scans of `sklearn.datasets.load_digits`. The split is fixed, shuffled and stratified by digit: the
    one of `sklearn.model_selection.train_test_split(..., test_size=500, stratify=labels, random_state=0)`.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: images of shape `(1297, 8, 8, 1)` and `(500, 8, 8, 1)`, float32 in
        [0, 1], and their labels 0 to 9, int64.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = digits()
        >>> x_train.shape, x_test.shape
        ((1297, 8, 8, 1), (500, 8, 8, 1))

    Reference:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
        doi:10.24432/C50P49, CC BY 4.0. Scaled here from 0..16 to [0, 1] and split.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as stored:
        return tuple(
            (stored[f"x_{split}"].astype("float32") / 16, stored[f"y_{split}"].astype("int64"))
            for split in ("train", "test")
        )
