"""Sample weights, class weights, masks and loss weights weigh the objectives as they weigh the student's loss."""

import keras
import numpy as np
import pytest
from keras import layers
from numpy_reference import cross_entropy_values, soft_target_values, weighted_mean
from small_models import answers, assert_same, compiled_distiller, cross_entropy, examples, mlp, twin

import keras_kd as kd

STEPS = 5


def still(**kwargs):
    """Compile arguments under which nothing moves."""
    return {"optimizer": keras.optimizers.SGD(0.0), **kwargs}


def tagger(width):
    """Logits for each token; token 0 is masked."""
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(
                9, width, embeddings_initializer=keras.initializers.RandomNormal(stddev=2.0), mask_zero=True
            ),
            layers.Dense(width, "tanh", name="hidden"),
            layers.Dense(3),
        ]
    )


def tokens(lengths):
    rng = np.random.default_rng(5)
    x = rng.integers(1, 9, (len(lengths), STEPS))
    x[np.arange(STEPS) >= np.array(lengths)[:, None]] = 0
    return x, rng.integers(0, 3, x.shape)


def two_heads(structure, width=6):
    inputs = keras.Input((4,))
    hidden = layers.Dense(width, "relu", name="hidden")(inputs)
    kind, size = layers.Dense(3, name="kind")(hidden), layers.Dense(2, name="size")(hidden)
    outputs = {"tuple": (kind, size), "list": [kind, size], "dict": {"kind": kind, "size": size}}[structure]
    return keras.Model(inputs, outputs)


def by_output(structure, kind, size):
    return {"tuple": (kind, size), "list": [kind, size], "dict": {"kind": kind, "size": size}}[structure]


def pairs_of(teacher, student, x):
    """Teacher and student logits of both heads, in the order kind, size."""
    said = (answers(model, x) for model in (teacher, student))
    return zip(*((one["kind"], one["size"]) if isinstance(one, dict) else one for one in said), strict=True)


@pytest.mark.parametrize("weighing", ["sample_weight", "class_weight"])
def test_weights_weigh_soft_targets(weighing):
    x, y = examples()
    teacher, student = mlp(16, seed=1), mlp()
    by_class = {0: 0.2, 1: 1.0, 2: 3.0}
    weights = np.linspace(0, 2, len(x)) if weighing == "sample_weight" else np.vectorize(by_class.get)(y)
    passed = {"sample_weight": weights} if weighing == "sample_weight" else {"class_weight": by_class}
    soft = soft_target_values(answers(teacher, x), answers(student, x), 4.0)
    hard = cross_entropy_values(y, answers(student, x))

    logged = compiled_distiller(student, teacher, compile_with=still()).fit(x, y, verbose=0, **passed).history

    soft, hard = weighted_mean(soft, weights), weighted_mean(hard, weights)
    np.testing.assert_allclose(logged["soft_targets"], [soft], rtol=1e-5)
    np.testing.assert_allclose(logged["student_loss"], [hard], rtol=1e-5)
    np.testing.assert_allclose(logged["loss"], [0.3 * hard + 0.7 * soft], rtol=1e-5)


def test_weights_weigh_features_and_the_losses_of_keras():
    x, y = examples()
    weights = np.linspace(0, 2, len(x))
    teacher, student = mlp(seed=1), mlp()
    of_keras = keras.distillation.FeatureDistillation("mse", "hidden", "hidden")
    distiller = compiled_distiller(
        student, teacher, [kd.objectives.Hint("hidden", "hidden"), of_keras], compile_with=still()
    )
    teacher_feature, student_feature = (
        answers(keras.Model(model.inputs[0], model.get_layer("hidden").output), x) for model in (teacher, student)
    )
    squares = np.square(teacher_feature - student_feature).mean(-1)
    logged = distiller.train_on_batch(x, y, sample_weight=weights, return_dict=True)
    np.testing.assert_allclose(logged["hint"], weighted_mean(squares, weights), rtol=1e-5)
    np.testing.assert_allclose(logged["feature_distillation"], squares.mean() * weights.mean(), rtol=1e-5)


