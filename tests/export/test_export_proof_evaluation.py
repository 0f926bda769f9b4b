"""`evaluation.json`: calibration by hand, divergences by SciPy, pictures by Pillow."""

import base64
import io

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from scipy.special import softmax
from scipy.stats import entropy

from keras_kd.export import export_student
from keras_kd.export.evaluation import Evaluation
from keras_kd.export.parity import Answers

RNG = np.random.default_rng(0)


def gathered(student, teacher=None, labels=None, inputs=None, x=None, size=7, **settings):
    """What comes of the scores of all examples, in batches."""
    evaluation = Evaluation(**settings)
    for start in range(0, len(student), size):
        part = slice(start, start + size)
        evaluation.add(
            Answers(
                x=None if x is None else {name: array[part] for name, array in x.items()},
                labels=None if labels is None else labels[part],
                inputs={"x": student[part]} if inputs is None else {"image": inputs[part]},
                student={"scores": student[part]},
                teacher={} if teacher is None else {"scores": teacher[part]},
                teacher_outputs=[],
            )
        )
    return evaluation.to_dict()


def test_calibration_equals_what_a_hand_computes():
    # Confidences in the bins (0.5, 0.6], (0.8, 0.9] and (0.9, 1]: right, wrong; right, wrong; right.
    first = np.array([0.55, 0.6, 0.9, 0.9, 1.0])
    found = gathered(np.stack([first, 1 - first], 1), labels=np.array([0, 1, 0, 1, 0]))["reliability"]
    bins = found["student"]
    assert [one["count"] for one in bins] == [0, 0, 0, 0, 0, 2, 0, 0, 2, 1]
    assert bins[0] == {"confidence": None, "accuracy": None, "count": 0}
    assert (bins[5]["confidence"], bins[5]["accuracy"]) == (pytest.approx(0.575), 0.5)
    assert (bins[8]["confidence"], bins[8]["accuracy"]) == (pytest.approx(0.9), 0.5)
    assert (bins[9]["confidence"], bins[9]["accuracy"]) == (1.0, 1.0)
    assert found["ece"]["student"] == pytest.approx(2 / 5 * 0.075 + 2 / 5 * 0.4 + 0)
    assert (found["teacher"], found["ece"]["teacher"]) == (None, None)


def test_probabilities_and_logits_are_told_apart():
    logits, labels = RNG.normal(size=(60, 4)) * 3, RNG.integers(0, 4, 60)
    by_value = gathered(softmax(logits, -1), labels=labels, teacher=logits)
    assert by_value["reliability"]["ece"]["student"] == pytest.approx(by_value["reliability"]["ece"]["teacher"])
    assert max(one["divergence"] for one in by_value["differences"]) == pytest.approx(0, abs=1e-12)
    by_graph = gathered(softmax(logits, -1), labels=labels, scores="softmax")
    assert by_graph["reliability"]["student"] == by_value["reliability"]["student"]


def test_greatest_divergences_equal_scipy():
    student, teacher = RNG.normal(size=(2, 100, 5)) * 2
    labels = RNG.integers(0, 5, 100)
    words = np.array([f"example {index}".encode() for index in range(100)], dtype=object)
    found = gathered(student, teacher, labels, x={"ids": student, "text": words}, classes=list("abcde"))["differences"]
    expected = entropy(softmax(teacher, -1), softmax(student, -1), axis=-1)
    greatest = np.argsort(-expected)[:24]
    assert [one["index"] for one in found] == greatest.tolist()
    np.testing.assert_allclose([one["divergence"] for one in found], expected[greatest], rtol=1e-9)
    for one in found:
        index = one["index"]
        assert one["label"] == "abcde"[labels[index]]
        assert one["student"]["class"] == "abcde"[student[index].argmax()]
        assert one["student"]["probability"] == pytest.approx(softmax(student[index]).max())
        assert one["teacher"]["class"] == "abcde"[teacher[index].argmax()]
        assert one["teacher"]["probability"] == pytest.approx(softmax(teacher[index]).max())
        assert (one["text"], one["image"]) == (f"example {index}", None)


def test_shares_by_true_class_equal_numpy():
    student, teacher = RNG.normal(size=(2, 80, 3))
    labels = RNG.integers(0, 2, 80)
    found = gathered(student, teacher, np.eye(3)[labels])
    assert (found["classes"], found["examples"]) == (["0", "1", "2"], 80)
    learnt, taught = student.argmax(-1), teacher.argmax(-1)
    for place, row in enumerate(found["per_class"][:2]):
        of_class = labels == place
        assert row["examples"] == of_class.sum()
        assert row["student_accuracy"] == np.mean(learnt[of_class] == place)
        assert row["teacher_accuracy"] == np.mean(taught[of_class] == place)
        assert row["agreement"] == np.mean(learnt[of_class] == taught[of_class])
    shares = ("student_accuracy", "teacher_accuracy", "agreement")
    assert found["per_class"][2] == {"class": "2", "examples": 0, **dict.fromkeys(shares)}


def test_without_labels_or_teacher_there_is_less():
    scores = RNG.normal(size=(9, 3))
    found = gathered(scores)
    assert (found["reliability"], found["per_class"], found["differences"]) == (None, None, None)
    alone = gathered(scores, labels=np.zeros(9, int))["per_class"][0]
    assert (alone["teacher_accuracy"], alone["agreement"]) == (None, None)
    assert [one["label"] for one in gathered(scores, scores[::-1])["differences"]] == [None] * 9


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_inputs_between_the_least_and_the_greatest_of_all(channels):
    student, teacher = RNG.normal(size=(2, 30, 3))
    images = RNG.uniform(-2, 6, size=(30, 5, 4, channels))
    found = gathered(student, teacher, inputs=images)["differences"]
    scaled = 255 * (images - images.min()) / (images.max() - images.min())
    for one in found:
        head, _, body = one["image"].partition(",")
        assert head == "data:image/png;base64"
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
        np.testing.assert_array_equal(decoded.reshape(5, 4, channels), np.round(scaled[one["index"]]))


def test_large_pictures_are_thinned_out():
    images = np.zeros((2, 600, 300, 1), "uint8")
    images[:, ::3, ::3] = 200
    picture = gathered(RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3)), inputs=images)["differences"][0]["image"]
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))))
    assert decoded.shape == (200, 100)
    assert (decoded == 255).all()


@pytest.mark.parametrize(("shape", "scores"), [((4, 1), "unknown"), ((4, 6, 3), "unknown"), ((4, 3), "sigmoid")])
def test_what_is_no_one_choice_among_classes_has_no_evaluation(shape, scores):
    assert gathered(np.ones(shape), scores=scores) is None


def test_a_student_without_classes_leaves_no_evaluation_of_an_older_one(tmp_path):
    (tmp_path / "evaluation.json").write_text("{}")
    one = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    export_student(one, tmp_path, formats="tflite", evaluation_data=np.ones((3, 4)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "student.tflite"]
