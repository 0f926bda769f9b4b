import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from keras_kd.data.multimodal import Audio, Image, tones_and_digits
from keras_kd.data.multimodal.toy import tones
from tests.data.multimodal.examples import SPLITS, contents

KEYPAD = {"1": (697, 1209), "2": (697, 1336), "3": (697, 1477), "4": (770, 1209), "5": (770, 1336)}
KEYPAD |= {"6": (770, 1477), "7": (852, 1209), "8": (852, 1336), "9": (852, 1477), "0": (941, 1336)}


@pytest.fixture(scope="module")
def source():
    return tones_and_digits()


class Silence:
    """A generator of random numbers that draws phases but no noise."""

    uniform = staticmethod(np.random.default_rng(0).uniform)

    @staticmethod
    def normal(mean, deviation, shape):
        return np.zeros(shape)


def test_tones_are_those_of_a_keypad():
    sounds = tones(np.arange(10), Silence)
    spectra = np.abs(np.fft.rfft(sounds, n=8000))
    for digit, spectrum in enumerate(spectra):
        low, high = spectrum[600:1100], spectrum[1100:1700]
        assert (600 + low.argmax(), 1100 + high.argmax()) == pytest.approx(KEYPAD[str(digit)], abs=1)
        # A tone of amplitude 0.06 over 2000 samples.
        assert low.max() == pytest.approx(60, rel=0.05)


def test_what_it_holds(source):
    assert (source.name, source.class_names, source.has_missing) == ("tones_and_digits", tuple("0123456789"), False)
    assert source.modalities["image"] == Image(8, 8, 1)
    assert source.modalities["audio"] == Audio(2000, 8000)
    assert source.modalities["text"].shape == (10,)
    for split, per_class in zip(SPLITS, (60, 10, 30), strict=True):
        x, y = contents(getattr(source, split))
        assert np.bincount(y).tolist() == [per_class] * 10
        assert x["image"].min() >= 0
        assert x["image"].max() <= 1
        assert np.mean(np.abs(x["audio"]) == 1) < 0.005


def test_it_is_the_same_each_time_and_another_for_another_seed(source):
    (x, y), (again, again_y) = contents(source.test), contents(tones_and_digits().test)
    other, other_y = contents(tones_and_digits(seed=1).test)
    np.testing.assert_array_equal(y, again_y)
    np.testing.assert_array_equal(y, other_y)
    for name in x:
        np.testing.assert_array_equal(x[name], again[name])
        assert not np.array_equal(x[name], other[name])


def test_no_modality_suffices_and_all_together_nearly_do(source):
    (x, y), (test_x, test_y) = contents(source.train), contents(source.test)
    text = source.modalities["text"]
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3)).fit([text.decode(ids) for ids in x["text"]])

    def spectra(sounds):
        power = np.log(np.abs(np.fft.rfft(sounds * np.hanning(2000)))[:, 150:400] ** 2 + 1e-6)
        return power - power.mean()

    features = {
        "image": (lambda x: x["image"].reshape(len(x["image"]), -1), 0.3),
        "audio": (lambda x: spectra(x["audio"]), 0.01),
        "text": (lambda x: grams.transform([text.decode(ids) for ids in x["text"]]), 10),
    }
    scores = {}
    for name, (extract, strength) in features.items():
        model = LogisticRegression(max_iter=300, C=strength).fit(extract(x), y)
        scores[name] = model.predict_log_proba(extract(test_x))
        assert 0.65 < np.mean(scores[name].argmax(axis=1) == test_y) < 0.95, name
    assert np.mean(sum(scores.values()).argmax(axis=1) == test_y) > 0.97
