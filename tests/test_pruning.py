"""`MagnitudePruning` against the schedule and the masks that NumPy computes, in every kind of training."""

import gzip

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_kd as kd
from keras_kd.pruning import MagnitudePruning, sparsity, sparsity_by_layer

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 6)).astype("float32"), RNG.integers(0, 3, 24)


def zhu_gupta(step, begin, end, initial, final):
    """The share that is to be zero, by the paper, at a step between begin and end."""
    return final + (initial - final) * (1.0 - (step - begin) / (end - begin)) ** 3


def mlp(seed=0, width=7, dtype="float32"):
    keras.utils.set_random_seed(seed)
    hidden = layers.Dense(width, "tanh", name="hidden", dtype=dtype)
    return keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3, name="head", dtype=dtype)])


def compiled(model, optimizer=None, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **{"run_eagerly": True, **kwargs})
    return model


def fit(model, *callbacks, epochs=1, batch_size=6, **kwargs):
    return model.fit(X, Y, batch_size=batch_size, epochs=epochs, callbacks=[*callbacks], verbose=0, **kwargs).history


def values(model):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


class Record(keras.callbacks.Callback):
    """All weights after each batch; stands before or after the pruning."""

    def __init__(self, of):
        super().__init__()
        self.of, self.seen = of, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append({weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in self.of.weights})


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


class CountsTraces(layers.Layer):
    traces = 0

    def call(self, x):
        self.traces += 1
        return x


def test_the_share_of_every_step_is_that_of_the_paper():
    pruning = MagnitudePruning(0.9, initial_sparsity=0.25, begin_step=4, end_step=24, every=5)
    received = [pruning.scheduled(step, 24) for step in range(30)]
    pruned_at = np.repeat([4, 9, 14, 19], 5)
    expected = [0.0] * 4 + [zhu_gupta(step, 4, 24, 0.25, 0.9) for step in pruned_at] + [0.9] * 6
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def nested_student(counter):
    """Every kind of layer, in a model inside a model, with a layer that is used twice."""
    keras.utils.set_random_seed(1)
    inner_in = keras.Input((3, 2, 1))
    y = layers.Conv2D(4, 2, padding="same", name="conv")(inner_in)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.DepthwiseConv2D(2, padding="same", name="depthwise")(y)
    y = layers.SeparableConv2D(3, 2, padding="same", name="separable")(y)
    inner = keras.Model(inner_in, layers.GlobalAveragePooling2D()(y), name="backbone")
    twice = layers.Dense(3, name="twice")
    x = keras.Input((6,))
    y = counter(inner(layers.Reshape((3, 2, 1))(x)))
    return keras.Model(x, layers.Dense(3, name="head")(twice(twice(y))))


PRUNED = ("conv/kernel", "separable/pointwise_kernel", "twice/kernel", "head/kernel")


def assert_pruned_as_by_numpy(before, after, steps, end, begin, every, final, names=PRUNED):
    masks = {}
    for step, updated, pruned in zip(steps, before.seen, after.seen, strict=True):
        at = begin + (min(step, end) - begin) // every * every if step < end else end
        share = zhu_gupta(at, begin, end, 0.0, final) if step >= begin else 0.0
        for path, weights in updated.items():
            expected = weights.copy()
            if path.endswith(names):
                # The pruned come first, then by magnitude.
                masked = masks.get(path, np.zeros(weights.size, bool))
                order = np.lexsort((np.abs(weights.ravel()), ~masked))
                count = max(masked.sum(), round(share * weights.size))
                masks[path] = np.isin(np.arange(weights.size), order[:count])
                expected.ravel()[masks[path]] = 0
            np.testing.assert_array_equal(pruned[path], expected, err_msg=f"{path} after step {step}")
    assert len(masks) == len(names)
    for masked in masks.values():
        assert masked.sum() == round(final * masked.size)


def test_kernels_of_all_kinds_are_pruned_as_by_numpy_and_no_step_is_traced_again():
    counter = CountsTraces()
    student = nested_student(counter)
    before, after = Record(student), Record(student)
    traces = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: counts.append(counter.traces))
    counts = []
    pruning = MagnitudePruning(0.7, begin_step=3, every=2)
    model = compiled(student, keras.optimizers.SGD(0.1), run_eagerly=False)
    history = fit(model, before, pruning, after, traces, epochs=2, batch_size=3)
    assert_pruned_as_by_numpy(before, after, range(1, 17), end=16, begin=3, every=2, final=0.7)
    assert len(set(counts)) == 1
    zeros = [(keras.ops.convert_to_numpy(w) == 0).sum() for w in student.weights if w.path.endswith(PRUNED)]
    sizes = [np.prod(w.shape) for w in student.weights if w.path.endswith(PRUNED)]
    assert history["sparsity"][1] == sum(zeros) / sum(sizes) == sparsity(student)