@pytest.mark.parametrize("weighing", ["none", "by example", "by token"])
def test_masked_tokens_do_not_count(weighing):
    x, y = tokens([1, 3, 5, 2])
    teacher, student = tagger(8), tagger(4)
    passed, weights = {
        "none": (None, None),
        "by example": (np.linspace(0.5, 2, len(x))[:, None],) * 2,
        "by token": (np.linspace(0.5, 2, x.size).reshape(x.shape),) * 2,
    }[weighing]
    expected = weighted_mean(soft_target_values(answers(teacher, x), answers(student, x), 4.0), weights, x != 0)
    distiller = compiled_distiller(student, teacher, compile_with=still(metrics=["soft_targets"]))
    logged = distiller.fit(x, y, sample_weight=passed, verbose=0).history
    evaluated = distiller.evaluate(x, y, sample_weight=passed, verbose=0, return_dict=True)
    np.testing.assert_allclose(logged["soft_targets"], [expected], rtol=1e-5)
    np.testing.assert_allclose(evaluated["soft_targets"], expected, rtol=1e-5)


def test_masked_equals_sliced():
    x, y = tokens([3] * 6)
    teacher, student = tagger(8), tagger(4)
    results = []
    for steps in (STEPS, 3):
        keras.utils.set_random_seed(3)
        learner = twin(student)
        distiller = compiled_distiller(
            learner,
            teacher,
            [kd.objectives.SoftTargets(), kd.objectives.Hint("hidden", "hidden")],
            compile_with={"metrics": ["agreement", "teacher_kl", "hint"]},
        )
        data = x[:, :steps], y[:, :steps]
        history = distiller.fit(*data, validation_data=data, batch_size=2, epochs=2, shuffle=False, verbose=0)
        results.append((history.history, learner.get_weights()))
    (masked, masked_weights), (sliced, sliced_weights) = results
    for key, values in sliced.items():
        np.testing.assert_allclose(masked[key], values, rtol=1e-5, err_msg=key)
    assert_same(masked_weights, sliced_weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("structure", "factors"), [("tuple", (0.25, 2.0)), ("list", None), ("list", (0.25, 2.0)), ("dict", (0.25, 2.0))]
)
def test_several_outputs_follow_loss_weights_or_add_up(structure, factors):
    x, kind = examples()
    y = by_output(structure, kind, kind % 2)
    teacher, student = two_heads(structure, 16), two_heads(structure)
    soft = sum(
        factor * soft_target_values(*pair, 4.0).mean()
        for factor, pair in zip(factors or (1, 1), pairs_of(teacher, student, x), strict=True)
    )
    hard = sum(
        factor * cross_entropy_values(labels, logits).mean()
        for factor, labels, (_, logits) in zip(
            factors or (1, 1), (kind, kind % 2), pairs_of(teacher, student, x), strict=True
        )
    )
    compile_with = still(
        loss=by_output(structure, cross_entropy(), cross_entropy()),
        metrics=by_output(structure, ["accuracy"], ["accuracy"]),
    )
    if factors:
        compile_with["loss_weights"] = by_output(structure, *factors)
    logged = compiled_distiller(student, teacher, compile_with=compile_with).fit(x, y, verbose=0).history
    np.testing.assert_allclose(logged["soft_targets"], [soft], rtol=1e-5)
    np.testing.assert_allclose(logged["loss"], [0.3 * hard + 0.7 * soft], rtol=1e-5)
    predicted = [logits.argmax(-1) for _, logits in pairs_of(teacher, student, x)]
    np.testing.assert_allclose(logged["kind_accuracy"], [(predicted[0] == kind).mean()], rtol=1e-6)
    np.testing.assert_allclose(logged["size_accuracy"], [(predicted[1] == kind % 2).mean()], rtol=1e-6)


