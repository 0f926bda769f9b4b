"""Caches of the greatest classes, of drawn classes and of eight bits, and what cannot be learnt from them."""

import keras
import numpy as np
import pytest
from scipy.special import logsumexp, rel_entr, softmax

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from tests.cache.caching import batched, refusal_of, signals_of
from tests.distiller.numpy_reference import soft_target_values
from tests.distiller.small_models import answers, compiled_distiller, examples, mlp

COUNT, CLASSES, T = 12, 7, 2.5
x, y = examples(COUNT, classes=CLASSES)
SOURCE = batched((x, y), COUNT)
FORMS = {
    "top_k": {"top_k": 3},
    "top_k, float32": {"top_k": 3, "dtype": "float32"},
    "samples": {"samples": 5},
    "int8": {"dtype": "int8"},
    "all": {},
}


@pytest.fixture(scope="module")
def teacher():
    return mlp(9, seed=1, classes=CLASSES)


@pytest.fixture(scope="module")
def caches(teacher, tmp_path_factory):
    keras.config.disable_interactive_logging()
    folder = tmp_path_factory.mktemp("forms")
    for form, arguments in FORMS.items():
        cache_teacher(teacher, SOURCE, folder / form, temperature=T, **arguments)
    return folder


def student():
    return mlp(5, classes=CLASSES)


def distiller(objectives=None, *, temperature=T, **compile_with):
    return compiled_distiller(student(), None, objectives, temperature=temperature, compile_with=compile_with)


def first_values(opened, objective=None):
    """What the first step logs, before any weight has moved."""
    (batch,) = opened
    return {name: float(value) for name, value in distiller(objective).train_on_batch(*batch, return_dict=True).items()}


def together(p, ids):
    """Probabilities of the named classes and of all the others."""
    return np.array([*(p[i] for i in ids), sum(p[i] for i in range(len(p)) if i not in ids)])


@pytest.mark.parametrize(("form", "rtol"), [("top_k", 2e-3), ("top_k, float32", 0.0)])
def test_the_greatest_classes_and_the_rest(form, rtol, caches, teacher):
    values = []
    for z, s in zip(np.float64(answers(teacher, x)), np.float64(answers(student(), x)), strict=True):
        ids = sorted(range(CLASSES), key=lambda i: -z[i])[:3]
        p, q = together(softmax(z / T), ids), together(softmax(s / T), ids)
        values.append(T**2 * rel_entr(p, q).sum())
    logged = first_values(open_cache(caches / form, SOURCE))
    eps = T**2 * 2.0**-23  # of probabilities, which are about 1
    assert logged["soft_targets"] == pytest.approx(np.mean(values), rel=rtol, abs=eps)


def test_drawn_classes(caches):
    opened = open_cache(caches / "samples", SOURCE)
    ((signals, _),) = opened
    (drawn,) = signals_of(signals, "sampled")
    values = []
    for ids, s in zip(drawn["classes"].numpy(), np.float64(answers(student(), x)), strict=True):
        shares = [np.mean(ids == i) for i in range(CLASSES)]
        values.append(T**2 * rel_entr(shares, softmax(s / T)).sum())
    assert first_values(opened)["soft_targets"] == pytest.approx(np.mean(values), rel=1e-6)


def test_the_mean_of_many_drawings_is_the_teacher(teacher, tmp_path):
    """Of one example seen 4,000 times, 5 draws each: within 4 standard errors."""
    same = np.repeat(x[:1], 4000, axis=0)
    cache_teacher(teacher, same, tmp_path, samples=5, temperature=T)
    ((signals,),) = open_cache(tmp_path, batched(same, 4000))
    (drawn,) = signals_of(signals, "sampled")
    shares = np.bincount(drawn["classes"].numpy().reshape(-1), minlength=CLASSES) / 20000
    p = softmax(np.float64(answers(teacher, x[:1]))[0] / T)
    assert np.all(np.abs(shares - p) < 4 * np.sqrt(p * (1 - p) / 20000))


def test_eight_bits(caches, teacher):
    z = answers(teacher, x)
    scale = np.abs(z).max(axis=1, keepdims=True) / np.float32(127)
    rounded = np.rint(z / scale) * scale
    expected = soft_target_values(rounded, answers(student(), x), T).mean()
    logged = first_values(open_cache(caches / "int8", SOURCE))
    assert logged["soft_targets"] == pytest.approx(expected, rel=1e-5)


def test_half_precision_serves_every_temperature(caches, teacher):
    halves = answers(teacher, x).astype("float16")
    for temperature in (1.0, 4.0):
        logged = first_values(open_cache(caches / "all", SOURCE), kd.objectives.SoftTargets(temperature))
        expected = soft_target_values(halves, answers(student(), x), temperature).mean()
        assert logged["soft_targets"] == pytest.approx(expected, rel=1e-5)


