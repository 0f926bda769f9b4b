"""Functions of NumPy arrays as teachers: what they are given, what they may answer, and what is refused."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.teachers import Teacher

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def check_refused(make, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        make()


def said_by(teacher, x, traced=False):
    ask = tf.function(lambda: teacher.signals(x).outputs) if traced else lambda: teacher.signals(x).outputs
    return {name: value.numpy() for name, value in ask().items()}


class Recorded:
    """A function that keeps what it was given."""

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    def __call__(self, x):
        self.seen.append(x)
        return self.answer(x)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda x: np.float16(x), {"output_0": X.astype("float16")}),
        (lambda x: [x], {"output_0": X}),
        (lambda x: (x, np.float64(2 * x)), {"output_0": X, "output_1": 2 * X}),
        (lambda x: {"b": x, "a": -x}, {"b": X, "a": -X}),
        (lambda x: tf.constant(x), {"output_0": X}),
    ],
    ids=["float16", "list of one", "tuple", "dict", "tensor"],
)
def test_a_function_may_answer_in_any_structure(answer, expected, traced):
    said = said_by(Teacher(answer), X, traced)
    assert set(said) == set(expected)
    for name, value in said.items():
        assert value.dtype == "float32"
        np.testing.assert_array_equal(value, expected[name].astype("float32"))


def test_a_function_gets_numpy_arrays_in_the_structure_of_the_batch():
    function = Recorded(lambda x: x["image"])
    batch = {"image": tf.constant(X), "words": tf.constant(["a"] * 5), "missing": None}
    np.testing.assert_array_equal(said_by(Teacher(function), batch)["output_0"], X)
    (seen,) = function.seen
    assert {key: type(value) for key, value in seen.items()} == {
        "image": np.ndarray,
        "words": np.ndarray,
        "missing": type(None),
    }
    np.testing.assert_array_equal(seen["image"], X)
    assert seen["words"].tolist() == [b"a"] * 5


def test_a_function_is_asked_once_to_learn_its_shapes():
    function = Recorded(lambda x: x @ np.ones((4, 3), "float32"))
    teacher = Teacher(function)
    ask = tf.function(lambda x: teacher.signals(x).outputs["output_0"], input_signature=[tf.TensorSpec((None, 4))])
    assert ask.get_concrete_function().structured_outputs.shape.as_list() == [None, 3]
    assert [x.shape for x in function.seen] == [(2, 4)]
    np.testing.assert_allclose(ask(X), X.sum(-1, keepdims=True).repeat(3, -1), rtol=1e-5, atol=1e-6)
    assert [x.shape for x in function.seen] == [(2, 4), (5, 4)]


@pytest.mark.parametrize(
    ("answer", "expected"), [(lambda x: x[..., None] * [1.0, 2.0], [None, None, 2]), (lambda x: x[:, :5], [None, 5])]
)
def test_what_follows_an_open_size_is_open_too(answer, expected):
    teacher = Teacher(answer)
    ask = tf.function(lambda x: teacher.signals(x).outputs["output_0"], input_signature=[tf.TensorSpec((None, None))])
    assert ask.get_concrete_function().structured_outputs.shape.as_list() == expected
    for length in (5, 7):
        batch = np.random.default_rng(0).random((3, length)).astype("float32")
        np.testing.assert_allclose(ask(batch), answer(batch), rtol=1e-6)


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (lambda x: x[:1], "(1, 4)"),
        (lambda x: x.sum(), "()"),
        (lambda x: [x, x[:2]], "[(5, 4), (2, 4)]"),
        (lambda x: None, "()"),
        (lambda x: "cat", "str"),
        (lambda x: {"scores": object()}, "dict"),
    ],
    ids=["fewer rows", "a number", "one of two", "nothing", "text", "objects"],
)
def test_answers_that_are_none(answer, received):
    def api(x):
        return answer(x)

    check_refused(
        lambda: Teacher(api).signals(X),
        "`Teacher`: `api` must answer with an array, or a list or dict of arrays, of a row for each of the 5 examples. "
        f"Received: {received}.",
    )


class Fickle:
    """Gives its answers one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, x):
        return self.answers.pop(0)(x)


OTHER_SHAPES = [
    (lambda x: x[:, :3], "(None, 4)", "(5, 3)"),
    (lambda x: x[..., None], "(None, 4)", "(5, 4, 1)"),
    (lambda x: [x, x], "(None, 4)", "[(5, 4), (5, 4)]"),
    (lambda x: {"a": x}, "(None, 4)", "{'a': (5, 4)}"),
]


@pytest.mark.parametrize(("second", "first_shapes", "received"), OTHER_SHAPES)
def test_an_answer_of_other_shapes_than_the_first(second, first_shapes, received):
    teacher = Teacher(Fickle(lambda x: x, second))
    np.testing.assert_array_equal(teacher.signals(X).outputs["output_0"], X)
    check_refused(
        lambda: teacher.signals(X),
        f"`Teacher`: `Fickle` must answer every batch in the shapes of its first answer, {first_shapes}. "
        f"Received: {received}.",
    )


@pytest.mark.parametrize(("second", "first_shapes", "received"), OTHER_SHAPES)
def test_an_answer_of_other_shapes_within_a_graph(second, first_shapes, received):
    teacher = Teacher(Fickle(lambda x: x, second))
    ask = tf.function(lambda x: teacher.signals(x).outputs, input_signature=[tf.TensorSpec((None, 4))])
    text = (
        f"`Teacher`: `Fickle` must answer every batch in the shapes of its first answer, {first_shapes}. "
        f"Received: {received}."
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(text)):
        ask(X)
