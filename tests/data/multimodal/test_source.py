import json

import numpy as np
import tensorflow as tf

from keras_kd.data.multimodal import Text, from_arrays, load_vocabulary
from tests.data.drawn import check_text

LABELS = np.arange(12) % 2


def test_a_vocabulary_comes_back_from_its_file(tmp_path):
    source = from_arrays({"text": ['fünf "5"', "a\\b\n"] * 6, "note": ["x"] * 12}, LABELS, length=5)
    path = source.save_vocabulary(tmp_path / "vocabulary.json")
    assert path == tmp_path / "vocabulary.json"
    assert "ü" in path.read_text("utf-8")
    assert load_vocabulary(str(path)) == source.modalities
    assert load_vocabulary(path)["text"].encode("fünf").tolist() == source.modalities["text"].encode("fünf").tolist()


def test_a_source_without_text_has_no_vocabulary(tmp_path):
    source = from_arrays({"image": np.zeros((12, 2, 2))}, LABELS)
    text = "`save_vocabulary`: expected a source with text. Received: 'arrays' with image."
    check_text(ValueError, lambda: source.save_vocabulary(tmp_path / "a"), text)


def test_other_files_are_no_vocabulary(tmp_path):
    path = tmp_path / "a.json"
    text = f"`load_vocabulary`: expected a file that `save_vocabulary` wrote. Received: {path}, which is not one."
    for content in ("no JSON", "[1]", json.dumps({"text": {"length": 3}}), json.dumps({"text": 3}), "\x00"):
        path.write_text(content)
        check_text(ValueError, lambda: load_vocabulary(path), text)


def test_elements_have_static_shapes_and_every_epoch_is_the_same():
    words = ["ab", None] * 6
    images = np.random.default_rng(0).uniform(size=(12, 3, 3))
    source = from_arrays({"image": images, "text": words}, LABELS, length=3)
    assert source.modalities["text"] == Text(3, ("", "[UNK]", "a", "b"))
    flag = tf.TensorSpec((), tf.bool)
    image, text = tf.TensorSpec((3, 3, 1), tf.float32), tf.TensorSpec((3,), tf.int32)
    spec = {"image": image, "image_present": flag, "text": text, "text_present": flag}
    for split in (source.train, source.validation, source.test):
        assert split.element_spec == (spec, tf.TensorSpec((), tf.int64))
        for (x, y), (other_x, other_y) in zip(split, split, strict=True):
            assert y == other_y
            np.testing.assert_array_equal(x["image"], other_x["image"])