def test_other_divergences_of_the_greatest_classes(caches, teacher):
    values = []
    for z, s in zip(np.float64(answers(teacher, x)), np.float64(answers(student(), x)), strict=True):
        ids = sorted(range(CLASSES), key=lambda i: -z[i])[:3]
        p, q = together(softmax(z / T), ids), together(softmax(s / T), ids)
        values.append(T**2 * rel_entr(q, p).sum())
    logged = first_values(open_cache(caches / "top_k, float32", SOURCE), kd.objectives.ReverseKL(temperature=T))
    assert logged["reverse_kl"] == pytest.approx(np.mean(values), rel=1e-5)


def test_agreement_is_told_from_the_greatest_class(caches, teacher):
    expected = np.mean(answers(teacher, x).argmax(-1) == answers(student(), x).argmax(-1))
    logged = distiller(metrics=["agreement"]).evaluate(
        open_cache(caches / "top_k", SOURCE), return_dict=True, verbose=0
    )
    assert logged["agreement"] == pytest.approx(expected, abs=1e-6)


def refused(distiller, opened, **kwargs):
    return refusal_of(distiller.fit, opened, verbose=0, **kwargs)


def wrong_temperature(owner, asked):
    return (
        f"`{owner}`: the cache holds what the teacher said at temperature 2.5, and nothing else can be told from it. "
        f"Received: temperature={asked}. Use 2.5, or make a cache with `cache_teacher(..., temperature={asked})`."
    )


@pytest.mark.parametrize("form", ["top_k", "samples"])
def test_another_temperature_is_refused(form, caches):
    opened = open_cache(caches / form, SOURCE)
    assert refused(distiller(temperature=4.0), opened) == wrong_temperature("SoftTargets", 4)
    own = distiller(kd.objectives.SoftCrossEntropy(temperature=3.0))
    assert refused(own, opened) == wrong_temperature("SoftCrossEntropy", 3)


def test_a_temperature_that_a_schedule_moves_is_refused_where_it_does(caches):
    distilling, epochs = distiller(), []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    schedule = kd.schedules.Linear("temperature", T, 4.5, epochs=2)
    text = refused(distilling, open_cache(caches / "top_k", SOURCE), epochs=3, callbacks=[schedule, count])
    assert text == wrong_temperature("SoftTargets", f"{schedule.value(1):g}")
    assert epochs == [0]


def test_a_schedule_may_move_the_temperature_where_all_classes_are_kept(caches, teacher):
    schedules = [[kd.schedules.Linear("temperature", 1.0, 4.0, epochs=3)] for _ in range(2)]
    live = compiled_distiller(student(), teacher).fit(SOURCE, epochs=3, callbacks=schedules[0], verbose=0)
    replay = distiller().fit(open_cache(caches / "all", SOURCE), epochs=3, callbacks=schedules[1], verbose=0)
    np.testing.assert_allclose(replay.history["soft_targets"], live.history["soft_targets"], rtol=3e-3)


ALL_CLASSES = {
    "LogitsMSE": lambda: kd.objectives.LogitsMSE(),
    "DecoupledKD": lambda: kd.objectives.DecoupledKD(T),
    "DIST": lambda: kd.objectives.DIST(temperature=T),
    "StandardizedSoftTargets": lambda: kd.objectives.StandardizedSoftTargets(T),
}


@pytest.mark.parametrize("owner", ALL_CLASSES)
def test_objectives_that_need_all_classes_are_refused(owner, caches):
    opened = open_cache(caches / "top_k", SOURCE)
    assert refused(distiller(ALL_CLASSES[owner]()), opened) == (
        f"`{owner}`: it needs the teacher's logits of all classes. The cache holds 'output_0' as top_k. Make it "
        "without `top_k` and `samples`, or use `SoftTargets`."
    )


def test_divergences_that_a_drawing_biases_are_refused(caches):
    opened = open_cache(caches / "samples", SOURCE)
    assert refused(distiller(kd.objectives.ReverseKL(temperature=T)), opened) == (
        "`ReverseKL`: it needs the teacher's logits of all classes. The cache holds 'output_0' as sampled. Make it "
        "without `top_k` and `samples`, or use `SoftTargets`."
    )


def test_features_that_the_cache_does_not_hold_are_refused(caches, teacher, tmp_path):
    hint = distiller([kd.objectives.Hint("hidden", "hidden")])
    assert refused(hint, open_cache(caches / "all", SOURCE)) == (
        "`Hint`: the cache holds no teacher features ['hidden']. It holds none. Make it with "
        "`cache_teacher(..., taps=['hidden'])`."
    )
    cache_teacher(teacher, SOURCE, tmp_path, taps=["head:input"])
    assert refused(hint, open_cache(tmp_path, SOURCE)) == (
        "`Hint`: the cache holds no teacher features ['hidden']. It holds ['head:input']. Make it with "
        "`cache_teacher(..., taps=['hidden'])`."
    )


