"""Both players resume exactly, and no file of the student holds the discriminator."""

import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.adversarial import ANC, WassersteinGP
from tests.adversarial.players import X, Y, adversarial, both_players, judge, judge_for
from tests.distiller.small_models import assert_same, mlp, twin

SETTINGS = {"batch_size": 8, "shuffle": False, "verbose": 0}


def adam():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.9)
    return {"optimizer": keras.optimizers.Adam(schedule), "discriminator_optimizer": keras.optimizers.RMSprop(0.003)}


def fresh(mode, own=False, eager=True, **arguments):
    """All that a new process would make; the same each time."""
    teacher = mlp(5 if own and mode == "anc" else 7, seed=1)
    keras.utils.set_random_seed(4)
    model = judge_for(mode) if own else None
    return adversarial(mlp(), teacher, model, mode=mode, compile_with=adam(), eager=eager, **arguments)


@pytest.mark.parametrize(("mode", "own"), [("ac", False), ("anc", False), ("wgan-gp", False), ("hinge", True)])
def test_a_loaded_distiller_goes_on_to_the_bit(mode, own, tmp_path):
    """Weights, both optimizers, and the noise of the gradient penalty."""
    distiller = fresh(mode, own, eager=mode != "wgan-gp", discriminator_steps=2)
    distiller.fit(X, Y, **SETTINGS)
    distiller.save(tmp_path / "both.keras")
    loaded = keras.models.load_model(tmp_path / "both.keras")
    loaded.teacher = distiller.teacher
    assert loaded.on == distiller.on
    assert_same(both_players(loaded), both_players(distiller))
    histories = [one.fit(X, Y, epochs=2, **SETTINGS).history for one in (distiller, loaded)]
    assert histories[0] == histories[1]
    assert_same(both_players(loaded), both_players(distiller))


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_backup_and_restore_ends_as_the_unbroken_run(tmp_path):
    unbroken = fresh("wgan-gp")
    history = unbroken.fit(X, Y, epochs=3, **SETTINGS).history
    broken, interrupted = fresh("wgan-gp"), [keras.callbacks.BackupAndRestore(tmp_path), Interrupt()]
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X, Y, epochs=3, callbacks=interrupted, **SETTINGS)
    resumed = fresh("wgan-gp")
    rest = resumed.fit(X, Y, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)], **SETTINGS).history
    assert rest == {key: values[2:] for key, values in history.items()}
    assert_same(both_players(resumed), both_players(unbroken))


@pytest.mark.parametrize("mode", ["anc"])
def test_weights_load_into_a_distiller_that_has_not_trained_yet(mode, tmp_path):
    """The default discriminator is not there before the first step; a checkpoint brings it."""
    distiller = fresh(mode)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "both.weights.h5", save_weights_only=True)
    distiller.fit(X, Y, callbacks=[checkpoint], **SETTINGS)
    other = adversarial(mlp(seed=8), distiller.teacher, mode=mode, compile_with=adam())
    other.optimizer.build([*other.student.trainable_variables, *both_projectors(other, distiller)])
    other.load_weights(tmp_path / "both.weights.h5")
    assert_same(both_players(other), both_players(distiller))


def both_projectors(other, distiller):
    """What an unbuilt optimizer must know of, for Keras to restore its state."""
    if distiller.on == "logits":
        return []
    other.judged.build([(None, 7)], [(None, 5)])
    return other.judged.projector.trainable_variables


