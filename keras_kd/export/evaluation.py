"""Where student and teacher are sure, right and of one mind: what `evaluation.json` holds, gathered batch by batch."""

import base64
import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.export.parity import Answers, class_labels

BINS = 10
DIFFERENCES = 24
_LONGEST_SIDE = 256


class Evaluation:
    """Reliability, accuracy by class, and the examples on which student and teacher differ most, at temperature 1.

    `ECE = Σ_b n_b / n · |accuracy_b - confidence_b|` over ten equal bins of the confidence, which is the probability of
    the class that is named; `KL(p || q) = Σ_c p_c log(p_c / q_c)` in nats, of the teacher's `p` and the student's `q`.

    Nothing is kept of the data but sums, and the 24 examples.

    Args:
        classes: names of the classes, in order. Defaults to `None`: "0", "1", ...
        scores: what the student's one output is, as `scores_by_graph` says it: "softmax", "sigmoid", or anything else,
            for which the first batch tells. Defaults to "unknown".

    Reference:
        Guo, Pleiss, Sun, Weinberger. On Calibration of Modern Neural Networks. 2017. arXiv:1706.04599.
    """

    def __init__(self, classes: Sequence[str] | None = None, scores: str = "unknown"):
        self._classes = classes
        self._applies = scores != "sigmoid"
        self._student = _Side(scores == "softmax" or None)
        self._teacher = _Side(None)
        self._examples = 0
        self._labelled = True
        self._taught = True
        self._by_class: np.ndarray | None = None
        self._differing: list[tuple[float, int, dict[str, Any]]] = []
        self._low, self._high = np.inf, -np.inf

    def add(self, said: Answers) -> None:
        """Count one batch.

        Args:
            said: what student and teacher said of it.
        """
        scores = next(iter(said.student.values()))
        self._applies = self._applies and len(said.student) == 1 and scores.ndim == 2 and scores.shape[1] > 1
        if not self._applies:
            return
        count, number = scores.shape
        student = self._student.log_probabilities(scores)
        self._taught = self._taught and bool(said.teacher)
        teacher = self._teacher.log_probabilities(next(iter(said.teacher.values()))) if self._taught else None
        labels = class_labels(said.labels, scores.shape)
        self._labelled = self._labelled and labels is not None
        if self._labelled:
            self._count(labels, student, teacher, number)
        if teacher is not None:
            self._keep(said, labels, student, teacher)
        self._examples += count

    def to_dict(self) -> dict[str, Any] | None:
        """Return what was gathered as JSON values; `None` if the student has not one output of class scores."""
        if not self._applies or not self._examples:
            return None
        names = self._names()
        return {
            "classes": names,
            "examples": self._examples,
            "reliability": self._reliability() if self._labelled else None,
            "per_class": self._per_class(names) if self._labelled else None,
            "differences": self._differences(names) if self._taught else None,
        }

    def _count(self, labels: np.ndarray, student: np.ndarray, teacher: np.ndarray | None, number: int) -> None:
        named = student.argmax(-1)
        self._student.count(labels, student)
        columns = [np.ones(len(labels)), named == labels]
        if teacher is not None:
            self._teacher.count(labels, teacher)
            columns += [teacher.argmax(-1) == labels, named == teacher.argmax(-1)]
        sums = np.zeros((number, 4))
        known = (labels >= 0) & (labels < number)
        for column, values in enumerate(columns):
            np.add.at(sums[:, column], labels[known].astype(int), np.asarray(values)[known])
        self._by_class = sums if self._by_class is None else self._by_class + sums

    def _keep(self, said: Answers, labels: np.ndarray | None, student: np.ndarray, teacher: np.ndarray) -> None:
        image = _image(said.inputs)
        if image is not None and (finite := image[np.isfinite(image)]).size:
            self._low, self._high = min(self._low, float(finite.min())), max(self._high, float(finite.max()))
        divergences = _divergences(teacher, student)
        for place in np.argsort(-divergences, kind="stable")[:DIFFERENCES]:
            index = self._examples + int(place)
            entry = (float(divergences[place]), -index)
            if len(self._differing) == DIFFERENCES and entry < self._differing[0][:2]:
                break
            kept = {
                "label": None if labels is None else int(labels[place]),
                "student": student[place],
                "teacher": teacher[place],
                # A copy: a view would keep the whole batch.
                "image": None if image is None else np.array(image[place]),
                "text": _text(said.x, place),
            }
            push = heapq.heappush if len(self._differing) < DIFFERENCES else heapq.heappushpop
            push(self._differing, (*entry, kept))

    def _names(self) -> list[str]:
        number = self._student.number
        return list(map(str, range(number))) if self._classes is None else list(self._classes)

    def _reliability(self) -> dict[str, Any]:
        sides = {"student": self._student, "teacher": self._teacher if self._taught else None}
        return {
            **{name: side and side.bins() for name, side in sides.items()},
            "ece": {name: side and side.calibration_error() for name, side in sides.items()},
        }

    def _per_class(self, names: list[str]) -> list[dict[str, Any]]:
        rows = []
        for name, (examples, student, teacher, agreeing) in zip(names, self._by_class, strict=True):
            share = {"student_accuracy": student, "teacher_accuracy": teacher, "agreement": agreeing}
            share = {key: float(value / examples) if examples else None for key, value in share.items()}
            if not self._taught:
                share |= {"teacher_accuracy": None, "agreement": None}
            rows.append({"class": name, "examples": int(examples), **share})
        return rows

    def _differences(self, names: list[str]) -> list[dict[str, Any]]:
        def named(log_probabilities: np.ndarray) -> dict[str, Any]:
            place = int(log_probabilities.argmax())
            return {"class": names[place], "probability": float(np.exp(log_probabilities[place]))}

        rows = []
        for divergence, index, kept in sorted(self._differing, key=lambda entry: entry[:2], reverse=True):
            label, image = kept["label"], kept["image"]
            rows.append(
                {
                    "index": -index,
                    "label": names[label] if label is not None and 0 <= label < len(names) else None,
                    "student": named(kept["student"]),
                    "teacher": named(kept["teacher"]),
                    "divergence": divergence,
                    "image": None if image is None else _png(image, self._low, self._high),
                    "text": kept["text"],
                }
            )
        return rows


