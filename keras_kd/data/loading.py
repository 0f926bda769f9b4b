"""`load`: one way in for every data set, by name or by folder."""

import os
from pathlib import Path

import tensorflow as tf

from keras_kd.data.digits import digits
from keras_kd.data.folders import folder_source
from keras_kd.data.source import Source, held_out_size
from keras_kd.data.tfds_sets import tfds_source


def load(name_or_path: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> Source:
    """Loads a classification data set as a `Source`.

    A split that the set does not have is cut from its training examples, a tenth for each, always the same ones. For
    spoken_digit, which has no test split, that splits by recording and not by speaker: every speaker of the test was
    heard in training.

    Args:
        name_or_path: one of
            - "digits", the embedded set;
            - a folder of images by class, `FOLDER/<class>/*.png` or `FOLDER/train/<class>/*.png` beside an optional
              `FOLDER/validation` (or `val`) and `FOLDER/test`. Images are png, jpg, jpeg, gif (first frame) or bmp;
              each is read once here, so that a corrupt one is found before training;
            - the name of a TFDS set, as "mnist" or "name/config:version", with an image, audio or numeric input and a
              class label. It is downloaded and prepared when it is not on disk.
        data_dir: where TFDS keeps its sets. Defaults to TFDS's own rule: `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.

    Returns:
        The `Source`, its splits disjoint and in a stable order.

    Raises:
        ValueError: if there is no such set or folder, if the set is not one of classification, or if an image cannot
            be read.
        OSError: if TFDS can neither find the set on disk nor prepare it.

    Example:
        >>> source = load("digits")
        >>> x, y = next(source.train.as_numpy_iterator())
        >>> x.shape, x.dtype, y.dtype
        ((8, 8, 1), dtype('float32'), dtype('int64'))
    """
    if name_or_path == "digits":
        return _digits_source()
    if os.path.isdir(name_or_path):
        return folder_source(Path(name_or_path))
    return tfds_source(os.fspath(name_or_path), data_dir)


def _digits_source() -> Source:
    (x_train, y_train), test = digits()
    cut = len(x_train) - held_out_size(len(x_train))
    return Source(
        name="digits",
        kind="image",
        train=tf.data.Dataset.from_tensor_slices((x_train[:cut], y_train[:cut])),
        validation=tf.data.Dataset.from_tensor_slices((x_train[cut:], y_train[cut:])),
        test=tf.data.Dataset.from_tensor_slices(test),
        input_shape=x_train.shape[1:],
        class_names=tuple(str(digit) for digit in range(10)),
    )
