import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_kd.data import load

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 4, 4, 1), dtype="uint8")


def builder_class(name, features, splits, supervised_keys=("x", "label"), **class_arguments):
    """Defines a TFDS builder: `splits` maps a name to its list of examples."""

    def info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=supervised_keys
        )

    def generate(self, split):
        return enumerate(splits[split])

    namespace = {
        "VERSION": tfds.core.Version("1.0.0"),
        "name": name,
        "_info": info,
        "_split_generators": lambda self, manager: {split: generate(self, split) for split in splits},
        "_generate_examples": generate,
    }
    return type(name, (tfds.core.GeneratorBasedBuilder,), namespace, **class_arguments)


def write(tmp_path, name, features, splits, **kwargs):
    """Puts a set on disk and forgets its code, so that only the files can serve it."""
    builder_class(name, features, splits, skip_registration=True, **kwargs)(data_dir=tmp_path).download_and_prepare()


def image_features():
    return {"x": tfds.features.Image(shape=(4, 4, 1)), "label": tfds.features.ClassLabel(names=["a", "b"])}


def image_examples(start, stop):
    return [{"x": IMAGES[index], "label": index % 2} for index in range(start, stop)]


def contents(dataset):
    return sorted((x.tobytes(), int(y)) for x, y in dataset.as_numpy_iterator())


def expected(start, stop):
    return sorted((IMAGES[index].tobytes(), index % 2) for index in range(start, stop))


def test_missing_splits_are_cut_from_train_disjoint_and_stable(tmp_path):
    write(tmp_path, "kd_only_train", image_features(), {"train": image_examples(0, 30)})
    source = load("kd_only_train", data_dir=tmp_path)
    assert (len(source.train), len(source.validation), len(source.test)) == (24, 3, 3)
    together = source.train.concatenate(source.validation).concatenate(source.test)
    assert contents(together) == expected(0, 30)
    in_file_order = [x.tobytes() for x, _ in together.as_numpy_iterator()]
    again = load("kd_only_train", data_dir=tmp_path)
    again = again.train.concatenate(again.validation).concatenate(again.test)
    assert [x.tobytes() for x, _ in again.as_numpy_iterator()] == in_file_order


