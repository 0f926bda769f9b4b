"""Augmentations named on the command line: what can be written, and that nothing else is run."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_kd import data
from keras_kd.cli.augmentations import FACTORIES, augmentation_of

WHOLE, SHARE = st.integers(0, 9), st.floats(0, 1)
PLAIN = st.one_of(
    st.builds(data.random_flip),
    st.builds(data.random_shift, WHOLE),
    st.builds(data.random_cutout, st.integers(1, 9)),
    st.builds(data.random_rotation, st.floats(0, 180)),
    st.builds(
        lambda low, high: data.random_crop(scale=(min(low, high), 1.0)), st.floats(0.1, 1), SHARE.map(lambda x: x + 0.1)
    ),
    st.builds(lambda share: data.spec_augment(max_share=share), SHARE),
)
MIXING = st.one_of(
    st.builds(data.mixup, st.floats(0.1, 9), st.one_of(st.none(), st.integers(2, 99))),
    st.builds(lambda side: data.cutmix(image_size=(side, side)), st.integers(1, 99)),
)
COMPOSED = st.builds(
    lambda plain, last: data.compose(*plain, *last), st.lists(PLAIN, min_size=1), st.lists(MIXING, max_size=1)
)


@given(st.one_of(PLAIN, MIXING, COMPOSED))
def test_what_stands_in_a_manifest_reads_back_as_the_same(augmentation):
    assert augmentation_of(repr(augmentation)) == augmentation


def test_every_augmentation_of_the_package_can_be_named():
    made = {"compose", "cutmix", "mixup", "spec_augment"} | {
        name for name in data.__all__ if name.startswith("random_")
    }
    assert set(FACTORIES) == made


@pytest.mark.parametrize(
    "text",
    [
        "random_shift(2), random_flip()",
        "(random_shift(2), random_flip(),)",
        " compose(random_shift(max_pixels=2), random_flip()) ",
    ],
)
def test_several_are_composed(text):
    assert augmentation_of(text) == data.compose(data.random_shift(2), data.random_flip())


EXPECTED = f"expected calls of {', '.join(sorted(FACTORIES))}, as in random_shift(2), random_flip()."
REFUSED = {
    "": EXPECTED,
    "random_shift(": EXPECTED,
    "shift(2)": f"{EXPECTED} Received: shift(2).",
    "random_flip": f"{EXPECTED} Received: random_flip.",
    "data.random_flip()": f"{EXPECTED} Received: data.random_flip().",
    "__import__('os').abort()": f"{EXPECTED} Received: __import__('os').abort().",
    "compose(random_flip(), open('x'))": f"{EXPECTED} Received: open('x').",
    "random_shift(exit())": "expected plain values as arguments. Received: exit().",
    "random_shift(max_pixels=exit())": "expected plain values as arguments. Received: exit().",
    "random_shift(*exit())": "expected plain values as arguments. Received: *exit().",
    "random_shift(-1)": "`random_shift`: `max_pixels` must be 0 or more. Received: max_pixels=-1.",
    "random_shift(2.5)": "`random_shift`: `max_pixels` must be an integer. Received: max_pixels=2.5.",
    "random_shift()": "random_shift() missing 1 required positional argument: 'max_pixels'",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_anything_else_is_refused(text, reason):
    told = re.escape(f"cannot read the augmentation {text!r}: {reason}")
    with pytest.raises(ValueError, match=f"^{told}$"):
        augmentation_of(text)
