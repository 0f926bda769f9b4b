"""Sources from TensorFlow Datasets."""

import difflib
import os
import re
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_kd.data.source import Source, held_out_size

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def tfds_source(name: str, data_dir: str | os.PathLike | None) -> Source:
    """Opens a TFDS classification set, which is downloaded and prepared when it is not on disk.

    Args:
        name: name of the set, as "mnist" or "name/config:version".
        data_dir: where TFDS keeps its sets. `None` leaves that to TFDS.

    Returns:
        The `Source`. Splits that the set lacks are cut from the end of its training split.

    Raises:
        ValueError: if the set is unknown, has no training split or is not one of classification.
        OSError: if the set can neither be found on disk nor prepared.
    """
    builder = _builder(name, data_dir)
    kind = _kind(builder, name)
    if not builder.is_prepared():
        _prepare(builder, name)
    train, validation, test = _splits(builder, name)
    input_key, label_key = builder.info.supervised_keys
    return Source(
        name=name,
        kind=kind,
        train=train,
        validation=validation,
        test=test,
        input_shape=tuple(builder.info.features[input_key].shape),
        class_names=tuple(builder.info.features[label_key].names),
    )


def _builder(name: str, data_dir: str | os.PathLike | None) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises anything from AssertionError to ModuleNotFoundError here
        known = tfds.list_builders()
        if re.split("[/:]", name)[0] in known:
            raise ValueError(f"`load`: TFDS cannot open {name!r}. {_first_line(error)}.") from error
        near = difflib.get_close_matches(name, ["digits", *known], n=5)
        raise ValueError(
            '`load`: expected "digits", an existing folder of images by class, or the name of a TFDS data set. '
            f"Received: {name!r}." + (f" Near matches: {', '.join(near)}." if near else "")
        ) from error


def _kind(builder: "tfds.core.DatasetBuilder", name: str) -> str:
    import tensorflow_datasets as tfds

    keys = builder.info.supervised_keys
    features = builder.info.features
    if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        x, y = (features[key] for key in keys)
        if isinstance(y, tfds.features.ClassLabel):
            if isinstance(x, tfds.features.Image):
                return "image"
            if isinstance(x, tfds.features.Audio):
                return "audio"
            if isinstance(x, tfds.features.Tensor) and (x.tf_dtype.is_integer or x.tf_dtype.is_floating):
                return "features"
    held = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
    raise ValueError(
        "`load`: expected a classification set, whose supervised keys are an image, audio or numeric tensor and a "
        f"class label. Received: {name!r} with supervised keys {keys} of {held}. Read it with `tfds.load` and map it "
        "to (x, y)."
    )


def _prepare(builder: "tfds.core.DatasetBuilder", name: str) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:  # the download, its checksums, and whatever the builder's own code raises
        raise OSError(
            f"`load`: {name!r} is not prepared in {builder.data_dir}, and TFDS could not download and prepare it: "
            f"{_first_line(error)}. Check the network, or point TFDS_DATA_DIR or `data_dir` at a folder that has it."
        ) from error


def _splits(builder: "tfds.core.DatasetBuilder", name: str) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    import tensorflow_datasets as tfds

    def read(split: str) -> tf.data.Dataset:
        # `pipeline` caches, after its own transform; TFDS caching small sets by itself would hold them twice.
        return builder.as_dataset(
            split=split, as_supervised=True, shuffle_files=False, read_config=tfds.ReadConfig(try_autocache=False)
        )

    stored = builder.info.splits
    if "train" not in stored:
        raise ValueError(f"`load`: expected a set with a `train` split. Received: {name!r} with splits {list(stored)}.")
    size = end = stored["train"].num_examples
    taken = {}
    for split in ("test", "validation"):
        if split in stored and _has_labels(dataset := read(split)):
            taken[split] = dataset
        else:
            start = end - held_out_size(size)
            taken[split] = read(f"train[{start}:{end}]")
            end = start
    return read(f"train[:{end}]"), taken["validation"], taken["test"]


def _has_labels(split: tf.data.Dataset) -> bool:
    """Tells whether a split is labelled: TFDS gives the label -1 to a test split whose labels are not published."""
    return all(int(y) >= 0 for _, y in split.take(1))


def _first_line(error: Exception) -> str:
    """Returns the first line of an error's text: TFDS adds its whole list of data sets below."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(" .:")
