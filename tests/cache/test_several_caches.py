"""Several caches opened together: one student learns from several teachers as from the live ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.special import softmax

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from keras_kd.cache.fingerprints import keys_of_ids
from keras_kd.cache.manifest import Manifest
from keras_kd.replay import SignalKey, keys_of
from tests.cache.caching import assert_same_run, batched, identified, ids, lifted, refusal_of, trained
from tests.cache.numpy_fingerprints import seeds
from tests.cache.test_cached_training import DATA, MODES, PLAIN
from tests.cache.test_views import lifted_image
from tests.distiller.numpy_reference import ensemble_logits, soft_target_values
from tests.distiller.small_models import answers, assert_same, compiled_distiller, examples, mlp, values_of

x, y = examples(14)


def two():
    return [mlp(9, seed=1), mlp(7, seed=2)]


@pytest.fixture(scope="module")
def teachers():
    return two()


def cached(folder, teachers, data, **settings):
    """The folders of a cache of each teacher."""
    return [
        cache_teacher(teacher, data, folder / f"{place}", **{"dtype": "float32", **settings}).path
        for place, teacher in enumerate(teachers)
    ]


@pytest.fixture(scope="module")
def caches(teachers, tmp_path_factory):
    keras.config.disable_interactive_logging()
    return cached(tmp_path_factory.mktemp("caches"), teachers, PLAIN)


def said_by(batch):
    """What each teacher said, `(batch, classes)`."""
    return [member.outputs["output_0"].numpy() for member in batch.heard().members]


ASKED = {"metrics": ["agreement", "teacher_kl", "accuracy"]}


@pytest.mark.parametrize("data", DATA)
def test_every_form_of_data(data, teachers, tmp_path):
    source, batch, live = DATA[data]
    opened = open_cache(cached(tmp_path, teachers, source), source)
    received = trained(mlp(), None, opened.batch(batch) if batch else opened, compile_with=ASKED)
    assert_same_run(received, trained(mlp(), teachers, live, compile_with=ASKED))
    assert {"agreement", "teacher_kl", "soft_targets"} <= set(received[0])
    of_one = trained(mlp(), teachers[0], live)
    assert max(np.abs(one - other).max() for one, other in zip(received[1], of_one[1], strict=True)) > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_running(mode, teachers, caches):
    data = batched((x, y), drop_remainder=mode == "XLA")
    received = trained(mlp(), None, open_cache(caches, data), compile_with=MODES[mode])
    assert_same_run(received, trained(mlp(), teachers, data, compile_with=MODES[mode]))


class OfMembers(kd.objectives.Objective):
    """Learns `z_0 - 2 z_1`: what is said by whom matters."""

    compares_logits = True

    def values(self, teacher, student, **context):
        first, second, learnt = (next(iter(one.outputs.values())) for one in (*teacher.members, student))
        return {None: ops.mean((first - 2 * second - learnt) ** 2, axis=-1)}


OBJECTIVES = {
    "soft targets of one temperature": lambda: kd.objectives.SoftTargets(temperature=2.0),
    "of all classes": lambda: [kd.objectives.DIST(), kd.objectives.LogitsMSE(weight=0.1)],
    "with labels": lambda: kd.objectives.DecoupledKD(),
    "of the members": OfMembers,
    "dense guidance": lambda: kd.objectives.DenseGuidance(kd.objectives.SoftTargets(3.0), drop=0),
    "dense guidance, one teacher dropped": lambda: kd.objectives.DenseGuidance(seed=3),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name, teachers, caches):
    received = trained(mlp(), None, open_cache(caches, PLAIN), OBJECTIVES[name]())
    assert_same_run(received, trained(mlp(), teachers, PLAIN, OBJECTIVES[name]()))


def test_members_come_in_the_order_of_the_paths(teachers, caches):
    for paths, order in ((caches, teachers), (caches[::-1], teachers[::-1])):
        ((batch, _),) = open_cache(paths, batched((x, y), 14))
        assert batch.heard().weights == [0.5, 0.5]
        for said, teacher in zip(said_by(batch), order, strict=True):
            np.testing.assert_allclose(said, answers(teacher, x), atol=1e-6)


def test_more_than_ten_teachers(tmp_path):
    """In the order of text the member 10 would come before 2."""
    teachers = [mlp(3, seed=seed) for seed in range(1, 12)]
    ((batch, _),) = open_cache(cached(tmp_path, teachers, PLAIN), batched((x, y), 14))
    assert [key.member for key in keys_of(batch.signals)] == list(range(11))
    for said, teacher in zip(said_by(batch), teachers, strict=True):
        np.testing.assert_allclose(said, answers(teacher, x), atol=1e-6)


def test_metrics_are_those_of_the_mean_of_the_probabilities(teachers, caches):
    logits, learnt = [answers(teacher, x) for teacher in teachers], answers(mlp(), x)
    asked = {"metrics": ["agreement", "teacher_kl", "soft_targets"]}
    received, live = (
        compiled_distiller(mlp(), who, compile_with=asked).evaluate(data, return_dict=True, verbose=0)
        for who, data in ((None, open_cache(caches, PLAIN)), (teachers, PLAIN))
    )
    assert received == pytest.approx(live, rel=2e-6)
    at_one, at_four = (ensemble_logits(logits, [0.5, 0.5], temperature) for temperature in (1.0, 4.0))
    assert received["agreement"] == pytest.approx(np.mean(at_one.argmax(-1) == learnt.argmax(-1)), abs=1e-6)
    assert received["teacher_kl"] == pytest.approx(soft_target_values(at_one, learnt, 1.0).mean(), rel=1e-5)
    assert received["soft_targets"] == pytest.approx(soft_target_values(at_four, learnt, 4.0).mean(), rel=1e-5)


def test_caches_of_several_dtypes_go_together(teachers, tmp_path):
    dtypes = ["float16", "int8"]
    paths = [
        cache_teacher(teacher, PLAIN, tmp_path / dtype, dtype=dtype).path
        for teacher, dtype in zip(teachers, dtypes, strict=True)
    ]
    ((batch, _),) = open_cache(paths, batched((x, y), 14))
    halves, eighths = said_by(batch)
    np.testing.assert_array_equal(halves, answers(teachers[0], x).astype("float16"))
    expected = answers(teachers[1], x)
    spread = np.ptp(expected, axis=-1).max()
    assert 0 < np.abs(softmax(eighths, -1) - softmax(expected, -1)).max() < spread / 255


VIEWS, SIZE = 2, 7
SOURCES = {  # as an example of slices in memory, of a stream, of ids; and how the augmentation takes it
    "in memory": (batched((x, y), SIZE), lifted),
    "streamed": (batched((x, y), SIZE).map(lambda *element: element), lifted),
    "single examples": ((x, y), lifted),
    "known by ids": (identified(x, y), lifted_image),
    "known by ids, in batches": (identified(x, y).batch(SIZE), lifted_image),
}


def view(number, keys):
    """A view of all examples, from the formulas."""
    drawn = [float(tf.random.stateless_normal((), [seed, 0])) for seed in seeds(x, number, 5, keys)]
    return x + np.float32(drawn)[:, None]


@pytest.mark.parametrize("name", SOURCES)
def test_views(name, teachers, tmp_path):
    source, augment = SOURCES[name]
    paths = cached(tmp_path, teachers, source, views=VIEWS, augment=augment, seed=5)
    opened = open_cache(paths, source, augment=augment)
    opened = opened.batch(SIZE) if opened.element_spec[1].shape.rank == 0 else opened
    live, replay = (compiled_distiller(mlp(), who, compile_with=ASKED) for who in (teachers, None))
    keys = keys_of_ids(ids[:14]).numpy() if "ids" in name else None
    shown = [view(number, keys) for number in range(VIEWS)]
    expected = [live.fit(batched((each, y), SIZE), verbose=0).history for each in shown]
    received = replay.fit(opened, epochs=VIEWS, verbose=0).history
    assert set(received) == set(expected[0])
    for key, values in received.items():
        np.testing.assert_allclose(values, [history[key][0] for history in expected], rtol=1e-5, err_msg=key)
    assert_same(values_of(replay.weights), values_of(live.weights), atol=2e-6)


def test_every_member_saw_the_mixture_that_is_shown(teachers, tmp_path):
    mixup = kd.data.mixup(alpha=1.0, num_classes=3)
    paths = cached(tmp_path, teachers, (x, y), views=VIEWS, augment=mixup)
    opened = open_cache(paths, batched((x, y), SIZE), augment=mixup)
    for _ in range(VIEWS):
        for batch, scores in opened:
            assert np.abs(np.sort(scores.numpy(), -1)[:, -1] - 1).max() > 1e-3
            for said, teacher in zip(said_by(batch), teachers, strict=True):
                np.testing.assert_allclose(said, answers(teacher, batch.x), atol=1e-5)


def test_caches_of_ids_in_different_orders(teachers, tmp_path):
    source = identified(x, y)
    turned = source.skip(5).concatenate(source.take(5))
    paths = [
        cache_teacher(teacher, data, tmp_path / f"{place}", dtype="float32").path
        for place, (teacher, data) in enumerate(zip(teachers, (source, turned), strict=True))
    ]
    for batch, _ in open_cache(paths, source.skip(9).concatenate(source.take(2)).batch(3)):
        for said, teacher in zip(said_by(batch), teachers, strict=True):
            np.testing.assert_allclose(said, answers(teacher, batch.x["image"]), atol=1e-6)


@pytest.mark.parametrize("as_path", [lambda path: [path], lambda path: (str(path),)], ids=["list", "tuple"])
def test_a_list_of_one_is_its_path(as_path, caches):
    alone, listed = open_cache(caches[0], PLAIN), open_cache(as_path(caches[0]), PLAIN)
    assert listed.element_spec == alone.element_spec
    assert [str(key) for key in keys_of(alone.element_spec[0].signals)] == list(alone.element_spec[0].signals)
    for one, other in zip(listed, alone, strict=True):
        assert_same(tf.nest.flatten(one), tf.nest.flatten(other))


def test_what_is_on_disk_knows_of_no_members(caches):
    text = '{"index": 0, "kind": "dense", "name": "output_0", "keyed": false, "temperature": null, "num_classes": 3}'
    assert str(SignalKey(0, "dense", "output_0", num_classes=3)) == text
    assert Manifest.read(caches[1]).contents["signals"] == [{"key": text, "shape": [3]}]
    member = SignalKey(0, "dense", "output_0", num_classes=3, member=1)
    assert str(member) == text.replace("}", ', "member": 1}')
    assert SignalKey.parse(str(member)) == member


def named(width, seed, names, *, keyed=False):
    """One output of two classes, one of three, by the names that are given to them."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(width, "tanh")(inputs)
    outputs = {name: keras.layers.Dense(2 + (name in "b d"), name=name)(hidden) for name in names}
    return keras.Model(inputs, outputs if keyed else [*outputs.values()])