def test_describes_an_image_set_and_keeps_its_test_split(tmp_path):
    splits = {"train": image_examples(0, 20), "test": image_examples(20, 30)}
    write(tmp_path, "kd_with_test", image_features(), splits)
    source = load("kd_with_test", data_dir=tmp_path)
    assert (source.name, source.kind, source.input_shape) == ("kd_with_test", "image", (4, 4, 1))
    assert (source.num_classes, source.class_names) == (2, ("a", "b"))
    assert source.train.element_spec == (tf.TensorSpec((4, 4, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    assert contents(source.test) == expected(20, 30)
    assert len(source.validation) == 2
    assert contents(source.train.concatenate(source.validation)) == expected(0, 20)


def test_a_validation_split_of_its_own_is_used(tmp_path):
    splits = {"train": image_examples(0, 20), "validation": image_examples(20, 30)}
    write(tmp_path, "kd_with_validation", image_features(), splits)
    source = load("kd_with_validation", data_dir=tmp_path)
    assert contents(source.validation) == expected(20, 30)
    assert (len(source.train), len(source.test)) == (18, 2)


def test_a_test_split_without_labels_counts_as_missing(tmp_path):
    unlabelled = [{"x": image, "label": -1} for image in IMAGES[20:]]
    write(tmp_path, "kd_unlabelled", image_features(), {"train": image_examples(0, 20), "test": unlabelled})
    source = load("kd_unlabelled", data_dir=tmp_path)
    assert len(source.test) == 2
    everything = source.train.concatenate(source.validation).concatenate(source.test)
    assert contents(everything) == expected(0, 20)


def test_audio_and_plain_tensors(tmp_path):
    sounds = [np.arange(length, dtype="int64") for length in (5, 3, 8, 6)]
    audio = {"x": tfds.features.Audio(sample_rate=8000), "label": tfds.features.ClassLabel(num_classes=4)}
    write(tmp_path, "kd_audio", audio, {"train": [{"x": x, "label": i} for i, x in enumerate(sounds)]})
    source = load("kd_audio", data_dir=tmp_path)
    assert (source.kind, source.input_shape, source.class_names) == ("audio", (None,), ("0", "1", "2", "3"))
    everything = source.train.concatenate(source.validation).concatenate(source.test)
    for x, y in everything.as_numpy_iterator():
        np.testing.assert_array_equal(x, sounds[y])

    table = RNG.normal(size=(4, 3)).astype("float32")
    features = {
        "x": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "label": tfds.features.ClassLabel(num_classes=4),
    }
    write(tmp_path, "kd_table", features, {"train": [{"x": x, "label": i} for i, x in enumerate(table)]})
    source = load("kd_table", data_dir=tmp_path)
    assert (source.kind, source.input_shape) == ("features", (3,))
    for x, y in source.train.as_numpy_iterator():
        np.testing.assert_array_equal(x, table[y])


def test_a_set_that_is_not_prepared_is_prepared(tmp_path):
    builder_class("kd_prepared_on_load", image_features(), {"train": image_examples(0, 10)})
    assert not list(tmp_path.iterdir())
    assert len(load("kd_prepared_on_load", data_dir=tmp_path).train) == 8
    assert (tmp_path / "kd_prepared_on_load" / "1.0.0" / "dataset_info.json").exists()


def test_a_failed_download_is_one_clear_error(tmp_path):
    def fail(self, manager):
        raise ConnectionError("no route to host\nand more")

    builder_class("kd_unreachable", image_features(), {})._split_generators = fail
    where = re.escape(str(tmp_path / "kd_unreachable" / "1.0.0"))
    text = (
        rf"^`load`: 'kd_unreachable' is not prepared in {where}, and TFDS could not download and prepare it: "
        r"ConnectionError: no route to host\. Check the network, or point TFDS_DATA_DIR or `data_dir` at a folder that "
        r"has it\.$"
    )
    with pytest.raises(OSError, match=text):
        load("kd_unreachable", data_dir=tmp_path)


def test_unknown_names_get_near_matches(tmp_path):
    start = r'^`load`: expected "digits", an existing folder of images by class, or the name of a TFDS data set\. '
    with pytest.raises(ValueError, match=start + r"Received: 'mnits'\. Near matches: mnist, .*\.$"):
        load("mnits", data_dir=tmp_path)
    with pytest.raises(ValueError, match=start + r"Received: 'digts'\. Near matches: digits.*\.$"):
        load("digts", data_dir=tmp_path)
    with pytest.raises(ValueError, match=start + r"Received: '/no such folder'\.$"):
        load("/no such folder", data_dir=tmp_path)


def test_a_known_set_with_an_unknown_configuration(tmp_path):
    with pytest.raises(ValueError, match=r"^`load`: TFDS cannot open 'mnist/big'\. .*BuilderConfig big not found"):
        load("mnist/big", data_dir=tmp_path)


def test_a_set_that_is_not_classification_tells_what_it_has(tmp_path):
    start = (
        r"^`load`: expected a classification set, whose supervised keys are an image, audio or numeric tensor and a "
        r"class label\. Received: "
    )
    text = {"x": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
    write(tmp_path, "kd_text", text, {"train": [{"x": "good", "label": 1}]})
    with pytest.raises(ValueError, match=start + r"'kd_text' with supervised keys \('x', 'label'\) of .*x \(Text\)"):
        load("kd_text", data_dir=tmp_path)
    write(tmp_path, "kd_keyless", image_features(), {"train": image_examples(0, 2)}, supervised_keys=None)
    with pytest.raises(ValueError, match=start + r"'kd_keyless' with supervised keys None of .*label \(ClassLabel\)"):
        load("kd_keyless", data_dir=tmp_path)
    regression = {"x": tfds.features.Image(shape=(4, 4, 1)), "label": tfds.features.Scalar(dtype=np.float32)}
    write(tmp_path, "kd_regression", regression, {"train": [{"x": IMAGES[0], "label": 0.5}]})
    with pytest.raises(ValueError, match=start + r"'kd_regression' with supervised keys .*label \(Scalar\)"):
        load("kd_regression", data_dir=tmp_path)


def test_a_set_without_training_examples(tmp_path):
    write(tmp_path, "kd_only_test", image_features(), {"test": image_examples(0, 3)})
    text = r"^`load`: expected a set with a `train` split\. Received: 'kd_only_test' with splits \['test'\]\.$"
    with pytest.raises(ValueError, match=text):
        load("kd_only_test", data_dir=tmp_path)
