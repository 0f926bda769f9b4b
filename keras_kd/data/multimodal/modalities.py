"""What a modality is: `Image`, `Audio` or `Text`."""

import collections
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from keras_kd.data.drawing import require, whole

PADDING, UNKNOWN = "", "[UNK]"


@dataclass(frozen=True)
class Image:
    """Images, float32 in [0, 1].

    Args:
        height: rows of pixels.
        width: columns of pixels.
        channels: 1 for grey or 3 for RGB.

    Example:
        >>> Image(28, 28, 1).shape
        (28, 28, 1)
    """

    height: int
    width: int
    channels: int = 1

    dtype = "float32"

    def __post_init__(self):
        whole("Image", "height", self.height, 1)
        whole("Image", "width", self.width, 1)
        require(self.channels in (1, 3), "Image", "`channels` must be 1 or 3", channels=self.channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one example."""
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Audio:
    """Mono waveforms, float32 in [-1, 1], cut at their end or padded there with zeros.

    Args:
        samples: length.
        rate: samples per second.

    Example:
        >>> Audio(samples=4000, rate=8000).seconds
        0.5
    """

    samples: int
    rate: int

    dtype = "float32"

    def __post_init__(self):
        whole("Audio", "samples", self.samples, 1)
        whole("Audio", "rate", self.rate, 1)

    @property
    def shape(self) -> tuple[int]:
        """Shape of one example."""
        return (self.samples,)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate


@dataclass(frozen=True)
class Text:
    """Text as int32 ids, cut at its end or padded there with 0.

    Before it is split, text is brought to Unicode's composed form (NFC), put in lower case, and each run of white space
    becomes one space. An id is a position in `vocabulary`: 0 is padding, 1 a token that the vocabulary has not.

    Args:
        length: number of ids.
        vocabulary: the tokens, of which the first two are `""` and `"[UNK]"`, as in
            `keras.layers.TextVectorization`.
        split: "character", or "word": at white space. Defaults to "character".

    Example:
        >>> text = Text(5, ("", "[UNK]", "n", "o", "w"))
        >>> text.encode("Now!").tolist()
        [2, 3, 4, 1, 0]
        >>> text.decode([2, 3, 4, 1, 0])
        'now[UNK]'
    """

    length: int
    vocabulary: tuple[str, ...]
    split: Literal["character", "word"] = "character"

    dtype = "int32"

    def __post_init__(self):
        whole("Text", "length", self.length, 1)
        check_split("Text", self.split)
        first = tuple(self.vocabulary[:2])
        require(first == (PADDING, UNKNOWN), "Text", "`vocabulary` must begin with '' and '[UNK]'", vocabulary=first)

    @property
    def shape(self) -> tuple[int]:
        """Shape of one example."""
        return (self.length,)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.vocabulary)}

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of `text`, int32 of shape `(length,)`."""
        ids = [self._ids.get(token, 1) for token in tokens(text, self.split)[: self.length]]
        return np.array(ids + [0] * (self.length - len(ids)), "int32")

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`, as far as the vocabulary has it."""
        joint = "" if self.split == "character" else " "
        return joint.join(self.vocabulary[index] for index in ids if index)


Modality = Image | Audio | Text


def check_split(owner: str, split: str) -> None:
    """Raises ValueError unless `split` is a way to split text."""
    require(split in ("character", "word"), owner, '`split` must be "character" or "word"', split=split)


def tokens(text: str, split: str) -> list[str]:
    """Returns the tokens of a text."""
    words = unicodedata.normalize("NFC", text).lower().split()
    return list(" ".join(words)) if split == "character" else words


def learn_text(texts: Iterable[str], length: int, split: str, max_tokens: int | None = None) -> Text:
    """Makes the `Text` whose vocabulary is that of some texts, the most frequent token first.

    Args:
        texts: the texts of the training examples.
        length: number of ids.
        split: "character" or "word".
        max_tokens: size of the vocabulary, the two special ones among them. `None` takes every token.

    Returns:
        The `Text`.

    Example:
        >>> learn_text(["to be", "or not to be"], 8, "word").vocabulary
        ('', '[UNK]', 'be', 'to', 'not', 'or')
    """
    check_split("learn_text", split)
    counts = collections.Counter(token for text in texts for token in tokens(text, split))
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    kept = ranked if max_tokens is None else ranked[: whole("learn_text", "max_tokens", max_tokens, 3) - 2]
    return Text(length, (PADDING, UNKNOWN, *kept), split)
