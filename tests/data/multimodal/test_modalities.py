import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_kd.data.multimodal import Audio, Image, Text
from keras_kd.data.multimodal.modalities import learn_text
from tests.data.drawn import check_text


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text("abc xyz", max_size=12), min_size=1, max_size=5), st.text("abcdxyz ", max_size=12))
def test_characters_are_those_of_keras(corpus, text):
    spec = learn_text(corpus, 6, "character")
    tidy = [" ".join(line.split()) for line in (*corpus, text)]
    layer = keras.layers.TextVectorization(
        standardize="lower", split="character", output_sequence_length=6, vocabulary=list(spec.vocabulary[2:]) or ["~"]
    )
    expected = np.asarray(layer(tidy))
    for line, ids in zip((*corpus, text), expected, strict=True):
        np.testing.assert_array_equal(spec.encode(line), ids)


def test_words_are_those_of_keras_and_its_vocabulary_too():
    corpus = ["the cat sat", "The  dog sat\ton the", "on the mat"]
    layer = keras.layers.TextVectorization(standardize="lower", output_sequence_length=4)
    layer.adapt(corpus)
    spec = learn_text(corpus, 4, "word")
    assert spec.vocabulary[2] == layer.get_vocabulary()[2] == "the"
    assert sorted(spec.vocabulary) == sorted(layer.get_vocabulary())
    assert spec.encode("The bird sat").tolist() == [spec.vocabulary.index("the"), 1, spec.vocabulary.index("sat"), 0]
    assert spec.encode("a b c d e").tolist() == [1, 1, 1, 1]
    assert spec.encode("").dtype == np.int32


def test_composed_and_decomposed_letters_are_one():
    spec = learn_text(["FÜNF"], 4, "character")
    assert spec.vocabulary == ("", "[UNK]", "f", "n", "ü")
    assert spec.encode("fu\u0308nf").tolist() == spec.encode("Fünf").tolist() == [2, 4, 3, 2]


def test_the_most_frequent_tokens_are_kept_and_ties_go_by_the_alphabet():
    assert learn_text(["b a c c"], 3, "word", max_tokens=4).vocabulary == ("", "[UNK]", "c", "a")


def test_shapes():
    assert Image(3, 4).shape == (3, 4, 1)
    assert (Audio(4000, 16000).shape, Audio(4000, 16000).seconds) == ((4000,), 0.25)
    assert Text(7, ("", "[UNK]")).shape == (7,)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Image(0, 4, 1), "`Image`: `height` must be 1 or more. Received: height=0."),
        (lambda: Image(4, 0, 1), "`Image`: `width` must be 1 or more. Received: width=0."),
        (lambda: Image(4, 4, 4), "`Image`: `channels` must be 1 or 3. Received: channels=4."),
        (lambda: Audio(0, 8000), "`Audio`: `samples` must be 1 or more. Received: samples=0."),
        (lambda: Audio(10, 0), "`Audio`: `rate` must be 1 or more. Received: rate=0."),
        (lambda: Text(0, ("", "[UNK]")), "`Text`: `length` must be 1 or more. Received: length=0."),
        (
            lambda: Text(3, ("a", "b")),
            "`Text`: `vocabulary` must begin with '' and '[UNK]'. Received: vocabulary=('a', 'b').",
        ),
        (
            lambda: Text(3, ("", "[UNK]"), "line"),
            '`Text`: `split` must be "character" or "word". Received: split=\'line\'.',
        ),
        (
            lambda: learn_text(["a"], 3, "word", max_tokens=2),
            "`learn_text`: `max_tokens` must be 3 or more. Received: max_tokens=2.",
        ),
    ],
)
def test_what_cannot_be_a_modality(make, text):
    check_text(ValueError, make, text)