def test_a_distiller_prunes_its_student_compiled_by_xla_in_mixed_precision_and_several_steps_at_once():
    student = mlp(dtype="mixed_float16")
    teacher = mlp(3)
    of_teacher = values(teacher)
    distiller = compiled(kd.Distiller(student, teacher), jit_compile=True, run_eagerly=False, steps_per_execution=3)
    before, after = Record(student), Record(student)
    fit(distiller, before, MagnitudePruning(0.6, every=1), after, epochs=2, batch_size=3)
    steps = [3, 6, 8, 11, 14, 16]
    assert int(distiller.optimizer.iterations) == 16
    names = ("hidden/kernel", "head/kernel")
    assert_pruned_as_by_numpy(before, after, steps, end=16, begin=0, every=1, final=0.6, names=names)
    for weight, value in zip(teacher.weights, of_teacher, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_float16_weights_of_equal_size_give_exactly_as_many_zeros():
    model = mlp(dtype="float16")
    model.get_layer("hidden").kernel.assign(np.full((6, 7), 0.5))
    fit(compiled(model, keras.optimizers.SGD(0.0)), MagnitudePruning(0.5, initial_sparsity=0.5), batch_size=24)
    assert sparsity_by_layer(model) == {"hidden": 21 / 42, "head": round(0.5 * 21) / 21}


@pytest.mark.parametrize("initial", [0.0, 0.3])
def test_at_step_zero_the_student_is_pruned_before_it_learns(initial):
    model = compiled(mlp(), keras.optimizers.SGD(0.0))
    kernel = keras.ops.convert_to_numpy(model.get_layer("hidden").kernel).copy()
    seen = []
    see = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: seen.append(values(model)[0]))
    fit(model, MagnitudePruning(0.5, initial_sparsity=initial, every=1), see, batch_size=12)
    smallest = np.sort(np.abs(kernel), axis=None)[: round(initial * 42)]
    np.testing.assert_array_equal(seen[0], np.where(np.isin(np.abs(kernel), smallest), 0, kernel))


def test_only_the_layers_that_are_named_are_pruned():
    student = compiled(nested_student(CountsTraces()))
    fit(student, MagnitudePruning(0.5, layers=["backbone", "head"]), batch_size=24)
    received = {path.removeprefix("backbone/"): share for path, share in sparsity_by_layer(student).items()}
    assert received == {"conv": 8 / 16, "separable": 6 / 12, "twice": 0.0, "head": round(0.5 * 9) / 9}


def test_a_layer_in_two_models_goes_by_either_name_and_counts_once():
    shared, x = layers.Dense(6, name="shared"), keras.Input((6,))
    one, other = (keras.Model(x, shared(x), name=name) for name in ("one", "other"))
    student = keras.Model(x, layers.Dense(3, name="head")(other(one(x))))
    fit(compiled(student), MagnitudePruning(0.5, layers=["other/shared"]), batch_size=24)
    assert sparsity_by_layer(student) == {"one/shared": 0.5, "other/shared": 0.5, "head": 0.0}
    assert sparsity(student) == 18 / (36 + 18)


def test_what_is_frozen_or_the_teachers_stays_whole():
    shared = mlp(4).get_layer("hidden")
    teacher = keras.Sequential([keras.Input((6,)), shared, layers.Dense(3)])
    frozen = layers.Dense(5, trainable=False)
    student = keras.Sequential([keras.Input((6,)), shared, frozen, layers.Dense(3, name="head")])
    fit(compiled(kd.Distiller(student, teacher)), MagnitudePruning(0.4), batch_size=24)
    assert sparsity_by_layer(student) == {"hidden": 0.0, frozen.name: 0.0, "head": 6 / 15}


def test_of_a_finished_student_the_teachers_end_stays_whole():
    student, teacher = mlp(), mlp(3, width=9)
    end = values(teacher.get_layer("head"))
    distiller = compiled(kd.Distiller(student, teacher, kd.objectives.SimKD("hidden", "hidden"), alpha=0.0))
    fit(distiller, MagnitudePruning(0.5), batch_size=24)
    shares = list(sparsity_by_layer(distiller).values())
    assert shares[0] == 21 / 42
    assert shares[-1] == 0
    np.testing.assert_array_equal(teacher.get_layer("head").kernel, end[0])