@pytest.mark.parametrize("structure", ["tuple", "list", "dict"])
def test_sample_weights_of_one_output_weigh_its_soft_targets_alone(structure):
    x, kind = examples()
    weights = np.linspace(0, 2, len(x)), np.linspace(1, 0, len(x))
    teacher, student = two_heads(structure, 16), two_heads(structure)
    soft = sum(
        weighted_mean(soft_target_values(*pair, 4.0), weight)
        for weight, pair in zip(weights, pairs_of(teacher, student, x), strict=True)
    )
    compile_with = still(loss=by_output(structure, cross_entropy(), cross_entropy()))
    logged = compiled_distiller(student, teacher, compile_with=compile_with).fit(
        x, by_output(structure, kind, kind % 2), sample_weight=by_output(structure, *weights), verbose=0
    )
    np.testing.assert_allclose(logged.history["soft_targets"], [soft], rtol=1e-5)


def test_features_of_a_model_with_two_weighted_outputs_take_the_mean_weight():
    x, kind = examples()
    weights = np.linspace(0, 2, len(x)), np.linspace(1, 0, len(x))
    teacher, student = two_heads("dict"), two_heads("dict")
    teacher_feature, student_feature = (
        answers(keras.Model(model.inputs[0], model.get_layer("hidden").output), x) for model in (teacher, student)
    )
    squares = np.square(teacher_feature - student_feature).mean(-1)
    compile_with = still(loss={"kind": cross_entropy(), "size": cross_entropy()})
    distiller = compiled_distiller(student, teacher, kd.objectives.Hint("hidden", "hidden"), compile_with=compile_with)
    logged = distiller.train_on_batch(
        x,
        {"kind": kind, "size": kind % 2},
        sample_weight=dict(zip(("kind", "size"), weights, strict=True)),
        return_dict=True,
    )
    np.testing.assert_allclose(logged["hint"], weighted_mean(squares, np.mean(weights, axis=0)), rtol=1e-5)


def test_outputs_are_paired_by_key_and_one_may_be_chosen():
    x, kind = examples()
    inputs = keras.Input((4,))
    said = {name: layers.Dense(classes)(inputs) for name, classes in (("size", 2), ("extra", 5), ("kind", 3))}
    teacher, student = keras.Model(inputs, said), two_heads("dict")
    compile_with = still(loss={"kind": cross_entropy(), "size": cross_entropy()})
    distiller = compiled_distiller(
        student, teacher, kd.objectives.SoftTargets(outputs=["size"]), compile_with=compile_with
    )
    logged = distiller.train_on_batch(x, {"kind": kind, "size": kind % 2}, return_dict=True)
    expected = soft_target_values(answers(teacher, x)["size"], answers(student, x)["size"], 4.0)
    np.testing.assert_allclose(logged["soft_targets"], expected.mean(), rtol=1e-5)


def test_a_ragged_last_batch_counts_by_its_size():
    x, y = examples(11)
    teacher, student = mlp(16, seed=1), mlp(l2=0.1)
    metrics = ["accuracy", "agreement", "teacher_kl", "soft_targets"]
    distiller = compiled_distiller(student, teacher, compile_with=still(metrics=metrics))
    logged = distiller.fit(x, y, validation_data=(x, y), batch_size=4, shuffle=False, verbose=0).history

    teacher_logits, student_logits = answers(teacher, x), answers(student, x)
    hard = cross_entropy_values(y, student_logits).mean()
    soft = soft_target_values(teacher_logits, student_logits, 4.0).mean()
    penalty = 0.1 * np.square(student.get_weights()[0]).sum()
    expected = {
        "student_loss": hard,
        "soft_targets": soft,
        "accuracy": (student_logits.argmax(-1) == y).mean(),
        "agreement": (student_logits.argmax(-1) == teacher_logits.argmax(-1)).mean(),
        "teacher_kl": soft_target_values(teacher_logits, student_logits, 1.0).mean(),
    }
    for key, value in expected.items():
        np.testing.assert_allclose(logged[key], [value], rtol=1e-5, err_msg=key)
        np.testing.assert_allclose(logged[f"val_{key}"], [value], rtol=1e-5, err_msg=f"val_{key}")
    np.testing.assert_allclose(logged["loss"], [0.3 * hard + 0.7 * soft + penalty], rtol=1e-5)
    np.testing.assert_allclose(logged["val_loss"], [hard + penalty], rtol=1e-5)
