import numpy as np
import pytest
from scipy import stats

from keras_kd.data import random_gain, random_noise, random_time_shift, spec_augment
from tests.data.drawn import check_equally_often, check_text, check_uniform, views

RNG = np.random.default_rng(2)
WAVEFORM = RNG.normal(size=4000).astype("float32")


def test_gain_is_one_factor_uniform_in_decibels():
    factors = []
    for view in views(random_gain(max_decibels=12), WAVEFORM, 400):
        factors.append(view[0] / WAVEFORM[0])
        np.testing.assert_allclose(view, factors[-1] * WAVEFORM, rtol=1e-5)
    check_uniform(20 * np.log10(factors), -12, 12)


def test_integers_stay_within_their_range():
    x = np.array([20_000, -20_000, 100], "int16")
    drawn = np.array(views(random_gain(max_decibels=20), x, 100))
    assert (drawn[:, 0].max(), drawn[:, 1].min()) == (32_767, -32_768)
    loud = drawn[drawn[:, 2] > 164]
    np.testing.assert_array_equal(loud[:, 0], np.full(len(loud), 32_767))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_noise_has_the_ratio_asked_for_and_a_bell_shape(scale):
    x = (WAVEFORM * scale).astype("float32")
    ratios = []
    for view in views(random_noise(min_decibels=5, max_decibels=25), x, 200):
        noise = view.astype("float64") - x
        ratios.append(10 * np.log10(np.mean(x.astype("float64") ** 2) / np.mean(noise**2)))
        assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(len(noise))
    check_uniform(ratios, 5, 25)
    assert stats.kstest(noise / noise.std(), "norm").pvalue > 0.001


def test_one_ratio_is_met_as_closely_as_so_many_samples_allow():
    view = random_noise(min_decibels=20, max_decibels=20)(WAVEFORM, (0, 1)).numpy()
    power = np.mean((view.astype("float64") - WAVEFORM) ** 2) / np.mean(WAVEFORM.astype("float64") ** 2)
    assert abs(power / 0.01 - 1) < 4 * np.sqrt(2 / len(WAVEFORM))  # 4 standard errors of a variance


def test_silence_stays_silent():
    np.testing.assert_array_equal(random_noise()(np.zeros(50, "float32"), (0, 1)), np.zeros(50))


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_time_shift_is_zero_padded_and_all_occur_equally(shape):
    x = np.array([1, 2, 3, 4, 5])
    expected = [[3, 4, 5, 0, 0], [2, 3, 4, 5, 0], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4], [0, 0, 1, 2, 3]]
    drawn = views(random_time_shift(2), x.reshape(shape), 500)
    check_equally_often([view.ravel().tolist() for view in drawn], expected)


def stretch(masked):
    """Start and width of the one stretch that is masked; the start is None where the width is 0."""
    places = np.flatnonzero(masked)
    if len(places) == 0:
        return None, 0
    assert len(places) == places[-1] - places[0] + 1
    return int(places[0]), len(places)


@pytest.mark.parametrize("axis", [0, 1])
def test_one_mask_is_as_wide_and_begins_as_the_docstring_says(axis):
    x = np.ones((7, 7), "float32")
    widths = {"frame_masks": 1, "band_masks": 0} if axis == 0 else {"frame_masks": 0, "band_masks": 1}
    drawn = views(spec_augment(max_frames=3, max_bands=3, **widths), x, 1200)
    stretches = []
    for view in drawn:
        masked = (view == 0).all(axis=1 - axis)
        np.testing.assert_array_equal(view, np.where(np.expand_dims(masked, 1 - axis), 0, x))
        stretches.append(stretch(masked))
    check_equally_often([width for _, width in stretches], range(4))
    for width in (1, 2, 3):
        check_equally_often([start for start, wide in stretches if wide == width], range(7 - width + 1))


def sampled_cover(size, widest, masks, count=4000):
    """How many of `size` places are under so many masks, drawn by another generator."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        covered = set()
        for width in rng.integers(0, widest + 1, masks):
            start = rng.integers(0, size - width + 1)
            covered.update(range(start, start + width))
        yield len(covered)


def test_masks_of_both_axes_cover_all_channels_and_nothing_else():
    x = RNG.uniform(1, 2, (30, 20, 2)).astype("float32")
    counts = []
    for view in views(spec_augment(max_frames=6, max_bands=4, frame_masks=2, band_masks=3), x, 400):
        frames, bands = (view == 0).all(axis=(1, 2)), (view == 0).all(axis=(0, 2))
        expected = x.copy()
        expected[frames] = 0
        expected[:, bands] = 0
        np.testing.assert_array_equal(view, expected)
        counts.append((frames.sum(), bands.sum()))
    for drawn, sampled in zip(np.transpose(counts), (sampled_cover(30, 6, 2), sampled_cover(20, 4, 3)), strict=True):
        assert stats.ks_2samp(drawn, list(sampled)).pvalue > 0.001


def test_the_largest_share_limits_masks_in_time():
    augment = spec_augment(max_frames=100, max_bands=0, frame_masks=1, band_masks=1, max_share=0.25)
    widths = [int((view == 0).sum()) for view in views(augment, np.ones((14, 1), "float32"), 400)]
    check_equally_often(widths, range(4))


def test_masks_wider_than_the_spectrogram_may_cover_it():
    widths = [int((view == 0).sum()) for view in views(spec_augment(50, 0, 1, 0), np.ones((4, 1), "float32"), 400)]
    check_equally_often(widths, range(5))


@pytest.mark.parametrize(
    ("made", "error", "text"),
    [
        (
            lambda: random_gain(-1),
            ValueError,
            "`random_gain`: `max_decibels` must be from 0 to 100. Received: max_decibels=-1.",
        ),
        (
            lambda: random_noise(max_decibels=float("inf")),
            ValueError,
            "`random_noise`: `max_decibels` must be from -100 to 100. Received: max_decibels=inf.",
        ),
        (
            lambda: random_noise(30, 10),
            ValueError,
            "`random_noise`: `min_decibels` must not be above `max_decibels`. "
            "Received: min_decibels=30, max_decibels=10.",
        ),
        (
            lambda: random_time_shift(-1),
            ValueError,
            "`random_time_shift`: `max_samples` must be 0 or more. Received: max_samples=-1.",
        ),
        (
            lambda: spec_augment(max_bands=2.0),
            TypeError,
            "`spec_augment`: `max_bands` must be an integer. Received: max_bands=2.0.",
        ),
        (
            lambda: spec_augment(max_share=20),
            ValueError,
            "`spec_augment`: `max_share` must be from 0 to 1. Received: max_share=20.",
        ),
    ],
)
def test_what_cannot_be_is_refused(made, error, text):
    check_text(error, made, text)