def test_a_run_that_was_interrupted_ends_as_the_unbroken_run(tmp_path):
    def run(*callbacks):
        distiller = compiled(kd.Distiller(mlp(), mlp(3)))
        pruning = MagnitudePruning(0.8, begin_step=1, every=2)
        # The pruning first: when its training begins, nothing is restored yet.
        history = fit(distiller, pruning, *callbacks, epochs=2, shuffle=False)
        return values(distiller.student), history["sparsity"]

    unbroken, shares = run()
    with pytest.raises(KeyboardInterrupt):
        run(keras.callbacks.BackupAndRestore(tmp_path), Stop(1))
    resumed, rest = run(keras.callbacks.BackupAndRestore(tmp_path))
    assert rest == shares[1:]
    for one, other in zip(resumed, unbroken, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_second_fit_starts_the_schedule_anew_and_keeps_the_zeros_that_it_finds():
    model = compiled(mlp())
    fit(model)
    model.get_layer("hidden").kernel.assign(np.where(np.arange(42).reshape(6, 7) < 4, 0, model.weights[0]))
    shares = fit(model, MagnitudePruning(0.5, every=2), epochs=2)["sparsity"]
    hidden, head = (round(zhu_gupta(4, 0, 8, 0.0, 0.5) * size) for size in (42, 21))
    assert shares == [(hidden + head) / 63, (21 + 10) / 63]
    assert (values(model)[0].ravel()[:4] == 0).all()


class TwoUpdates(keras.Sequential):
    def train_step(self, data):
        super().train_step(data)
        return super().train_step(data)


@pytest.mark.parametrize(("updates", "accumulated"), [(2, None), (1, 2)])
def test_steps_are_updates_however_many_a_batch_makes(updates, accumulated):
    model = TwoUpdates(mlp().layers) if updates == 2 else mlp()
    compiled(model, keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulated))
    shares = fit(model, MagnitudePruning(0.8, every=1), epochs=3)["sparsity"]
    expected = [zhu_gupta(epoch, 0, 3, 0.0, 0.8) for epoch in (1, 2, 3)]
    assert shares == [(round(share * 42) + round(share * 21)) / 63 for share in expected]


def test_moving_averages_do_not_bring_weights_back():
    model = compiled(mlp(), keras.optimizers.SGD(0.1, use_ema=True))
    fit(model, MagnitudePruning(0.5), batch_size=12)
    assert sparsity_by_layer(model) == {"hidden": 21 / 42, "head": 10 / 21}


def test_an_unbuilt_student_of_a_generator_is_pruned_up_to_its_end_step():
    student = keras.Sequential([layers.Dense(7, name="hidden"), layers.Dense(3, name="head")])
    batches = ((X[i : i + 3], Y[i : i + 3]) for i in range(0, 24, 3))
    distiller = compiled(kd.Distiller(student, mlp(3)))
    distiller.fit(batches, callbacks=[MagnitudePruning(0.5, end_step=5)], verbose=0)
    assert sparsity_by_layer(student) == {"hidden": 21 / 42, "head": 10 / 21}


def test_recurrent_cells_attention_and_embeddings_count():
    tokens = keras.Input((4,), dtype="int32")
    y = layers.Embedding(5, 6, name="table")(tokens)
    y = layers.Bidirectional(layers.GRU(3, return_sequences=True, name="gru"), name="both")(y)
    y = layers.MultiHeadAttention(2, 3, name="attention")(y, y)
    model = keras.Model(tokens, layers.LayerNormalization()(y))
    model.get_layer("table").embeddings.assign(np.eye(5, 6))
    received = sparsity_by_layer(model)
    attention = [f"attention/{part}" for part in ("query", "key", "value", "attention_output")]
    assert list(received) == ["table", "both/forward_gru/gru_cell", "both/backward_gru/gru_cell", *attention]
    assert list(received.values()) == [25 / 30, *[0.0] * 6]
    cells, heads = 2 * (6 * 9 + 3 * 9), 4 * 6 * 6
    assert sparsity(model) == 25 / (30 + cells + heads)


def zeros_in(path):
    """Zeros and numbers in the constant float tensors of a TFLite file, as LiteRT reads them."""
    interpreter = Interpreter(str(path))
    details = [d for d in interpreter.get_tensor_details() if d["dtype"] == np.float32]
    named = {d["name"]: interpreter.tensor(d["index"])() for d in details if tuple(d["shape"]) in {(20, 6), (3, 20)}}
    return sum((t == 0).sum() for t in named.values()), sum(t.size for t in named.values())


def test_the_compressed_file_of_a_pruned_student_is_smaller_and_holds_the_zeros(tmp_path):
    sizes, zeros = {}, {}
    for final in (0.0, 0.75):
        student = mlp(width=20)
        callbacks = [MagnitudePruning(final, every=2)] if final else []
        fit(compiled(kd.Distiller(student, mlp(3))), *callbacks)
        kd.export_student(student, tmp_path / str(final), formats="tflite")
        path = tmp_path / str(final) / "student.tflite"
        sizes[final], zeros[final] = len(gzip.compress(path.read_bytes(), mtime=0)), zeros_in(path)
    assert zeros == {0.0: (0, 180), 0.75: (90 + 45, 180)}
    assert sizes[0.75] < sizes[0.0] - 300
