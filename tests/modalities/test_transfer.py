"""The gain of distillation over the student alone, and how sure it is."""

import json
import math
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_kd.modalities.transfer import t_quantile, transfer_report

SEEDS = (3, 5, 8, 13)
SCORES = {
    None: [0.80, 0.82, 0.79, 0.81],
    "image": [0.85, 0.88, 0.83, 0.87],
    "text": [0.81, 0.80, 0.80, 0.82],
    ("image", "audio"): [0.90, 0.91, 0.90, 0.92],
    "audio": [0.70, 0.73, 0.70, 0.71],
}


def trained(scores=None, asked=None):
    """Stands for training: looks the accuracy up, and notes what it was asked for."""
    scores = SCORES if scores is None else scores

    def train(teacher, seed):
        if asked is not None:
            asked.append((teacher, seed))
        return scores[teacher][SEEDS.index(seed)]

    return train


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transfer_report(*args, **kwargs)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 29, 30, 101, 1000])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.75, 0.9, 0.95, 0.975, 0.995, 0.9995, 0.99999])
def test_quantiles_are_students(freedom, probability):
    np.testing.assert_allclose(
        t_quantile(probability, freedom), stats.t.ppf(probability, freedom), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_intervals_are_those_of_a_paired_t_test(confidence):
    report = quietly(trained(), list(SCORES)[1:], SEEDS, confidence=confidence)
    assert [one.teacher for one in report.transfers] == ["image", "text", "image+audio", "audio"]
    for one, (teacher, accuracies) in zip(report.transfers, list(SCORES.items())[1:], strict=True):
        paired = stats.ttest_rel(accuracies, SCORES[None])
        interval = paired.confidence_interval(confidence)
        np.testing.assert_allclose([one.low, one.high], [interval.low, interval.high], rtol=1e-8)
        np.testing.assert_allclose(one.gain, np.mean(accuracies) - np.mean(SCORES[None]))
        assert one.accuracies == tuple(SCORES[teacher])
        expected = "no evidence" if paired.pvalue > 1 - confidence else "helps" if one.gain > 0 else "negative transfer"
        assert one.verdict == expected


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    st.lists(st.tuples(*2 * [st.integers(0, 1000)]), min_size=2, max_size=12),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_the_verdict_is_that_of_the_test_at_any_scores(runs, confidence):
    alone, taught = np.array(runs).T / 1000
    if np.ptp(taught - alone) < 1e-9:
        return
    report = quietly(
        lambda teacher, seed: (alone if teacher is None else taught)[seed],
        ["x"],
        range(len(runs)),
        confidence=confidence,
    )
    (one,) = report.transfers
    p = stats.ttest_rel(taught, alone).pvalue
    if not math.isclose(p, 1 - confidence, rel_tol=1e-6):
        assert (one.verdict == "no evidence") == (p > 1 - confidence)


def test_an_interval_of_95_percent_holds_the_gain_in_95_of_100_reports():
    rng, held = np.random.default_rng(0), 0
    for noise in rng.normal(size=(2000, 2, 4)):

        def train(teacher, seed, noise=noise):
            return noise[int(teacher is None), SEEDS.index(seed)] + 0.3 * (teacher is not None)

        (one,) = quietly(train, ["x"], SEEDS).transfers
        held += one.low <= 0.3 <= one.high
    assert 0.935 < held / 2000 < 0.965  # three standard deviations of a share of 95 %


def test_each_run_is_asked_for_once_the_student_alone_first():
    asked = []
    quietly(trained(asked=asked), ["image", ("image", "audio")], SEEDS)
    teachers = [None, "image", ("image", "audio")]
    assert asked == [(teacher, seed) for teacher in teachers for seed in SEEDS]


def test_negative_transfer_is_warned_of_and_nothing_else_is():
    text = (
        "`transfer_report`: negative transfer from audio: the student is worse with this teacher than alone, by "
        "0.0950 (95 % interval of the gain [-0.1042, -0.0858]). Leave the teacher out, or give it less weight."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$") as caught:
        transfer_report(trained(), list(SCORES)[1:], SEEDS)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_the_report_is_a_table():
    assert str(quietly(trained(), list(SCORES)[1:], SEEDS)).splitlines() == [
        "teacher      accuracy     gain       95 % interval  verdict",
        "none           0.8050",
        "image          0.8575  +0.0525  [+0.0373, +0.0677]  helps",
        "text           0.8075  +0.0025  [-0.0214, +0.0264]  no evidence",
        "image+audio    0.9075  +0.1025  [+0.0873, +0.1177]  helps",
        "audio          0.7100  -0.0950  [-0.1042, -0.0858]  WARNING: negative transfer",
        "gains are paired by seed; 4 seeds",
    ]


def test_the_report_goes_into_json_and_back():
    report = quietly(trained(), ["image"], np.array(SEEDS))
    values = json.loads(json.dumps(report.to_dict()))
    assert (values["seeds"], values["confidence"], values["alone"]) == (list(SEEDS), 0.95, SCORES[None])
    (image,) = values["transfers"]
    assert image["accuracies"] == SCORES["image"]
    assert (image["teacher"], image["verdict"]) == ("image", "helps")
    np.testing.assert_allclose(image["gains"], [0.05, 0.06, 0.04, 0.06])
    assert (image["low"], image["high"]) == (report.transfers[0].low, report.transfers[0].high)


def test_a_set_of_modalities_is_named_in_order():
    report = quietly(lambda teacher, seed: float(seed), [frozenset({"text", "audio", "image"})], [0, 1])
    assert report.transfers[0].teacher == "audio+image+text"


MODALITIES = "`transfer_report`: `modalities` must be names, or tuples of names, as in ['image', ('image', 'audio')]. "
BAD_SEEDS = (
    "`transfer_report`: `seeds` must be two different integers or more. Received: {}. From one run alone nothing "
)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("train", ["a"]),
            "`transfer_report`: `train` must be a function (teacher, seed) -> accuracy. Received: 'train'.",
        ),
        ((trained(), "image"), MODALITIES + "Received: 'image'."),
        ((trained(), []), MODALITIES + "Received: []."),
        ((trained(), ["image", 3]), MODALITIES + "Received: ['image', 3]."),
        ((trained(), [()]), MODALITIES + "Received: [()]."),
        ((trained(), None), MODALITIES + "Received: None."),
        ((trained(), ["image"], [3]), BAD_SEEDS.format("[3]") + "can be told from chance."),
        ((trained(), ["image"], [3, 3]), BAD_SEEDS.format("[3, 3]") + "can be told from chance."),
        ((trained(), ["image"], [3, 0.5]), BAD_SEEDS.format("[3, 0.5]") + "can be told from chance."),
        ((trained(), ["image"], 5), BAD_SEEDS.format("[]") + "can be told from chance."),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        transfer_report(*arguments)


@pytest.mark.parametrize("confidence", [0.0, 1, -1.0, 95, float("nan"), True, "0.9"])
def test_confidence_out_of_range_is_refused(confidence):
    text = f"`transfer_report`: `confidence` must be in (0, 1). Received: confidence={confidence!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        transfer_report(trained(), ["image"], SEEDS, confidence=confidence)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "good", [0.5, 0.6]])
def test_a_score_that_is_no_number_is_refused_with_its_run(score):
    scores = {**SCORES, "image": [0.8, score, 0.8, 0.8]}
    text = f"`transfer_report`: `train('image', 5)` must return a finite number. Received: {score!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        transfer_report(trained(scores), ["image"], SEEDS)
