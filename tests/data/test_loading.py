import subprocess
import sys

import numpy as np

from keras_kd.data import digits, load


def test_the_embedded_digits_as_a_source():
    (x_train, y_train), (x_test, y_test) = digits()
    source = load("digits")
    assert (source.name, source.kind, source.input_shape, source.num_classes) == ("digits", "image", (8, 8, 1), 10)
    assert source.class_names == tuple("0123456789")
    learnt = source.train.concatenate(source.validation)
    assert (len(source.train), len(source.validation)) == (1167, 130)
    for dataset, images, labels in ((learnt, x_train, y_train), (source.test, x_test, y_test)):
        x, y = next(dataset.batch(2000).as_numpy_iterator())
        np.testing.assert_array_equal(x, images)
        np.testing.assert_array_equal(y, labels)


def test_digits_is_the_embedded_set_even_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(load("digits").test) == 500


def test_tfds_is_imported_only_when_asked_for():
    code = "import sys, keras_kd.data as data; data.load('digits'); print('tensorflow_datasets' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
