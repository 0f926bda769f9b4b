"""Which epoch's weights a hop keeps."""

import keras
import numpy as np
import pytest

from keras_kd.assistants.keeping import KeepBest
from keras_kd.assistants.records import HopFolder
from tests.assistants.chains import VALIDATION, X, Y, chain_of, data, fit, mlp, models

# Of a validation set with these labels, a student that says one class only is right for a known share.
SHARES = {0: 0.5, 1: 0.2, 2: 0.3}
LABELLED = VALIDATION[0], np.repeat([0, 1, 2], [15, 6, 9])


class Course(keras.callbacks.Callback):
    """Ends each epoch with a student that says one class, as sure of it as its logit says."""

    def __init__(self, said):
        super().__init__()
        self._said, self._epoch = said, None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        named, logit = self._said[self._epoch]
        *_, kernel, bias = self.model.student.weights
        kernel.assign(np.zeros(kernel.shape))
        bias.assign(logit * np.eye(3)[named])


NAN = float("nan")
COURSES = {
    "the middle epoch is the best": ([(1, 1.0), (0, 9.0), (2, 1.0)], None, 1),
    "the least loss is another": ([(1, 1.0), (0, 9.0), (2, 1.0)], "val_loss", 2),
    # A student of NaN names the first class, and is right for its share.
    "NaN never wins": ([(1, 1.0), (2, 1.0), (0, NAN)], None, 1),
}


@pytest.mark.parametrize(("course", "monitor", "best"), COURSES.values(), ids=COURSES)
def test_the_weights_of_the_best_epoch_are_kept(course, monitor, best):
    chain = chain_of(models()[:2])
    options = {"validation_data": LABELLED, "epochs": len(course), "callbacks": [Course(course)], "monitor": monitor}
    (history,) = fit(chain, data(X[:30], Y[:30]), **options)
    np.testing.assert_allclose(history["val_accuracy"], [SHARES[named] for named, _ in course], rtol=1e-6)
    named, logit = course[best]
    np.testing.assert_array_equal(chain.student.weights[-1], (logit * np.eye(3)[named]).astype("float32"))
    assert chain.records[0].best_epoch == best
    assert chain.records[0].results["accuracy"] == pytest.approx(SHARES[named])


def test_epochs_without_validation_are_not_chosen(tmp_path):
    chain, course = chain_of(models()[:2]), [(0, 9.0), (1, 9.0), (0, 9.0), (2, 9.0)]
    more = {"validation_freq": 2, "monitor": "val_accuracy", "callbacks": [Course(course)]}
    (history,) = fit(chain, data(X[:30], Y[:30]), validation_data=LABELLED, epochs=4, **more)
    assert (len(history["loss"]), history["val_accuracy"]) == (4, pytest.approx([0.2, 0.3]))
    assert chain.records[0].best_epoch == 3


def test_without_validation_the_last_weights_are_kept():
    chain, course = chain_of(models()[:2]), [(1, 1.0), (0, 1.0)]
    (history,) = fit(chain, validation_data=None, callbacks=[Course(course)])
    assert list(history) == ["accuracy", "loss", "soft_targets", "student_loss"]
    np.testing.assert_array_equal(chain.student.weights[-1], [1.0, 0.0, 0.0])
    assert (chain.records[0].best_epoch, chain.records[0].results) == (None, {})


def test_an_unknown_monitor_is_refused_after_an_epoch():
    with pytest.raises(ValueError, match="monitor") as refused:
        fit(chain_of(models()[:2]), data(X[:30], Y[:30]), monitor="val_acc")
    assert str(refused.value) == (
        "`TeacherAssistantChain`: `monitor` must be one of ['accuracy', 'loss', 'soft_targets', 'student_loss', "
        "'val_accuracy', 'val_loss', 'val_student_loss']. Received: monitor='val_acc'."
    )


LOGGED = {
    "of two equals the first": ({"val_accuracy": [0.1, 0.9, 0.9]}, 1),
    "an accuracy of another name": ({"val_loss": [1, 2, 3], "val_head_acc": [0.1, 0.9, 0.5]}, 1),
    "the loss where there is no accuracy": ({"val_loss": [2, 1, 3], "val_auc": [0.1, 0.2, 0.3]}, 1),
    "nothing but NaN": ({"val_loss": [NAN, NAN, NAN], "val_accuracy": [0.3, 0.3, 0.3]}, None),
    "a metric of NaN": ({"val_loss": [1, 1, 1], "val_accuracy": [NAN, 0.2, NAN]}, 1),
    "not validated": ({"loss": [1, 2, 3], "accuracy": [1, 2, 3]}, None),
}


def best_of(tmp_path, logged, monitor=None):
    keep = KeepBest(HopFolder(tmp_path), mlp(5, 3), monitor)
    keep._epochs = [{"logs": dict(zip(logged, values, strict=True))} for values in zip(*logged.values(), strict=True)]
    return keep.best_epoch()


@pytest.mark.parametrize(("logged", "best"), LOGGED.values(), ids=LOGGED)
def test_which_epoch_is_the_best(logged, best, tmp_path):
    assert best_of(tmp_path, logged) == best


def test_greater_is_better_for_metrics_of_that_kind(tmp_path):
    for name, best in {"auc": 1, "mean_io_u": 1, "r2_score": 1, "cosine_similarity": 1, "hinge": 0, "mse": 0}.items():
        assert best_of(tmp_path, {f"val_{name}": [0.1, 0.9, 0.5]}, f"val_{name}") == best, name
