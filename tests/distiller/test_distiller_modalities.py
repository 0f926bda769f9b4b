"""Batches of several modalities, each with a key that says where it is there: who sees what, and what is learnt."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from numpy_reference import cross_entropy_values, soft_target_values
from small_models import answers, assert_same, compiled_distiller, mlp, values_of

import keras_kd as kd

RNG = np.random.default_rng(0)
COUNT = 12
X = {
    "image": RNG.normal(size=(COUNT, 4)).astype("float32"),
    "audio": RNG.normal(size=(COUNT, 6)).astype("float32"),
    "text": RNG.integers(1, 9, (COUNT, 3)).astype("int32"),
    "audio_present": np.arange(COUNT) % 3 != 1,
    "text_present": np.arange(COUNT) % 4 != 2,
}
X["audio"][~X["audio_present"]] = 0.0
X["text"][~X["text_present"]] = 0
Y = RNG.integers(0, 3, COUNT)


def seeing(keys, width, seed):
    """A Functional model of named inputs, in which a missing modality leaves zeros."""
    keras.utils.set_random_seed(seed)
    inputs = {key: keras.Input(X[key].shape[1:], name=key, dtype=X[key].dtype.name) for key in keys}
    branches = []
    for key in [key for key in keys if not key.endswith("_present")]:
        one = inputs[key]
        if key == "text":
            one = keras.layers.Flatten()(keras.layers.Embedding(9, 2)(one))
        one = keras.layers.Dense(width, "tanh", name=f"{key}_branch")(one)
        if f"{key}_present" in inputs:
            one = one * ops.cast(inputs[f"{key}_present"], "float32")[:, None]
        branches.append(one)
    fused = keras.layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(fused))


def of_keys(keys):
    return {key: X[key] for key in keys}


def saved_for_serving(model, folder):
    """A SavedModel whose endpoint takes the inputs by their names."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = {key: tf.TensorSpec((None, *X[key].shape[1:]), X[key].dtype, name=key) for key in X}
    archive.add_endpoint("serve", lambda x: model(x, training=False), input_signature=[signature])
    archive.write_out(folder, verbose=False)
    return folder


def exported(model, folder):
    model.export(folder, verbose=False)
    return folder


TEACHERS = {
    "Keras model": lambda model, folder: model,
    "SavedModel": exported,
    "SavedModel of one's own endpoint": saved_for_serving,
    "function": lambda model, folder: lambda x: model.predict(x, verbose=0),
}
STUDENTS = {
    "one modality, bare": (["image"], lambda: mlp(seed=1)),
    "one modality, by name": (["audio"], lambda: seeing(["audio"], 3, 1)),
    "two modalities": (["image", "audio"], lambda: seeing(["image", "audio"], 3, 1)),
    "a modality that may be missing": (["text", "text_present"], lambda: seeing(["text", "text_present"], 3, 1)),
    "all of them": (None, lambda: seeing(list(X), 3, 1)),
}


def inputs_of(keys, student):
    seen = of_keys(keys or X)
    return seen["image"] if isinstance(student, keras.Sequential) else seen


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("Keras model", name) for name in STUDENTS),
        *((kind, "two modalities") for kind in TEACHERS if kind != "Keras model"),
    ],
)
def test_a_teacher_of_all_modalities_teaches_a_student_of_some(kind, name, tmp_path):
    model, (keys, build) = seeing(list(X), 8, 5), STUDENTS[name]
    student = build()
    taught, learnt = answers(model, X), answers(student, inputs_of(keys, student))
    distiller = compiled_distiller(student, TEACHERS[kind](model, tmp_path / "saved"), student_inputs=keys)
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(logged["soft_targets"], soft_target_values(taught, learnt, 4.0).mean(), rtol=1e-4)
    np.testing.assert_allclose(logged["student_loss"], cross_entropy_values(Y, learnt).mean(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "data set"])
def test_without_labels_the_student_learns_what_the_teacher_says_of_what_it_does_not_see(kind):
    model, student = seeing(list(X), 8, 5), seeing(["image"], 6, 1)
    distiller = kd.Distiller(student, model, alpha=0.0, student_inputs=["image"], temperature=2.0)
    distiller.compile(keras.optimizers.Adam(0.05))
    data = X if kind == "arrays" else tf.data.Dataset.from_tensor_slices(X).batch(COUNT)
    before = values_of(model.variables)
    first = soft_target_values(answers(model, X), answers(student, of_keys(["image"])), 2.0).mean()
    history = distiller.fit(data, batch_size=COUNT, epochs=150, verbose=0).history
    np.testing.assert_allclose(history["soft_targets"][0], first, rtol=1e-4)
    now = soft_target_values(answers(model, X), answers(student, of_keys(["image"])), 2.0).mean()
    assert now < 0.1 * first
    assert sorted(history) == ["loss", "soft_targets"]
    assert_same(values_of(model.variables), before)


def test_labels_and_unlabelled_data_train_alike_where_alpha_is_zero():
    trained = []
    for labels in ((), (Y,)):
        student = seeing(["image"], 4, 1)
        distiller = compiled_distiller(student, seeing(list(X), 8, 5), alpha=0.0, student_inputs=["image"])
        distiller.fit(X, *labels, epochs=3, shuffle=False, verbose=0)
        trained.append(values_of(student.variables))
    assert_same(*trained)


def branch_of(model, key):
    """What the branch of a modality gives, from its weights."""
    layer = model.get_layer(f"{key}_branch")
    return np.tanh(np.float64(X[key]) @ layer.kernel.numpy() + layer.bias.numpy())


def test_branches_learn_from_branches_of_their_modality():
    model, student = seeing(list(X), 8, 5), seeing(["image", "audio"], 8, 1)
    hints = [kd.objectives.Hint(f"{key}_branch", f"{key}_branch", name=key) for key in ("image", "audio")]
    distiller = compiled_distiller(student, model, hints, student_inputs=["image", "audio"])
    expected = {key: np.mean((branch_of(model, key) - branch_of(student, key)) ** 2) for key in ("image", "audio")}
    logged = distiller.train_on_batch(X, Y, return_dict=True)
    for key, value in expected.items():
        np.testing.assert_allclose(logged[key], value, rtol=1e-4)


def test_what_a_student_gives_does_not_hang_on_what_it_does_not_see():
    student = seeing(["image"], 4, 1)
    distiller = compiled_distiller(student, seeing(list(X), 8, 5), student_inputs=["image"])
    distiller.fit(X, Y, verbose=0)
    said = distiller.predict(X, verbose=0)
    np.testing.assert_array_equal(distiller.predict({**X, "audio": 9 * X["audio"]}, verbose=0), said)
    np.testing.assert_allclose(said, student.predict(of_keys(["image"]), verbose=0), rtol=1e-6)


def test_a_modality_that_the_data_do_not_have_is_named():
    distiller = compiled_distiller(mlp(), seeing(list(X), 8, 5), student_inputs=["video"])
    text = (
        r"`Distiller`: `student_inputs`: `x` has no \['video'\]\. It has \['image', 'audio', 'text', 'audio_present', "
        r"'text_present'\]\. Received: \['video'\]\."
    )
    with pytest.raises(ValueError, match=text):
        distiller.fit(X, Y, verbose=0)
