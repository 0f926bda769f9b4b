"""Numbers from zero to nine, written out in several languages and misspelt."""

from collections.abc import Sequence

import numpy as np

from keras_kd.data.drawing import within

_WORDS = {
    "English": "zero one two three four five six seven eight nine",
    "German": "null eins zwei drei vier fünf sechs sieben acht neun",
    "French": "zéro un deux trois quatre cinq six sept huit neuf",
    "Spanish": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "Italian": "zero uno due tre quattro cinque sei sette otto nove",
    "Portuguese": "zero um dois três quatro cinco seis sete oito nove",
    "Dutch": "nul een twee drie vier vijf zes zeven acht negen",
    "Swedish": "noll ett två tre fyra fem sex sju åtta nio",
    "Polish": "zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć",
    "Turkish": "sıfır bir iki üç dört beş altı yedi sekiz dokuz",
}
LANGUAGES = tuple(_WORDS)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def number_words(
    digits: Sequence[int],
    *,
    languages: Sequence[str] = LANGUAGES,
    misspelling: float = 0.1,
    seed: int | Sequence[int] = 0,
) -> list[str]:
    """Writes digits as words, each in a language drawn for it, with mistakes.

    Each letter is hit with the probability `misspelling`, and is then left out, doubled, replaced by a letter from a
    to z, or swapped with the next one where there is one, all equally often. A word always keeps a letter.

    Args:
        digits: whole numbers from 0 to 9.
        languages: languages to draw from, of English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish,
            Polish and Turkish. Defaults to all ten.
        misspelling: probability from 0 to 1. Defaults to 0.1.
        seed: what languages and mistakes are drawn from; one number, or several.

    Returns:
        One word for each digit.

    Raises:
        ValueError: if a digit, a language or the probability is not one of these.

    Example:
        >>> number_words([1, 2, 8], languages=["German"], misspelling=0)
        ['eins', 'zwei', 'acht']
    """
    misspelling = within("number_words", "misspelling", misspelling, 0, 1)
    if not languages or (unknown := sorted(set(languages) - set(LANGUAGES))):
        raise ValueError(
            f"`number_words`: `languages` must be among {', '.join(LANGUAGES)}. Received: "
            f"{', '.join(unknown) if languages else 'none'}."
        )
    if wrong := [digit for digit in digits if digit not in range(10)]:
        raise ValueError(f"`number_words`: `digits` must be whole numbers from 0 to 9. Received: {wrong[0]}.")
    rng = np.random.default_rng(seed)
    lists = [_WORDS[language].split() for language in languages]
    return [_misspelt(lists[rng.integers(len(lists))][digit], misspelling, rng) for digit in digits]


def _misspelt(word: str, rate: float, rng: np.random.Generator) -> str:
    letters = list(word)
    for place in np.flatnonzero(rng.random(len(word)) < rate):
        mistake = rng.integers(4)
        if mistake == 0 and len("".join(letters)) > 1:
            letters[place] = ""
        elif mistake == 1:
            letters[place] *= 2
        elif mistake == 2:
            letters[place] = _LETTERS[rng.integers(len(_LETTERS))]
        elif place + 1 < len(letters):
            letters[place : place + 2] = letters[place + 1], letters[place]
    return "".join(letters)
