"""Colours that can be told from what lies behind them, in light and in dark, computed from the style sheet."""

import re
from importlib.resources import files

import pytest

STYLE = files("keras_kd.page").joinpath("style.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
SCHEMES = {"light": LIGHT, "dark": {**LIGHT, **DARK}}


def luminance(color):
    """Relative luminance, as WCAG 2.2 defines it."""
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_known_pairs():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", ["ink", "quiet", "accent"])
@pytest.mark.parametrize("behind", ["paper", "panel"])
def test_text_and_marks_stand_out(scheme, text, behind):
    colors = SCHEMES[scheme]
    assert contrast(colors[text], colors[behind]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_paper_is_light_or_dark(scheme):
    assert (luminance(SCHEMES[scheme]["paper"]) > 0.5) == (scheme == "light")


def test_colours_have_no_other_source():
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(|url\(|@import|@font-face", rules) == []
    used = set(re.findall(r"var\(--(\w+)\)", rules)) - {"share"}
    assert used == set(LIGHT) == set(DARK)
