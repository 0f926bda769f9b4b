import itertools

import numpy as np
import pytest
from scipy import stats

from keras_kd.data.multimodal import number_words
from keras_kd.data.multimodal.words import LANGUAGES
from tests.data.drawn import check_text


def clean(digit, language):
    return number_words([digit], languages=[language], misspelling=0)[0]


def test_some_words_by_hand():
    expected = {
        "English": "three",
        "German": "drei",
        "French": "trois",
        "Spanish": "tres",
        "Italian": "tre",
        "Portuguese": "três",
        "Dutch": "drie",
        "Swedish": "tre",
        "Polish": "trzy",
        "Turkish": "üç",
    }
    assert {language: clean(3, language) for language in LANGUAGES} == expected
    assert [clean(digit, "Italian") for digit in (0, 5, 7, 9)] == ["zero", "cinque", "sette", "nove"]


def test_no_word_means_two_digits():
    words = [{clean(digit, language) for language in LANGUAGES} for digit in range(10)]
    for one, other in itertools.combinations(words, 2):
        assert not one & other


def test_languages_are_drawn_equally_often():
    drawn = number_words([4] * 3000, languages=["English", "German", "French"], misspelling=0)
    assert stats.chisquare([drawn.count(word) for word in ("four", "vier", "quatre")]).pvalue > 0.001


def edits(word):
    """Every word that one mistake can make of `word`, and how likely it is among the hits of one letter."""
    made = []
    for place, letter in enumerate(word):
        before, after = word[:place], word[place + 1 :]
        made.append((before + after, 1 / 4))
        made.append((before + 2 * letter + after, 1 / 4))
        made += [(before + other + after, 1 / 4 / 26) for other in "abcdefghijklmnopqrstuvwxyz"]
        made.append((before + after[:1] + letter + after[1:], 1 / 4))
    chances = {}
    for result, chance in made:
        chances[result] = chances.get(result, 0) + chance / len(word)
    return chances


def test_one_mistake_is_left_out_doubled_replaced_or_swapped_equally_often():
    rate, count = 0.01, 40000
    drawn = number_words([1] * count, languages=["English"], misspelling=rate)
    hit = [word for word in drawn if word != "one"]
    chances = edits("one")
    # Two hits in a word of three letters are a hundred times rarer than one.
    single = [word for word in hit if word in chances]
    assert len(single) > 0.97 * len(hit)
    lost = {"ne", "oe", "on"}
    doubled = {"oone", "onne", "onee"}
    swapped = {"noe", "oen"}
    for kind in (lost, doubled, swapped):
        chance = sum(chances[word] for word in kind) / (1 - chances["one"])
        assert stats.binomtest(sum(word in kind for word in single), len(single), chance).pvalue > 0.001
    expected = 1 - (1 - rate * (1 - chances["one"])) ** 3
    assert stats.binomtest(len(hit), count, expected).pvalue > 0.001


def test_a_seed_gives_the_same_words_and_another_gives_others():
    digits = np.arange(100) % 10
    assert number_words(digits, seed=(1, 2)) == number_words(digits, seed=(1, 2))
    assert number_words(digits, seed=(1, 2)) != number_words(digits, seed=(1, 3))


def test_a_word_keeps_a_letter_however_often_it_is_hit():
    assert all(number_words([1] * 2000, misspelling=1.0))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: number_words([10]),
            "`number_words`: `digits` must be whole numbers from 0 to 9. Received: 10.",
        ),
        (
            lambda: number_words([1], misspelling=2),
            "`number_words`: `misspelling` must be from 0 to 1. Received: misspelling=2.",
        ),
        (
            lambda: number_words([1], languages=["Klingon", "English"]),
            f"`number_words`: `languages` must be among {', '.join(LANGUAGES)}. Received: Klingon.",
        ),
        (
            lambda: number_words([1], languages=[]),
            f"`number_words`: `languages` must be among {', '.join(LANGUAGES)}. Received: none.",
        ),
    ],
)
def test_what_cannot_be_written(make, text):
    check_text(ValueError, make, text)
