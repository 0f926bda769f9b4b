"""The teacher that a cache is made of: asked block by block, its answers checked."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.cache.codecs import Codec
from keras_kd.cache.examples import size_of, without_id
from keras_kd.cache.fingerprints import checksums, digest, is_function, teacher_fingerprint
from keras_kd.cache.layout import Layout
from keras_kd.probabilities import refuse_teacher_scores, scores_by_value
from keras_kd.replay import SignalKey
from keras_kd.taps import forward
from keras_kd.teachers import Ensemble, Teacher


class Speaker:
    """Asks a teacher for logits and taps, in one compiled function.

    Args:
        teacher: Whom to ask.
        taps: Where to listen.
        temperature: What an ensemble averages its probabilities at.
    """

    def __init__(self, teacher: Teacher | Ensemble, taps: Sequence[str], temperature: float):
        self.teacher, self.taps, self.temperature = teacher, list(taps), temperature
        self._averages = len(teacher.members) > 1
        self._names: list[str] = []
        self._keyed = False
        self._batch = _fixed_batch(teacher)
        self._ask = self._said

    def _said(self, x: Any) -> list[tf.Tensor]:
        signals = self.teacher.signals(x, self.taps)
        logits = signals.logits(self.temperature)
        self._names, self._keyed = list(logits), signals.keyed
        return [*(tf.cast(value, tf.float32) for value in logits.values()), *(signals.taps[tap] for tap in self.taps)]

    def __call__(self, x: Any) -> list[tf.Tensor]:
        """What the teacher says of a batch, signal by signal; not checked, and perhaps not computed yet."""
        pieces = [self._ask(piece) for piece in self._pieces(x)]
        if len(pieces) == 1 and self._batch is None:
            return pieces[0]
        return [tf.concat(parts, axis=0)[: int(size_of(x))] for parts in zip(*pieces, strict=True)]

    def _pieces(self, x: Any) -> list[Any]:
        """The batch as it is; or batches of the size that the teacher insists on, the last filled up from the start."""
        if self._batch is None:
            return [x]
        count, size = int(size_of(x)), self._batch
        places = [[place % count for place in range(first, first + size)] for first in range(0, count, size)]
        return [keras.tree.map_structure(lambda leaf: tf.gather(leaf, of_piece), x) for of_piece in places]  # noqa: B023

    def meet(self, x: Any) -> None:
        """Builds the teacher for a first batch.

        Raises:
            ValueError: If it gives probabilities that were not declared.
        """
        x = self._pieces(without_id(x))[0]
        self.teacher.build(x)
        for member in self.teacher.members:
            with keras.StatelessScope():
                given = scores_by_value(forward(member.model, member.inputs_for(x)))
            for found in given.outputs.values():
                refuse_teacher_scores("cache_teacher", member, found)
        # One trace for whole and last blocks.
        spec = keras.tree.map_structure(lambda leaf: tf.TensorSpec((self._batch, *leaf.shape[1:]), leaf.dtype), x)
        self._ask = tf.function(self._said, autograph=False).get_concrete_function(spec)

    def layout(self, codec: Codec, x: Any) -> Layout:
        """How what it says is laid out, from what it says of a batch."""
        said = [array.numpy() for array in self(x)]
        shapes = [array.shape[1:] for array in said]
        fixed = codec.temperature if not self._averages else self.temperature
        keys = [
            SignalKey(index, codec.kind, name, self._keyed, fixed, shape[-1] if shape else None)
            for index, (name, shape) in enumerate(zip(self._names, shapes, strict=False))
        ]
        keys += [SignalKey(len(keys) + index, "tap", tap) for index, tap in enumerate(self.taps)]
        return Layout(codec, keys, shapes)

    def checked(self, said: Sequence[tf.Tensor], layout: Layout, first: int) -> list[np.ndarray]:
        """Answers as arrays.

        Raises:
            ValueError: If one is NaN or infinite, does not fit float16, or has another shape than those before.
        """
        arrays = [array.numpy() for array in said]
        for key, shape, array in zip(layout.keys, layout.shapes, arrays, strict=True):
            if array.shape[1:] != tuple(shape):
                raise ValueError(
                    f"`cache_teacher`: what is stored must have one size. The teacher `{self.teacher.name}` gave "
                    f"'{key.name}' of shape {tuple(shape)} first, and {array.shape[1:]} from example {first} on. Pad "
                    "the examples to one size."
                )
            limit = np.finfo(np.float16).max if key.kind == "tap" else np.finfo(np.float32).max
            wrong = ~(np.abs(array.astype(np.float32)) <= limit).reshape(len(array), -1).all(axis=1)
            if wrong.any():
                raise ValueError(
                    f"`cache_teacher`: the teacher `{self.teacher.name}` gave NaN, infinity or more than {limit:.4g} "
                    f"in '{key.name}' for example {first + int(np.argmax(wrong))}. What was written before is kept."
                )
        return arrays

    def describe(self, x: Any, layout: Layout) -> dict[str, str]:
        """Who speaks: names, and fingerprint of architecture and weights; of functions, what they give for a batch."""
        names = "+".join(_name_of(member) for member in self.teacher.members)
        return {"name": names, "fingerprint": teacher_fingerprint(self.teacher, self._sample(x, layout))}

    def _sample(self, x: Any, layout: Layout) -> bytes:
        return self._sample_of_answers(x, layout) + self._sample_of_weights(x)

    def _sample_of_answers(self, x: Any, layout: Layout) -> bytes:
        if not any(map(is_function, self.teacher.members)):
            return b""
        said = self.checked(self(x), layout, 0)
        return layout.encode(np.zeros(len(said[0]), np.int32), said, np.random.default_rng(0)).tobytes()

    def _sample_of_weights(self, x: Any) -> bytes:
        if not callable(getattr(self.teacher, "weights", None)):
            return b""
        return np.asarray(self.teacher.weights_for(x), np.float16).tobytes()  # so coarse that machines agree

    def preprocessing(self, x: Any) -> str:
        """Tells a preprocessing by what it makes of a first batch."""
        return digest(*(checksums(member.inputs_for(x)) for member in self.teacher.members))


def _fixed_batch(teacher: Teacher | Ensemble) -> int | None:
    inputs = [tensor for member in teacher.members for tensor in getattr(member.model, "inputs", None) or ()]
    return next(filter(None, (tensor.shape[0] for tensor in inputs)), None)


def _name_of(member: Teacher) -> str:
    """A model's name, less the number by which Keras tells the models of one class in a process."""
    numbered = re.fullmatch(r"(.+)_\d+", member.name)
    by_keras = numbered and numbered[1].replace("_", "") == type(member.model).__name__.lower()
    return numbered[1] if by_keras else member.name