class _Side:
    """What one of the two said: whether in probabilities, and its sums by bin of confidence."""

    def __init__(self, probabilities: bool | None):
        self._probabilities = probabilities
        self._sums = np.zeros((BINS, 3))  # examples, right, confidence
        self.number = 0

    def log_probabilities(self, scores: np.ndarray) -> np.ndarray:
        scores = scores.astype(np.float64)
        self.number = scores.shape[1]
        if self._probabilities is None:
            # To the precision of float16.
            self._probabilities = bool((scores >= 0).all() and (np.abs(scores.sum(-1) - 1) < 1e-2).all())
        if self._probabilities:
            # The least positive float32 that is not denormal, as a `Teacher` has it.
            return np.log(np.maximum(scores, 1.2e-38))
        shifted = scores - scores.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    def count(self, labels: np.ndarray, log_probabilities: np.ndarray) -> None:
        confidence = np.exp(log_probabilities.max(-1))
        right = log_probabilities.argmax(-1) == labels
        # A bin holds its upper end, as in the paper, whatever the logarithm has rounded.
        bins = np.clip(np.ceil(np.nan_to_num(confidence) * BINS - 1e-9).astype(int) - 1, 0, BINS - 1)
        np.add.at(self._sums, bins, np.stack([np.ones(len(bins)), right, confidence], -1))

    def bins(self) -> list[dict[str, Any]]:
        return [
            {
                "confidence": float(confidence / count) if count else None,
                "accuracy": float(right / count) if count else None,
                "count": int(count),
            }
            for count, right, confidence in self._sums
        ]

    def calibration_error(self) -> float:
        total = self._sums[:, 0].sum()
        return float(np.abs(self._sums[:, 1] - self._sums[:, 2]).sum() / total)


def _divergences(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    # NaN is the student's alone, and no place in an order.
    return np.nan_to_num((np.exp(teacher) * (teacher - student)).sum(-1), nan=0.0)


def _image(inputs: dict[str, np.ndarray]) -> np.ndarray | None:
    array = next(iter(inputs.values()))
    return array if len(inputs) == 1 and array.ndim == 4 and array.shape[-1] in (1, 3) else None


def _text(x: Any, place: int) -> str | None:
    """The words of an example, where the inputs hold some, as those of the teacher may."""
    for array in tf.nest.flatten(x):
        if isinstance(array, np.ndarray) and array.dtype.kind in "OSU":
            word = np.reshape(array[place], -1)[0]
            return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
    return None


def _png(image: np.ndarray, low: float, high: float) -> str:
    step = -(-max(image.shape[:2]) // _LONGEST_SIDE)
    scaled = (image[::step, ::step].astype(np.float64) - low) / ((high - low) or 1.0)
    pixels = np.round(255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)
    encoded = base64.b64encode(tf.io.encode_png(pixels).numpy()).decode("ascii")
    return f"data:image/png;base64,{encoded}"
