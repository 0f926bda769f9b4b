"""How far a file may be from the Keras student before the export fails."""

import math
from collections.abc import Mapping
from numbers import Real

from keras_kd.export.parity import Tally
from keras_kd.export.tflite import INTEGERS, QUANTIZATIONS

LEAST_AGREEMENT = {"float16": 0.95, "dynamic": 0.8, "int8": 0.8, "int16x8": 0.8}


def checked_tolerances(tolerances: Mapping[str, float] | None) -> dict[str, float]:
    """Return the least agreement with Keras by form: what is given, and `LEAST_AGREEMENT` for the others.

    Raises:
        ValueError: if a form is unknown, or a number is no share.

    Example:

    >>> checked_tolerances({"int8": 0.99})["int8"], checked_tolerances(None)["int8"]
    (0.99, 0.8)
    """
    given = {} if tolerances is None else tolerances
    if not isinstance(given, Mapping) or not all(
        form in QUANTIZATIONS and isinstance(least, Real) and not isinstance(least, bool) and 0 <= least <= 1
        for form, least in given.items()
    ):
        raise ValueError(
            "`export_student`: `tolerances` must map forms to the least share of examples on which a file agrees with "
            f"Keras, from 0 to 1, as in {{'int8': 0.99}}; the forms are {', '.join(map(repr, QUANTIZATIONS))}. "
            f"Received: tolerances={tolerances!r}."
        )
    return {**LEAST_AGREEMENT, **{form: float(least) for form, least in given.items()}}


def require_parity(form: str, tally: Tally, tolerances: Mapping[str, float]) -> None:
    """Check one file.

    Args:
        form: of the file.
        tally: what was counted.
        tolerances: least agreement by form. Where no output has classes, one minus that is the greatest difference, as
            a share of the range of the output.

    Raises:
        RuntimeError: if the file falls short; NaN and infinity always do.
    """
    for name, difference in tally.differences.items():
        allowed = tally.tolerance(name) if form == "float32" else math.inf
        if not difference <= allowed or math.isinf(difference):
            raise RuntimeError(
                f"`export_student`: output {name!r} of the {form} TFLite file must be within {allowed:.3g} of Keras's. "
                f"Received: a difference of {difference:.3g} over {tally.examples} examples. No file was written; "
                "please report the layers of this student as a fault."
            )
    least = tolerances.get(form, 0.0)
    if tally.agreement is not None:
        if tally.agreement < least:
            raise RuntimeError(
                f"`export_student`: the {form} file must name the class that Keras names on at least {least:.2%} of "
                f"the examples. Received: {tally.agreement:.2%} of {tally.examples} examples; no file was written. "
                + _remedy(form, tally.agreement)
            )
        return
    for name, difference in tally.differences.items():
        low, high = tally.ranges[name]
        share = difference / (high - low) if high > low else math.inf
        if least > 0 and share > 1 - least and difference > tally.tolerance(name):
            raise RuntimeError(
                f"`export_student`: output {name!r} of the {form} file must be within {1 - least:.2%} of that output's "
                f"range of Keras's. Received: a difference of {share:.2%} of the range over {tally.examples} examples; "
                "no file was written. " + _remedy(form, 1 - share)
            )


def _remedy(form: str, reached: float) -> str:
    allowing = max(0.0, math.floor(100 * reached) / 100)
    allow = f"allow it with `tolerances={{{form!r}: {allowing:g}}}`."
    if form in ("float32", "float16"):
        return f"Leave the form out, or {allow}"
    more = "give more representative data, " if form in INTEGERS else ""
    return f"Train with `keras_kd.quantization.fake_quantize`, {more}or {allow}"
