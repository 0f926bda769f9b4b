"""Every kind of student: its TFLite file, run by LiteRT, against NumPy or the Keras model; or a true refusal."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.export import LiteRTModel, export_student, read_metadata
from tests.export.architectures import cnn, depthwise_cnn, mlp, residual, text_student

RNG = np.random.default_rng(0)


def images(count=5):
    return RNG.normal(size=(count, 8, 8, 2)).astype("float32")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(4, activation="tanh")
        self.head = layers.Dense(3)

    def call(self, inputs, training=False):
        return self.head(self.hidden(inputs))


def subclassed():
    student = Subclassed()
    student(np.zeros((2, 6)))
    return student


def deferred():
    student = keras.Sequential([layers.Dense(5), layers.Dense(3)])
    student(np.zeros((7, 6)))
    return student


@pytest.mark.parametrize("build", [mlp, cnn, depthwise_cnn, residual, subclassed, deferred])
def test_file_equals_keras_at_any_batch(build, tmp_path):
    student = build()
    x = images() if build in (cnn, depthwise_cnn, residual) else RNG.normal(size=(5, 6)).astype("float32")
    report = export_student(student, tmp_path, formats="tflite")
    model = LiteRTModel(tmp_path / "student.tflite")
    expected = np.asarray(student(x, training=False))
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model(x[:1]), expected[:1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model(np.tile(x, (30, *[1] * (x.ndim - 1))))[-5:], expected, rtol=1e-4, atol=1e-5)
    assert report.files[0].batch_size is None


def test_dense_equals_numpy(tmp_path):
    student = mlp()
    export_student(student, tmp_path, formats="tflite")
    (w1, b1), (w2, b2) = (layer.get_weights() for layer in student.layers)
    x = RNG.normal(size=(4, 6)).astype("float32")
    np.testing.assert_allclose(
        LiteRTModel(tmp_path / "student.tflite")(x), np.maximum(x @ w1 + b1, 0) @ w2 + b2, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", [dict, list])
def test_several_inputs_keep_their_names(kind, tmp_path):
    # Alphabetical order is not the order given, so swapped inputs would show.
    zebra, apple = keras.Input((3,), name="zebra"), keras.Input((2,), name="apple")
    out = layers.Concatenate()([10.0 * layers.Dense(3, use_bias=False)(zebra), layers.Dense(2, use_bias=False)(apple)])
    inputs = {"zebra": zebra, "apple": apple} if kind is dict else [zebra, apple]
    student = keras.Model(inputs, out)
    x = {"zebra": RNG.normal(size=(4, 3)).astype("float32"), "apple": RNG.normal(size=(4, 2)).astype("float32")}
    export_student(student, tmp_path, formats="tflite")
    weights = {weight.shape[0]: weight for weight in student.get_weights()}
    expected = np.concatenate([10 * x["zebra"] @ weights[3], x["apple"] @ weights[2]], axis=1)
    path = tmp_path / "student.tflite"
    np.testing.assert_allclose(LiteRTModel(path)({**x, "text": None}), expected, rtol=1e-4, atol=1e-5)
    fed = x if kind is dict else [x["zebra"], x["apple"]]
    np.testing.assert_allclose(LiteRTModel(path, student)(fed), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_several_outputs_keep_structure_and_order(kind, tmp_path):
    # Equal shapes, names against the alphabet: nothing but the signature tells these two apart.
    inputs = keras.Input((3,), name="x")
    zebra, apple = layers.Dense(2, name="zebra")(inputs), layers.Dense(2, name="apple")(inputs)
    outputs = {"zebra": zebra, "apple": apple} if kind is dict else kind([zebra, apple])
    student = keras.Model(inputs, outputs)
    x = RNG.normal(size=(4, 3)).astype("float32")
    by_name = {name: x @ student.get_layer(name).kernel.numpy() for name in ("zebra", "apple")}
    export_student(student, tmp_path, formats="tflite")
    found = LiteRTModel(tmp_path / "student.tflite")(x)
    assert sorted(found) == ["apple", "zebra"]
    for name, expected in by_name.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
    structured = LiteRTModel(tmp_path / "student.tflite", student)(x)
    pairs = [structured["zebra"], structured["apple"]] if kind is dict else structured
    assert isinstance(structured, kind)
    np.testing.assert_allclose(pairs[0], by_name["zebra"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pairs[1], by_name["apple"], rtol=1e-4, atol=1e-5)


def test_a_subclassed_student_with_dictionaries(tmp_path):
    class TwoTowers(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2, use_bias=False)

        def call(self, inputs):
            return {"sum": self.dense(inputs["b"] + inputs["a"]), "a": inputs["a"]}

    student = TwoTowers()
    x = {"b": RNG.normal(size=(4, 3)).astype("float32"), "a": RNG.normal(size=(4, 3)).astype("float32")}
    student(x)
    export_student(student, tmp_path, evaluation_data=x)
    found = LiteRTModel(tmp_path / "student.tflite", student)(x)
    np.testing.assert_allclose(found["sum"], (x["a"] + x["b"]) @ student.get_weights()[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["a"], x["a"])


def test_names_reach_the_plain_litert_signature_runner(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    student = keras.Sequential([keras.Input((3,), name="image"), layers.Dense(2, name="logits")])
    export_student(student, tmp_path, formats="tflite")
    runner = Interpreter(model_path=str(tmp_path / "student.tflite")).get_signature_runner()
    x = np.eye(3, dtype="float32")
    np.testing.assert_allclose(runner(image=x)["logits"], student.get_weights()[0], rtol=1e-5)


def test_names_that_no_signature_may_have_are_made_plain(tmp_path):
    inputs = keras.Input((3,), name="my input-1.x")
    student = keras.Model(inputs, {"out/put": layers.Dense(2, name="dense")(inputs), "same": inputs})
    export_student(student, tmp_path, evaluation_data=np.eye(3))
    found = LiteRTModel(tmp_path / "student.tflite")({"my_input_1_x": np.eye(3)})
    assert sorted(found) == ["out_put", "same"]
    np.testing.assert_allclose(found["out_put"], student.get_layer("dense").kernel.numpy(), rtol=1e-5)
    structured = LiteRTModel(tmp_path / "student.tflite", student)(np.eye(3))
    np.testing.assert_array_equal(structured["out/put"], found["out_put"])
    np.testing.assert_array_equal(structured["same"], np.eye(3))


def test_a_student_of_sounds_of_any_length(tmp_path):
    # Three frames at least: what is run to see whether it runs must not be shorter.
    student = keras.Sequential(
        [keras.Input((None, 4), name="frames"), layers.Conv1D(5, 3), layers.GlobalMaxPooling1D(), layers.Dense(2)]
    )
    x = RNG.normal(size=(3, 9, 4)).astype("float32")
    export_student(student, tmp_path, formats="tflite", quantize=("float32", "int8"), representative_data=x)
    for length in (3, 9):
        found = LiteRTModel(tmp_path / "student.tflite")(x[:, :length])
        np.testing.assert_allclose(found, np.asarray(student(x[:, :length])), rtol=1e-4, atol=1e-5)


def test_an_operator_without_a_counterpart_is_named(tmp_path):
    student = keras.Sequential(
        [keras.Input((3, 3)), layers.Lambda(lambda x: keras.ops.real(keras.ops.fft2((x, x))[0]), name="spectrum")]
    )
    with pytest.raises(ValueError, match=r"without Flex. Replace the layer .* as float32 needs \w+ at '.*spectrum"):
        export_student(student, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_low_level_batch_one_by_default_and_resizable(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    student = cnn()
    export_student(student, tmp_path, formats="tflite")
    interpreter = Interpreter(model_path=str(tmp_path / "student.tflite"))
    (details,), x = interpreter.get_input_details(), images()
    assert details["shape"].tolist() == [1, 8, 8, 2]
    interpreter.resize_tensor_input(details["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(details["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, np.asarray(student(x, training=False)), rtol=1e-4, atol=1e-5)


def test_mixed_precision_student_is_exported_in_float32_and_left_as_it_was(tmp_path):
    student = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)]
    )
    twin = keras.models.clone_model(student)
    twin.set_weights(student.get_weights())
    for layer in student.layers:
        layer.dtype_policy = "mixed_float16"
    x = images()
    before = np.asarray(student(x))
    report = export_student(student, tmp_path, evaluation_data=x)
    np.testing.assert_allclose(LiteRTModel(tmp_path / "student.tflite")(x), np.asarray(twin(x)), rtol=1e-4, atol=1e-5)
    assert report.files[1].max_abs_difference < 1e-5
    assert {layer.dtype_policy.name for layer in student.layers} == {"mixed_float16"}
    np.testing.assert_array_equal(np.asarray(student(x)), before)
    assert before.dtype == "float16"


def test_recurrent_student_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(
        ValueError, match=r"without Flex. Set `unroll=True` .* batch_size=1.*TensorListReserve at .*reader"
    ):
        export_student(text_student(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("batch_size", "unroll"), [(None, True), (2, False)])
def test_recurrent_student_with_the_remedy_converts(batch_size, unroll, tmp_path):
    student = text_student(batch_size, unroll)
    ids = RNG.integers(0, 20, size=(6, 6)).astype("int32")
    report = export_student(student, tmp_path, evaluation_data=ids[:5] if unroll else ids)
    model = LiteRTModel(tmp_path / "student.tflite")
    expected = np.concatenate([np.asarray(student(ids[start : start + 2])) for start in (0, 2, 4)])
    # Five examples leave a ragged last batch for a file that is fixed to two.
    np.testing.assert_allclose(model(ids[:5]), expected[:5], rtol=1e-4, atol=1e-6)
    assert report.files[1].batch_size == batch_size
    assert report.files[1].agreement == 1.0


def test_a_loop_is_refused_for_int8_where_the_converter_would_crash(tmp_path):
    ids = np.zeros((4, 6), "int32")
    with pytest.raises(ValueError, match=r"must run without loops for quantize='int8'. Set `unroll=True`"):
        export_student(text_student(1), tmp_path, quantize="int8", representative_data=ids)
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_that_is_not_needed_is_freed(tmp_path):
    student = keras.Sequential([keras.Input((3,), batch_size=4), layers.Dense(2)])
    report = export_student(student, tmp_path, formats="tflite", evaluation_data=np.eye(3))
    assert report.files[0].batch_size is None
    np.testing.assert_allclose(LiteRTModel(report.files[0].path)(np.eye(3)), student.get_weights()[0], rtol=1e-5)


def test_a_batch_of_ones_own_is_fixed_in_every_file(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    x, options = images(7), {"quantize": ("float32", "int8"), "batch_size": 3}
    report = export_student(cnn(), tmp_path, representative_data=x, evaluation_data=x, **options)
    for file in report.files[1:]:
        (taken,) = Interpreter(model_path=str(file.path)).get_input_details()
        assert taken["shape_signature"].tolist() == [3, 8, 8, 2]
        assert (file.batch_size, file.examples) == (3, 7)
    assert report.files[1].agreement == 1.0


def test_a_batch_of_ones_own_is_the_remedy_for_a_loop(tmp_path):
    student, ids = text_student(), RNG.integers(0, 20, size=(5, 6)).astype("int32")
    export_student(student, tmp_path, formats="tflite", batch_size=2)
    found = LiteRTModel(tmp_path / "student.tflite")(ids)
    np.testing.assert_allclose(found, np.asarray(student(ids)), rtol=1e-4, atol=1e-6)


def test_flex_only_where_it_is_needed_and_never_in_silence(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    x = RNG.normal(size=(4, 6)).astype("float32")
    (file,) = export_student(mlp(), tmp_path, formats="tflite", evaluation_data=x, allow_flex=True).files
    assert (file.flex, file.agreement) == (False, 1.0)
    ids = RNG.integers(0, 20, size=(5, 6)).astype("int32")
    report = export_student(text_student(), tmp_path, formats="tflite", evaluation_data=ids, allow_flex=True)
    (file,) = report.files
    assert (file.flex, file.agreement, file.latency_ms_median) == (True, None, None)
    assert "student.tflite needs Flex, TensorFlow's operators" in str(report)
    assert report.to_dict()["files"][0]["flex"] is read_metadata(file.path)["flex"] is True
    runner = Interpreter(model_path=str(file.path)).get_signature_runner()
    with pytest.raises(RuntimeError, match=r"Select TensorFlow op.*FlexTensorListReserve"):
        runner(ids=ids)