def shapes_of(file):
    shapes = []
    with h5py.File(file) as group:
        group.visititems(lambda _, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    return sorted(shapes)


@pytest.fixture(scope="module")
def trained():
    """A discriminator of 13 units: no shape of another holds a 13."""
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(13, "tanh", name="hidden_of_the_judge")
    model = keras.Sequential([keras.Input((7,)), hidden, keras.layers.Dense(1)], name="judge_13")
    distiller = adversarial(mlp(), mlp(7, seed=1), model, mode="anc", compile_with=adam())
    distiller.fit(X, Y, **SETTINGS)
    return distiller


def test_the_students_own_files_hold_no_discriminator(trained, tmp_path):
    trained.student.save(tmp_path / "student.keras")
    trained.student.save_weights(tmp_path / "student.weights.h5")
    with zipfile.ZipFile(tmp_path / "student.keras") as archive:
        assert "judge" not in archive.read("config.json").decode()
        archive.extract("model.weights.h5", tmp_path)
    own = sorted(tuple(weight.shape) for weight in trained.student.weights)
    assert shapes_of(tmp_path / "model.weights.h5") == own
    assert shapes_of(tmp_path / "student.weights.h5") == own
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert_same(loaded.get_weights(), trained.student.get_weights())


@pytest.mark.parametrize("exported", ["distiller", "student"])
def test_an_export_is_the_student_alone(trained, exported, tmp_path):
    folders = [tmp_path / "received", tmp_path / "expected"]
    models = [trained if exported == "distiller" else trained.student, twin(trained.student)]
    for model, folder in zip(models, folders, strict=True):
        model.export(str(folder), verbose=False)
    received, expected = (tf.train.list_variables(str(folder / "variables/variables")) for folder in folders)
    assert sorted(shape for _, shape in received) == sorted(shape for _, shape in expected)
    assert not any("judge" in name or 13 in shape for name, shape in received)
    served = tf.saved_model.load(str(folders[0]))
    np.testing.assert_allclose(served.serve(X), trained.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def test_export_student_gives_the_student_alone(trained, tmp_path):
    shapes = []
    for model, name in ((trained, "received"), (twin(trained.student), "expected")):
        kd.export_student(model, tmp_path / name, formats=("saved_model",))
        index = next((tmp_path / name).rglob("variables.index")).with_suffix("")
        shapes.append(sorted(shape for _, shape in tf.train.list_variables(str(index))))
    assert shapes[0] == shapes[1]


def test_the_distillers_file_holds_both_players(trained, tmp_path):
    trained.save_weights(tmp_path / "both.weights.h5")
    assert shapes_of(tmp_path / "both.weights.h5").count((7, 13)) == 2  # the weight, and RMSprop's mean of its squares


def test_the_discriminator_is_saved_and_given_on_its_own(trained, tmp_path):
    trained.discriminator.save(tmp_path / "judge.keras")
    model = keras.models.load_model(tmp_path / "judge.keras")
    other = adversarial(mlp(), mlp(7, seed=1), model, mode="anc")
    assert_same(other.discriminator.get_weights(), trained.discriminator.get_weights())


def test_a_mode_with_settings_of_its_own_is_saved(tmp_path):
    for mode in (WassersteinGP(3.0), ANC("l2", 0.5)):
        distiller = adversarial(mode=mode, discriminator_steps=3, adversarial_weight=0.7, objectives=[])
        distiller.save(tmp_path / "both.keras")
        loaded = keras.models.load_model(tmp_path / "both.keras")
        assert type(loaded.mode) is type(mode)
        assert loaded.mode.get_config() == mode.get_config()
        assert (loaded.discriminator_steps, float(loaded.adversarial_weight)) == (3, pytest.approx(0.7))
        assert (loaded.objectives, loaded.discriminator, loaded.teacher) == ([], None, None)


def test_spectral_normalization_survives_saving_before_and_after_training(tmp_path):
    distiller = adversarial(mode="gan", spectral_normalization=True)
    for steps in (0, 1):
        if steps:
            distiller.train_on_batch(X, Y)
        distiller.save(tmp_path / "both.keras")
        loaded = keras.models.load_model(tmp_path / "both.keras")
        loaded.teacher = distiller.teacher
        loaded.train_on_batch(X, Y)
        kinds = [type(layer).__name__ for layer in loaded.discriminator.layers]
        assert kinds.count("SpectralNormalization") == 4


def test_a_judge_is_no_part_of_what_the_students_optimizer_builds():
    distiller = adversarial(mlp(), mlp(5, seed=1), judge(3), mode="gan")
    names = {id(variable) for variable in distiller.discriminator.variables}
    assert not names & {id(variable) for variable in distiller.trainable_variables}
    assert len(distiller.trainable_variables) == 4