def test_a_method_that_takes_over_the_teachers_layers_is_refused(teacher, tmp_path):
    simkd = kd.objectives.SimKD("head:input", "head:input")
    cache_teacher(teacher, SOURCE, tmp_path, taps=list(simkd.teacher_taps))
    assert refused(distiller([simkd]), open_cache(tmp_path, SOURCE)) == (
        "`SimKD`: it takes over layers of the teacher, which a cache has not. Give the distiller the teacher."
    )


def test_a_teacher_besides_is_refused(caches, teacher):
    both = compiled_distiller(student(), teacher, temperature=T)
    assert refused(both, open_cache(caches / "all", SOURCE)) == (
        f"`Distiller`: the data carry what a teacher said, and there is a teacher, `{teacher.name}`, besides. Take one "
        "of them: set `distiller.teacher = None`, or train on the data without the cache."
    )


def test_plain_data_without_a_teacher_is_refused():
    text = (
        "`Distiller`: there is no teacher to learn from. Assign one, `distiller.teacher = model`; it is not saved with "
        "the student. Or train on a cache, `keras_kd.open_cache(path, dataset)`."
    )
    assert refused(distiller(), SOURCE) == text
    assert refusal_of(distiller().fit, x, y, verbose=0) == text


@pytest.mark.parametrize(
    ("form", "metrics", "named"),
    [
        ("top_k", ["agreement", "teacher_kl"], ["teacher_kl"]),
        ("samples", ["agreement", "teacher_kl"], ["agreement", "teacher_kl"]),
    ],
)
def test_metrics_that_cannot_be_told_are_refused(form, metrics, named, caches):
    opened, kind = open_cache(caches / form, SOURCE), "top_k" if form == "top_k" else "sampled"
    assert refused(distiller(metrics=metrics), opened) == (
        f"`Distiller`: the metrics {named} cannot be told from the cache's 'output_0', which is {kind} at temperature "
        "2.5. Leave them out, or make a cache of all logits."
    )


def test_a_student_of_other_classes_is_refused(caches):
    other = compiled_distiller(mlp(5, classes=4), None, temperature=T, alpha=0.0)
    assert refused(other, open_cache(caches / "top_k", SOURCE)).startswith(
        "`TopClasses`: the student must give logits of the teacher's 7 classes. Received: student logits of shape "
    )


def pair():
    return kd.Ensemble([mlp(9, seed=1, classes=CLASSES), mlp(9, seed=2, classes=CLASSES)], weights=[3, 1])


def test_an_ensembles_mean_at_another_temperature_has_no_divergence_at_one(tmp_path):
    cache_teacher(pair(), SOURCE, tmp_path, temperature=T)
    assert refused(distiller(metrics=["agreement", "teacher_kl"]), open_cache(tmp_path, SOURCE)) == (
        "`Distiller`: the metrics ['teacher_kl'] cannot be told from the cache's 'output_0', which is dense at "
        "temperature 2.5. Leave them out, or make a cache of all logits."
    )


def test_the_greatest_classes_of_an_ensemble_are_those_of_its_mean(tmp_path):
    ensemble = pair()
    cache_teacher(ensemble, SOURCE, tmp_path, top_k=3, dtype="float32", temperature=T)
    members = [softmax(np.float64(answers(member.model, x)) / T, axis=-1) for member in ensemble.members]
    mean = 0.75 * members[0] + 0.25 * members[1]
    ((signals, _),) = open_cache(tmp_path, SOURCE)
    (top,) = signals_of(signals, "top_k")
    ids = top["classes"].numpy()
    np.testing.assert_array_equal(ids, np.argsort(-mean, axis=-1)[:, :3])
    logits = np.float64(top["logits"]) / T
    shares = np.exp(logits - logsumexp(logits, axis=-1, keepdims=True))
    np.testing.assert_allclose(shares[:, :3], np.take_along_axis(mean, ids, -1), rtol=1e-5)
    np.testing.assert_allclose(shares[:, 3], 1 - np.take_along_axis(mean, ids, -1).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 8, 50])
def test_a_teacher_that_insists_on_a_batch_size_is_asked_in_such_batches(size, tmp_path):
    inputs = keras.Input((4,), batch_size=size)
    model = keras.Model(inputs, keras.layers.Dense(3, bias_initializer="normal")(inputs))
    x = np.random.default_rng(0).random((21, 4), "float32")
    cache_teacher(model, x, tmp_path / "cache", dtype="float32", verbose=0)
    (batch,) = next(iter(open_cache(tmp_path / "cache", x).batch(21)))
    (said,) = batch.heard().outputs.values()
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(said, x @ kernel + bias, rtol=1e-5, atol=1e-6)
