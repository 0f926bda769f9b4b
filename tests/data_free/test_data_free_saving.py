"""A run that was interrupted ends as the unbroken one; the generator is saved with it, the teacher with nobody."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_kd.data_free import DAFL, DFAD, DataFreeDistiller
from tests.data_free.data_free_models import dropping, mlp, noise_to_features, player, teacher
from tests.distiller.small_models import assert_same

EPOCHS = 3


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def fresh(method):
    """All that a new process would make; a student with Dropout, two optimizers with states of their own."""
    distiller = DataFreeDistiller(dropping(), teacher(), noise_to_features(), method=method)
    distiller._noise_seed.state.assign([5, 0])
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9), generator_optimizer=keras.optimizers.Adam(0.01))
    return distiller


def play(distiller, *callbacks, **kwargs):
    return distiller.fit(
        steps_per_epoch=2, batch_size=4, epochs=EPOCHS, callbacks=[*callbacks], verbose=0, **kwargs
    ).history


def state(distiller):
    optimizers = [*distiller.optimizer.variables, *distiller.generator_optimizer.variables]
    return [variable.numpy() for variable in (*distiller.variables, *optimizers)]


def unbroken(method):
    distiller = fresh(method)
    return play(distiller), state(distiller)


def test_backup_and_restore_ends_as_the_unbroken_run(tmp_path):
    method = DAFL()
    history, expected = unbroken(method)
    with pytest.raises(KeyboardInterrupt):
        play(fresh(method), keras.callbacks.BackupAndRestore(tmp_path), Interrupt())
    resumed = fresh(method)
    rest = play(resumed, keras.callbacks.BackupAndRestore(tmp_path))
    assert rest == {name: values[2:] for name, values in history.items()}
    assert_same(state(resumed), expected)


def test_a_saved_run_goes_on(tmp_path):
    method = DFAD(2)
    history, expected = unbroken(method)
    half = fresh(method)
    with pytest.raises(KeyboardInterrupt):
        play(half, Interrupt())
    half.save(tmp_path / "half.keras")
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    assert resumed.method.get_config() == method.get_config()
    resumed.teacher = teacher()
    rest = play(resumed, initial_epoch=2)
    assert rest == {name: values[2:] for name, values in history.items()}
    assert_same(state(resumed), expected)


def shapes_in(path):
    shapes = []
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as group:
        group.visititems(lambda _, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    return shapes


def test_what_is_saved_holds_whom(tmp_path):
    """No shape but the teacher's holds a 7, none but the generator's a 6."""
    distiller = player()
    distiller.fit(steps_per_epoch=1, batch_size=3, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    distiller.student.save(tmp_path / "student.keras")
    distillers, students = shapes_in(tmp_path / "distiller.keras"), shapes_in(tmp_path / "student.keras")
    assert [any(size in shape for shape in distillers) for size in (5, 6, 7)] == [True, True, False]
    assert [any(size in shape for shape in students) for size in (5, 6, 7)] == [True, False, False]


def test_the_export_is_the_student_s(tmp_path):
    distiller = player()
    distiller.fit(steps_per_epoch=1, batch_size=3, verbose=0)
    distiller.export(tmp_path / "exported", verbose=False)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    served = keras.layers.TFSMLayer(tmp_path / "exported", call_endpoint="serve")(x)
    np.testing.assert_allclose(served, distiller.student(x, training=False), rtol=1e-5, atol=1e-6)


def test_settings_come_back():
    method = DAFL("hidden", one_hot_weight=0.5, activation_weight=0.2, entropy_weight=7.0)
    distiller = player(method, temperature=3.0)
    config = distiller.get_config()
    assert {"alpha", "student_inputs", "teacher"}.isdisjoint(config)
    other = DataFreeDistiller.from_config(config)
    assert (other.method.get_config(), float(other.temperature)) == (method.get_config(), 3.0)
    assert other.get_config() == config
    assert other.teacher is None


def test_generating_leaves_training_as_it_is():
    one, other = player(), player()
    assert not np.array_equal(one.generate(3), one.generate(3))
    histories = [player.fit(steps_per_epoch=1, batch_size=3, verbose=0).history for player in (one, other)]
    assert histories[0] == histories[1]


def test_what_is_generated_is_drawn_in_inference_mode():
    distiller = player()
    noise = keras.random.normal((5, 2), seed=12)
    np.testing.assert_array_equal(distiller.generate(5, seed=12), distiller.generator(noise, training=False))


def test_a_student_built_later_is_resumed_too(tmp_path):
    def make():
        keras.utils.set_random_seed(6)
        student = keras.Sequential([keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)])
        distiller = DataFreeDistiller(student, mlp(7, seed=1), noise_to_features(), method=DFAD(1))
        distiller._noise_seed.state.assign([5, 0])
        distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        return distiller

    whole = make()
    play(whole)
    with pytest.raises(KeyboardInterrupt):
        play(make(), keras.callbacks.BackupAndRestore(tmp_path), Interrupt())
    resumed = make()
    play(resumed, keras.callbacks.BackupAndRestore(tmp_path))
    assert_same(state(resumed), state(whole))
