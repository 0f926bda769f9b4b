"""Sources from folders of images by class."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from keras_kd.data.image_size import refuse_huge
from keras_kd.data.source import Source, held_out_size

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def folder_source(folder: Path) -> Source:
    """Opens a folder of images, `folder/<class>/*` or `folder/train/<class>/*` with `validation` and `test` beside it.

    Images are grey when all are, otherwise RGB. A split without a folder takes a tenth of each class of `train`. Order
    and choice follow a hash of each image's class and file name: they depend on nothing else, and are the same on
    every machine.

    Args:
        folder: an existing folder.

    Returns:
        The `Source`. The classes are the names of the folders in alphabetical order.

    Raises:
        ValueError: if there are no classes, a class is empty or too small to split, a split has a class that `train`
            has not, or an image cannot be read.
    """
    folders = {
        split: next((folder / name for name in names if (folder / name).is_dir()), None)
        for split, names in _SPLIT_FOLDERS.items()
    }
    train = _images_by_class(folders["train"] or folder)
    class_names = sorted(train)
    splits = {"train": train}
    for split in ("test", "validation"):
        if folders["train"] and folders[split]:
            splits[split] = _images_by_class(folders[split])
    _check_classes(splits, folder)
    cuts = {name: held_out_size(len(images)) for name, images in train.items()}
    for split in ("test", "validation"):
        if split not in splits:
            splits[split] = {name: train[name][-cut:] for name, cut in cuts.items()}
            train = splits["train"] = {name: train[name][:-cut] for name, cut in cuts.items()}

    shapes = _shapes([image for images in splits.values() for paths in images.values() for image in paths])
    channels = 1 if all(shape[-1] <= 2 for shape in shapes) else 3
    sizes = {shape[:2] for shape in shapes}
    input_shape = (*(sizes.pop() if len(sizes) == 1 else (None, None)), channels)
    return Source(
        name=folder.resolve().name,
        kind="image",
        input_shape=input_shape,
        class_names=tuple(class_names),
        **{split: _dataset(images, class_names, input_shape) for split, images in splits.items()},
    )


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    classes = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if not classes:
        raise ValueError(f"`load`: expected one sub-folder of images per class. Received: {folder}, which has none.")
    return {path.name: _images(path) for path in classes}


def _images(folder: Path) -> list[Path]:
    images = [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")]
    if not images:
        raise ValueError(
            f"`load`: expected images ({', '.join(_SUFFIXES)}) in each class folder. Received: {folder}, with none."
        )
    return sorted(images, key=_rank)


def _rank(image: Path) -> str:
    return hashlib.sha256(f"{image.parent.name}/{image.name}".encode()).hexdigest()


def _check_classes(splits: dict[str, dict[str, list[Path]]], folder: Path) -> None:
    train = splits["train"]
    for split, images in splits.items():
        if unknown := sorted(set(images) - set(train)):
            raise ValueError(
                f"`load`: expected the classes of `{split}` to be among those of `train`, {sorted(train)}. "
                f"Received: {unknown} in {folder}."
            )
    needed = 1 + sum(split not in splits for split in ("validation", "test"))
    for name, images in train.items():
        if len(images) < needed:
            raise ValueError(
                f"`load`: expected at least {needed} training images per class, to cut the missing splits from. "
                f"Received: {len(images)} of class {name!r} in {folder}."
            )


def _shapes(images: Sequence[Path]) -> list[tuple[int, int, int]]:
    """Reads every image once, so that a corrupt one is named here and not in the middle of training."""
    shapes = []
    for image in images:
        try:
            refuse_huge(image)
        except ValueError as error:
            raise ValueError(f"`load`: cannot read {image}: {error}. Scale it down, or remove it.") from None
    dataset = tf.data.Dataset.from_tensor_slices([str(image) for image in images])
    try:
        for shape in dataset.map(lambda path: tf.shape(_decode(path)), tf.data.AUTOTUNE).as_numpy_iterator():
            shapes.append(tuple(int(size) for size in shape))
    except tf.errors.OpError as error:
        raise ValueError(
            f"`load`: expected an image that TensorFlow can read. Received: {images[len(shapes)]}, which is corrupt or "
            "not an image. Replace or remove it."
        ) from error
    return shapes


def _decode(path: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(tf.io.read_file(path), expand_animations=False)


def _dataset(
    images: dict[str, list[Path]], class_names: Sequence[str], input_shape: tuple[int | None, ...]
) -> tf.data.Dataset:
    ordered = sorted((path for paths in images.values() for path in paths), key=_rank)
    labels = tf.constant([class_names.index(path.parent.name) for path in ordered], tf.int64)

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = _decode(path)
        colours = tf.shape(image)[-1] - 1 + tf.shape(image)[-1] % 2  # without an alpha channel: 1, 1, 3, 3 of 1 to 4
        image = tf.gather(image, tf.minimum(tf.range(input_shape[-1]), colours - 1), axis=-1)
        return tf.ensure_shape(image, input_shape), label

    return tf.data.Dataset.from_tensor_slices(([str(path) for path in ordered], labels)).map(read, tf.data.AUTOTUNE)
