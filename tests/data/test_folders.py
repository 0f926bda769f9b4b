import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from keras_kd.data import load

RNG = np.random.default_rng(0)


def write_images(folder, count, *, shape=(5, 4, 3), start=0):
    """Writes PNG files whose first pixel is their number, and returns them as arrays by number."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {}
    for number in range(start, start + count):
        image = RNG.integers(0, 256, shape, dtype="uint8")
        image[0, 0] = number
        Image.fromarray(image).save(folder / f"{number}.png")
        images[number] = image.reshape(*shape[:2], -1)
    return images


def numbers(dataset):
    return [int(x[0, 0, 0]) for x, _ in dataset.as_numpy_iterator()]


def test_classes_in_one_folder_are_split_by_class(tmp_path):
    images = write_images(tmp_path / "cat", 20) | write_images(tmp_path / "bird", 40, start=20)
    source = load(tmp_path)
    assert (source.name, source.kind, source.input_shape) == (tmp_path.name, "image", (5, 4, 3))
    assert (source.class_names, source.num_classes) == (("bird", "cat"), 2)
    counts = [Counter(int(y) for _, y in split) for split in (source.train, source.validation, source.test)]
    assert counts == [{0: 32, 1: 16}, {0: 4, 1: 2}, {0: 4, 1: 2}]
    everything = source.train.concatenate(source.validation).concatenate(source.test)
    assert sorted(numbers(everything)) == list(range(60))
    for x, y in everything.as_numpy_iterator():
        number = int(x[0, 0, 0])
        np.testing.assert_array_equal(x, images[number])
        assert y == (number < 20)
    assert len(set(numbers(source.train)[:8]) & set(range(20))) not in (0, 8)  # the classes come mixed


def test_split_does_not_depend_on_place_or_on_the_order_of_listing(tmp_path):
    write_images(tmp_path / "one" / "a", 12)
    (tmp_path / "two" / "a").mkdir(parents=True)
    for number in reversed(range(12)):
        content = (tmp_path / "one" / "a" / f"{number}.png").read_bytes()
        (tmp_path / "two" / "a" / f"{number}.png").write_bytes(content)
    first, second = load(str(tmp_path / "one")), load(tmp_path / "two")
    for split in ("train", "validation", "test"):
        assert numbers(getattr(first, split)) == numbers(getattr(second, split))


@pytest.mark.parametrize("validation", [None, "validation", "val"])
def test_folders_by_split(tmp_path, validation):
    write_images(tmp_path / "train" / "a", 10)
    write_images(tmp_path / "train" / "b", 10, start=10)
    write_images(tmp_path / "test" / "b", 3, start=20)
    if validation:
        write_images(tmp_path / validation / "a", 2, start=30)
    source = load(tmp_path)
    assert sorted(numbers(source.test)) == [20, 21, 22]
    assert [int(y) for _, y in source.test] == [1, 1, 1]
    if validation:
        assert sorted(numbers(source.validation)) == [30, 31]
        assert sorted(numbers(source.train)) == list(range(20))
    else:
        assert sorted(int(y) for _, y in source.validation) == [0, 1]
        assert sorted(numbers(source.train.concatenate(source.validation))) == list(range(20))


def test_grey_stays_grey_and_a_mixed_folder_becomes_rgb(tmp_path):
    grey = write_images(tmp_path / "grey" / "a", 3, shape=(4, 4))
    source = load(tmp_path / "grey")
    assert source.input_shape == (4, 4, 1)
    for x, _ in source.train.as_numpy_iterator():
        np.testing.assert_array_equal(x, grey[int(x[0, 0, 0])])

    mixed = write_images(tmp_path / "mixed" / "a", 3, shape=(4, 4))
    mixed |= write_images(tmp_path / "mixed" / "rgba", 3, shape=(4, 4, 4), start=3)
    mixed |= write_images(tmp_path / "mixed" / "rgb", 3, shape=(4, 4, 3), start=6)
    mixed |= write_images(tmp_path / "mixed" / "grey_alpha", 3, shape=(4, 4, 2), start=9)
    source = load(tmp_path / "mixed")
    assert source.input_shape == (4, 4, 3)
    everything = source.train.concatenate(source.validation).concatenate(source.test)
    assert len(everything) == 12
    for x, _ in everything.as_numpy_iterator():
        image = mixed[int(x[0, 0, 0])]
        np.testing.assert_array_equal(x, np.repeat(image[..., :1], 3, -1) if image.shape[-1] < 3 else image[..., :3])


def test_sizes_that_vary_are_none(tmp_path):
    write_images(tmp_path / "a", 3, shape=(4, 4, 3))
    write_images(tmp_path / "b", 3, shape=(4, 6, 3), start=3)
    assert load(tmp_path).input_shape == (None, None, 3)


def test_other_formats_are_read_and_other_files_passed_over(tmp_path):
    write_images(tmp_path / "a", 1)
    solid = Image.fromarray(np.full((5, 4, 3), 77, "uint8"))
    for name in ("x.bmp", "x.GIF", "x.jpeg", "x.JPG"):
        solid.save(tmp_path / "a" / name)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "a" / "._x.png").write_text("what a Mac leaves behind")
    (tmp_path / ".hidden").mkdir()
    source = load(tmp_path)
    everything = source.train.concatenate(source.validation).concatenate(source.test)
    assert source.class_names == ("a",)
    assert sorted(float(x.mean()) for x, _ in everything.as_numpy_iterator())[:4] == [77] * 4


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"GIF?"])
def test_a_corrupt_image_is_named(tmp_path, damage):
    write_images(tmp_path / "a", 9)
    write_images(tmp_path / "b", 9, start=9)
    victim = tmp_path / "b" / "12.png"
    victim.write_bytes(damage(victim.read_bytes()))
    text = (
        rf"^`load`: expected an image that TensorFlow can read\. Received: {re.escape(str(victim))}, which is corrupt "
        r"or not an image\. Replace or remove it\.$"
    )
    with pytest.raises(ValueError, match=text):
        load(tmp_path)


def test_folders_that_cannot_be_a_set(tmp_path):
    with pytest.raises(ValueError, match=r"expected one sub-folder of images per class\. Received: .*, which has none"):
        load(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(
        ValueError, match=r"expected images \(\.bmp, .*\) in each class folder\. Received: .*a, with none\."
    ):
        load(tmp_path)
    write_images(tmp_path / "a", 2)
    text = r"expected at least 3 training images per class, .* Received: 2 of class 'a' in"
    with pytest.raises(ValueError, match=text):
        load(tmp_path)


def test_a_test_class_that_train_has_not(tmp_path):
    write_images(tmp_path / "train" / "a", 3)
    write_images(tmp_path / "test" / "z", 1)
    text = r"expected the classes of `test` to be among those of `train`, \['a'\]\. Received: \['z'\] in"
    with pytest.raises(ValueError, match=text):
        load(tmp_path)