OUTPUTS = {
    "by key, in another order": [named(9, 1, "ab", keyed=True), named(7, 2, "ba", keyed=True)],
    "by place": [named(9, 1, "ab"), named(7, 2, "ab")],
    "by place, of other names": [named(9, 1, "ab"), named(7, 2, "cd")],
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_pair_as_those_of_live_teachers(name, tmp_path):
    teachers, data, keyed = OUTPUTS[name], batched(x), name.startswith("by key")
    opened = open_cache(cached(tmp_path, teachers, data), data)
    settings = {"alpha": 0.0, "compile_with": {"loss": None, "metrics": ["agreement", "teacher_kl"]}}
    received = trained(named(5, 0, "ab", keyed=keyed), None, opened, **settings)
    assert_same_run(received, trained(named(5, 0, "ab", keyed=keyed), teachers, data, **settings))


@pytest.fixture(scope="module")
def with_an_ensemble(teachers, tmp_path_factory):
    """The caches of a teacher and of the mean of two others at temperature 2.5."""
    keras.config.disable_interactive_logging()
    members = [teachers[0], kd.Ensemble([teachers[1], mlp(6, seed=3)], weights=[3, 1])]
    return cached(tmp_path_factory.mktemp("ensemble"), members, PLAIN, temperature=2.5)


def test_a_member_may_be_the_mean_of_an_ensemble(teachers, with_an_ensemble):
    distiller = compiled_distiller(mlp(), None, temperature=2.5, compile_with={"metrics": ["soft_targets"]})
    received = distiller.evaluate(open_cache(with_an_ensemble, PLAIN), return_dict=True, verbose=0)["soft_targets"]
    logits = [answers(teacher, x) for teacher in (*teachers, mlp(6, seed=3))]
    mean = ensemble_logits(logits, [1 / 2, 3 / 8, 1 / 8], 2.5)
    assert received == pytest.approx(soft_target_values(mean, answers(mlp(), x), 2.5).mean(), rel=1e-5)


def test_a_member_of_one_temperature_speaks_at_no_other(with_an_ensemble):
    opened = open_cache(with_an_ensemble, PLAIN)
    assert refusal_of(compiled_distiller(mlp(), None).fit, opened, verbose=0) == (
        "`SoftTargets`: cache 1 holds what the teacher said at temperature 2.5, and nothing else can be told from it. "
        "Received: temperature=4. Use 2.5, or make a cache with `cache_teacher(..., temperature=4)`."
    )
    asking = compiled_distiller(mlp(), None, temperature=2.5, compile_with=ASKED)
    assert refusal_of(asking.fit, opened, verbose=0) == (
        "`Distiller`: the metrics ['agreement', 'teacher_kl'] cannot be told from cache 1's 'output_0', which is dense "
        "at temperature 2.5. Leave them out, or make a cache of all logits."
    )
