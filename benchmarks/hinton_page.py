"""The page of `hinton_mnist`: what was published beside what was found."""

import functools
from collections.abc import Sequence

from matplotlib.figure import Figure
from records import Record
from rendering import Page, Table, error_bars, spread, values

from keras_kd.plots import figure

WIDTHS = (300, 30)
TEMPERATURES = (1.0, 2.5, 4.0, 8.0, 20.0)
NAMES = {"adam": "Adam", "sgd": "SGD with momentum 0.9"}
# Setting, figure of its records, what it is called, and the errors that were published.
ROWS = [
    ("teacher", "errors", "teacher, 2 × 1200, dropout, max-norm, jitter", 67),
    ("alone", "errors", "student alone, 2 × 800", 146),
    ("distilled", "errors", "the same student, distilled at T = 20", 74),
    ("no 3", "errors", "no 3 in the transfer set", 206),
    ("no 3", "errors on threes", "its errors on the 1,010 threes", 133),
    ("no 3", "errors after", "the same, bias of 3 corrected", 109),
    ("no 3", "errors on threes after", "its errors on the threes", 14),
    ("only 7 and 8", "errors", "only 7s and 8s in the transfer set", 4730),
    ("only 7 and 8", "errors after", "the same, biases of 7 and 8 corrected", 1320),
]


def page(records: Sequence[Record]) -> Page:
    """The table of the paper, the biases that were added, and the temperatures."""
    rows = []
    for setting, name, title, published in ROWS:
        found = values(records, setting, name)
        rows.append([title, f"{published:,}", spread(found, 1), _verdict(found, published)])
    trained = (
        (title, next(record.settings for record in records if record.setting.startswith(start)))
        for title, start in (
            ("teacher", "teacher"),
            ("student alone", "alone"),
            ("distilled", "distilled"),
            ("only 7 and 8", "only"),
            ("sweep", f"{WIDTHS[0]} units"),
        )
    )
    words = (
        "MNIST, errors on the 10,000 test images, mean and standard deviation over the seeds. Epochs, each time one of "
        f"warm-up, then a half cosine: {'; '.join(f'{title} {_trained(one)}' for title, one in trained)}. The taught "
        "students learn from the teacher's soft targets alone (alpha = 0). Biases are those of `kd.calibrate_bias` on "
        "the training images, by the shares of the classes; the paper chose its own on the test images. What mattered, "
        "found on validation images, stands in `benchmarks/hinton_mnist.py`."
    )
    shift = next(record.settings["shift"] for record in records if record.setting == "moved images")
    beyond = (
        "Not in the paper: without the blur the distilled student makes "
        f"{_errors(records, 'without blur')} errors; with it, on images that move by up to {shift} pixels, the same "
        f"for teacher and student, {_errors(records, 'moved images')}."
    )
    biases = (
        f"Added to the bias of 3: {_added(records, 'no 3', 0)} (published: 3.5). To those of 7 and 8: "
        f"{_added(records, 'only 7 and 8', 0)} and {_added(records, 'only 7 and 8', 1)} (published: -7.6)."
    )
    return Page(
        "Distilling the knowledge in a neural network, on MNIST",
        [
            words,
            Table(["setting", "published", "here", "met"], rows),
            beyond,
            biases,
            "## Temperature and width of the student",
            Table(
                ["units in each layer", *(f"T = {temperature:g}" for temperature in _temperatures(records))],
                [[f"2 × {units}", *_sweep(records, units)] for units in WIDTHS],
            ),
        ],
        functools.partial(picture, records),
    )


def _verdict(found: Sequence[float], published: int) -> str:
    return "yes" if sum(found) <= published * len(found) else "no"


def _trained(settings: dict) -> str:
    epochs, rate, optimizer, batch = (settings[name] for name in ("epochs", "rate", "optimizer", "batch"))
    blur = f", of images blurred by {settings['blur']:g} pixels" if "blur" in settings else ""
    units, pixels = settings.get("dropout"), settings.get("pixel_dropout")
    dropout = f" with dropout of {units:g} of the units and {pixels:g} of the pixels" if units else ""
    before = f"{_trained(settings['after'])}, then " if "after" in settings else ""
    return f"{before}{epochs} at {rate:g} by {NAMES[optimizer]} in batches of {batch}{dropout}{blur}"


def _errors(records: Sequence[Record], setting: str) -> str:
    return spread(values(records, setting, "errors"), 1)


def _added(records: Sequence[Record], setting: str, index: int) -> str:
    return spread([added[index] for added in values(records, setting, "added")], 1, sign="+")


def _temperatures(records: Sequence[Record]) -> list[float]:
    return [t for t in TEMPERATURES if values(records, _setting(WIDTHS[0], t), "errors")]


def _setting(units: int, temperature: float) -> str:
    return f"{units} units, T = {temperature:g}"


def _sweep(records: Sequence[Record], units: int) -> list[str]:
    return [_errors(records, _setting(units, t)) for t in _temperatures(records)]


def picture(records: Sequence[Record]) -> Figure:
    """Errors against the temperature, for the wide and the narrow student."""
    drawn = figure(9, 3.8)
    for axis, units in zip(drawn.subplots(1, 2), WIDTHS, strict=True):
        error_bars(axis, {t: values(records, _setting(units, t), "errors") for t in _temperatures(records)}, "")
        axis.set(xscale="log", xlabel="temperature", ylabel="test errors", title=f"2 × {units} units")
        axis.set_xticks(_temperatures(records), [f"{t:g}" for t in _temperatures(records)])
        axis.minorticks_off()
    return drawn
