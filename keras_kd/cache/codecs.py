"""How a teacher's logits are written down: whole, as the greatest classes, or as classes drawn from them."""

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_kd.cache.rows import (
    LEAST_ID_BITS,
    first_at_least,
    greatest_classes,
    in_blocks,
    logsumexp,
    packed,
    quantized,
    unpacked,
)

Field = tuple[str, str, tuple[int, ...]]

DTYPES = ("float32", "float16", "int8")
GREATEST_ID_BITS = 24


class Codec(ABC):
    """Turns the logits of some examples into arrays to store, and back into what they say.

    Attributes:
        kind: `"dense"`, `"top_k"` or `"sampled"`.
        temperature: The temperature that is stored, `None` where what is stored serves any.
    """

    kind: ClassVar[str]
    temperature: float | None

    @abstractmethod
    def fields(self, shape: Sequence[int]) -> list[Field]:
        """Names, dtypes and shapes of what is stored for one example with logits of shape `(..., classes)`."""

    @abstractmethod
    def encode(self, logits: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Arrays by field, for finite logits of shape `(n, ..., classes)`."""

    @abstractmethod
    def decode(self, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the arrays of `encode` say."""

    def bytes_of(self, shape: Sequence[int]) -> int:
        """Bytes that one example takes."""
        return sum(np.dtype(dtype).itemsize * math.prod(sizes) for _, dtype, sizes in self.fields(shape))


def codec_of(
    dtype: str = "float16", top_k: int | None = None, samples: int | None = None, temperature: float = 4.0
) -> Codec:
    """Makes the codec that the arguments of `cache_teacher` ask for.

    Args:
        dtype: `"float32"`, `"float16"` or `"int8"`; with `top_k`, one of the first two. Defaults to `"float16"`.
        top_k: How many of the greatest classes to store, the rest as one. Defaults to all classes.
        samples: How many classes to draw and store. Defaults to none: classes are not drawn.
        temperature: `T > 0`, at which `top_k` and `samples` see the classes. Defaults to 4.

    Returns:
        A `Dense`, `TopK` or `Sampled`.

    Raises:
        ValueError: If an argument is out of range, or they do not go together.

    Example:
        >>> codec_of(top_k=8, temperature=2.0)
        TopK(k=8, temperature=2.0, dtype='float16')
        >>> codec_of(top_k=8).bytes_of((1000,))   # 4 bytes per class
        32
    """
    if dtype not in DTYPES:
        raise ValueError(f"`cache_teacher`: `dtype` must be one of {', '.join(DTYPES)}. Received: dtype={dtype!r}.")
    for name, count in (("top_k", top_k), ("samples", samples)):
        _check_count(name, count)
    if not (isinstance(temperature, numbers.Real) and 0 < temperature < math.inf):
        raise ValueError(f"`cache_teacher`: `temperature` must be > 0. Received: temperature={temperature!r}.")
    if top_k is not None and samples is not None:
        raise ValueError(
            f"`cache_teacher`: one of `top_k` and `samples` must be None. Received: top_k={top_k}, samples={samples}."
        )
    if top_k is not None and dtype == "int8":
        raise ValueError(
            f"`cache_teacher`: with `top_k`, `dtype` must be 'float16' or 'float32'. Received: dtype='int8', "
            f"top_k={top_k}. The default, 'float16', takes 4 bytes per class."
        )
    if samples is not None and dtype != "float16":
        raise ValueError(
            f"`cache_teacher`: with `samples`, only classes are stored, which have no dtype. Received: "
            f"dtype={dtype!r}, samples={samples}. Leave out `dtype`."
        )
    if top_k is not None:
        return TopK(top_k, float(temperature), dtype)
    return Dense(dtype) if samples is None else Sampled(samples, float(temperature))


def _check_count(name: str, count: Any) -> None:
    whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    if count is not None and not (whole and count >= 1):
        raise ValueError(f"`cache_teacher`: `{name}` must be an integer >= 1, or None. Received: {name}={count!r}.")


@dataclass(frozen=True)
class Dense(Codec):
    """All classes.

    `"int8"` has one scale for each row, the greatest of its magnitudes divided by 127: it is off by half of that at
    most, and a row of zeros is exact.

    Args:
        dtype: `"float32"`, `"float16"` or `"int8"`.

    Example:
        >>> codec = Dense("int8")
        >>> stored = codec.encode(np.float32([[0.0, -127.0, 63.6]]), np.random.default_rng(0))
        >>> codec.decode(stored)["logits"]
        array([[   0., -127.,   64.]], dtype=float32)
    """

    kind = "dense"
    temperature = None
    dtype: str = "float16"

    def fields(self, shape: Sequence[int]) -> list[Field]:
        whole = ("logits", np.dtype(self.dtype).newbyteorder("<").str, tuple(shape))
        return [whole, ("scale", "<f4", tuple(shape[:-1]))] if self.dtype == "int8" else [whole]

    def encode(self, logits: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
        logits = _finite(logits)
        if self.dtype == "int8":
            return quantized(logits)
        greatest, limit = np.abs(logits).max(initial=0.0), np.finfo(self.dtype).max
        if greatest > limit:
            raise ValueError(
                f"`cache_teacher`: logits stored as float16 must be within ±{limit:g}. Received: a magnitude of "
                f"{greatest:g}. Give dtype='float32'."
            )
        return {"logits": logits.astype(self.dtype)}

    def decode(self, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        logits = encoded["logits"].astype("float32")
        return {"logits": logits * encoded["scale"][..., None] if self.dtype == "int8" else logits}


@dataclass(frozen=True)
class TopK(Codec):
    """The `k` greatest classes of `p = softmax(z / T)`, and all the others together as one more outcome.

    `k` numbers fix the `k + 1` outcomes, whose sum is 1: `log(p_rest / p_0)` and `log(p_j / p_0)` for
    `0 < j < k`, each rounded to float16. Every one shares a word of 32 bits with the id of a class, 4 bytes per class
    in all. Beyond 65,536 classes the id takes more than 16 bits, and the number loses as many of its lowest. The name
    of the field says how many bits of a word are id, for the classes themselves are not stored. `"float32"` takes two
    words per class.

    Classes are in the order of falling probability, equal ones in that of their ids. `decode` gives
    `{"classes": int32 (..., k), "logits": float32 (..., k + 1)}`, logits `T log p̃` with the rest last.

    Args:
        k: How many classes, `1 <= k < classes`.
        temperature: `T > 0`.
        dtype: `"float16"`, for up to 2²⁴ classes, or `"float32"`.

    Example:
        >>> codec = TopK(2, temperature=1.0)
        >>> stored = codec.encode(np.log(np.float32([[0.125, 0.25, 0.5, 0.125]])), np.random.default_rng(0))
        >>> said = codec.decode(stored)
        >>> said["classes"], np.exp(said["logits"]).round(3)   # 0.5 and 0.25, and 0.125 + 0.125 for the rest
        (array([[2, 1]], dtype=int32), array([[0.5 , 0.25, 0.25]], dtype=float32))
    """

    kind = "top_k"
    k: int
    temperature: float
    dtype: str = "float16"

    def fields(self, shape: Sequence[int]) -> list[Field]:
        classes, stored = shape[-1], (*shape[:-1], self.k)
        if self.k >= classes:
            raise ValueError(
                f"`cache_teacher`: `top_k` must be less than the number of classes, {classes}. Received: "
                f"top_k={self.k}. To store them all: top_k=None."
            )
        if self.dtype == "float32":
            return [("classes", "<u4", stored), ("log_ratios", "<f4", stored)]
        bits = max(LEAST_ID_BITS, (classes - 1).bit_length())
        if bits > GREATEST_ID_BITS:
            raise ValueError(
                f"`cache_teacher`: `top_k` in float16 is for up to {1 << GREATEST_ID_BITS} classes. Received: "
                f"{classes} classes. Give dtype='float32'."
            )
        return [(f"words_{bits}", "<u4", stored)]

    def encode(self, logits: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
        logits = _finite(logits)
        (name, *_), *more = self.fields(logits.shape[1:])
        rows = logits.reshape(-1, logits.shape[-1])
        ids, ratios = (part.reshape(*logits.shape[:-1], self.k) for part in in_blocks(self._greatest, rows))
        if more:
            return {"classes": ids.astype("<u4"), "log_ratios": ratios.astype("<f4")}
        return {name: packed(ids, ratios, bits=int(name.removeprefix("words_")))}

    def _greatest(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = greatest_classes(rows, self.k)
        softened = rows.astype("float64") / self.temperature
        named = np.take_along_axis(softened, ids, axis=-1)
        np.put_along_axis(softened, ids, -np.inf, axis=-1)
        # The ratio of the greatest class to itself needs no place: the rest has it.
        others = np.concatenate([logsumexp(softened), named[:, 1:]], axis=-1)
        return ids, others - named[:, :1]

    def decode(self, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.dtype == "float32":
            ids, ratios = encoded["classes"], encoded["log_ratios"].astype("float64")
        else:
            ((name, words),) = encoded.items()
            ids, ratios = unpacked(words, bits=int(name.removeprefix("words_")))
        greatest = np.zeros_like(ratios[..., :1])
        outcomes = np.concatenate([greatest, ratios[..., 1:], ratios[..., :1]], axis=-1)
        logits = self.temperature * (outcomes - logsumexp(outcomes))
        return {"classes": ids.astype("int32"), "logits": logits.astype("float32")}


@dataclass(frozen=True)
class Sampled(Codec):
    """Classes drawn from `p = softmax(z / T)`, independently and with replacement, and nothing but their ids.

    `p̂ = counts / k` is unbiased, and so is the gradient of the cross-entropy, which is linear in it. `decode` gives
    `{"classes": int32 (..., k)}`, in the order they were drawn.

    Args:
        k: How many draws, 1 or more.
        temperature: `T > 0`.

    Example:
        >>> codec = Sampled(4, temperature=1.0)
        >>> stored = codec.encode(np.float32([[0.0, 90.0, 0.0]]), np.random.default_rng(0))
        >>> codec.decode(stored)["classes"]
        array([[1, 1, 1, 1]], dtype=int32)

    Reference:
        Anshumann, Zaidi, Kedia, Ahn, Kwon, Lee, Lee, Lee. Sparse Logit Sampling: Accelerating Knowledge Distillation
        in LLMs. 2025. arXiv:2503.16870. The paper may draw from another distribution and weigh what was drawn; here it
        is `p` itself, so that every draw weighs the same.
    """

    kind = "sampled"
    k: int
    temperature: float

    def fields(self, shape: Sequence[int]) -> list[Field]:
        dtype = np.min_scalar_type(shape[-1] - 1).newbyteorder("<").str
        return [("classes", dtype, (*shape[:-1], self.k))]

    def encode(self, logits: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
        logits = _finite(logits)
        ((name, dtype, _),) = self.fields(logits.shape[1:])
        rows = logits.reshape(-1, logits.shape[-1])
        drawn = 1.0 - generator.random((len(rows), self.k))  # in (0, 1]: no class of probability 0
        (ids,) = in_blocks(self._drawn, rows, drawn)
        return {name: ids.reshape(*logits.shape[:-1], self.k).astype(dtype)}

    def _drawn(self, rows: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray]:
        softened = rows.astype("float64") / self.temperature
        cumulated = np.cumsum(np.exp(softened - softened.max(axis=-1, keepdims=True)), axis=-1)
        return (first_at_least(cumulated, drawn * cumulated[:, -1:]),)

    def decode(self, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"classes": encoded["classes"].astype("int32")}


def _finite(logits: np.ndarray) -> np.ndarray:
    """In float32."""
    logits = np.asarray(logits, "float32")
    if not np.isfinite(logits).all():
        raise ValueError(
            "`cache_teacher`: the teacher's logits must be finite. Received: NaN or infinity. Look at its inputs, or "
            "run it in float32."
        )
    return logits
