"""How far a file may be from Keras, on both sides of the line; and that it costs the whole export."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.export import export_student
from keras_kd.export.parity import Tally
from keras_kd.export.tolerances import LEAST_AGREEMENT, checked_tolerances, require_parity


def tally_of(agreeing, count=100):
    """Two classes, the first of which Keras always names, and the file `agreeing` times."""
    tally, keras_says = Tally(), np.tile([[1.0, 0.0]], (count, 1))
    says = np.where(np.arange(count)[:, None] < agreeing, keras_says, 1 - keras_says)
    tally.add({"scores": keras_says}, {"scores": says}, None)
    return tally


def regression(difference):
    """An output between -5 and 15, off by `difference` once."""
    tally, keras_says = Tally(), np.linspace(-5.0, 15.0, 50)[:, None]
    says = keras_says.copy()
    says[7] += difference
    tally.add({"level": keras_says}, {"level": says}, None)
    return tally


@pytest.mark.parametrize(("form", "least"), [("float16", 95), ("dynamic", 80), ("int8", 80), ("int16x8", 80)])
def test_least_agreement_on_both_sides(form, least):
    require_parity(form, tally_of(least), checked_tolerances(None))
    with pytest.raises(RuntimeError) as refusal:
        require_parity(form, tally_of(least - 1), checked_tolerances(None))
    assert str(refusal.value).startswith(
        f"`export_student`: the {form} file must name the class that Keras names on at least {least}.00% of the "
        f"examples. Received: {least - 1}.00% of 100 examples; no file was written. "
    )
    allowing = re.search(r"`tolerances=(\{.*\})`", str(refusal.value))[1]
    assert allowing == f"{{'{form}': {(least - 1) / 100:g}}}"
    require_parity(form, tally_of(least - 1), checked_tolerances({form: (least - 1) / 100}))


def test_remedies_are_those_of_the_form():
    def remedy(form):
        with pytest.raises(RuntimeError) as refusal:
            require_parity(form, tally_of(0), checked_tolerances(None))
        return str(refusal.value).partition("no file was written. ")[2]

    assert remedy("int8") == (
        "Train with `keras_kd.quantization.fake_quantize`, give more representative data, or allow it with "
        "`tolerances={'int8': 0}`."
    )
    assert remedy("dynamic") == (
        "Train with `keras_kd.quantization.fake_quantize`, or allow it with `tolerances={'dynamic': 0}`."
    )
    assert remedy("float16") == "Leave the form out, or allow it with `tolerances={'float16': 0}`."


def test_where_there_are_no_classes_the_range_is_the_measure():
    least = checked_tolerances({"int8": 0.9})
    require_parity("int8", regression(1.99), least)  # 20 wide, a tenth of it is 2
    with pytest.raises(RuntimeError, match=r"'level' of the int8 file must be within 10.00% of that output's range"):
        require_parity("int8", regression(2.01), least)
    with pytest.raises(RuntimeError, match=r"Received: a difference of 10.50% of the range over 50 examples"):
        require_parity("int8", regression(2.1), least)
    require_parity("int8", regression(300.0), checked_tolerances({"int8": 0}))
    with pytest.raises(RuntimeError, match="of the int8 TFLite file must be within inf"):
        require_parity("int8", regression(np.nan), checked_tolerances({"int8": 0}))


def test_float32_may_be_given_a_least_agreement_beside_its_rule():
    close = Tally()
    close.add({"scores": np.array([[1.0, 1.0 + 1e-6]])}, {"scores": np.array([[1.0 + 1e-6, 1.0]])}, None)
    require_parity("float32", close, checked_tolerances(None))
    with pytest.raises(RuntimeError, match=r"the float32 file must name .* at least 50.00% .* 0.00% of 1 examples"):
        require_parity("float32", close, checked_tolerances({"float32": 0.5}))
    with pytest.raises(RuntimeError, match="of the float32 TFLite file must be within"):
        require_parity("float32", tally_of(99), checked_tolerances({"float32": 0.5}))


@pytest.mark.parametrize("tolerances", [{"int4": 0.5}, {"int8": 1.1}, {"int8": -0.1}, {"int8": None}, 0.5])
def test_bad_tolerances_are_refused_before_anything_is_written(tolerances, tmp_path):
    student = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    said = re.escape(f"Received: tolerances={tolerances!r}.")
    with pytest.raises(ValueError, match=r"`export_student`: `tolerances` must map forms to .* from 0 to 1.*" + said):
        export_student(student, tmp_path / "new", tolerances=tolerances)
    assert not (tmp_path / "new").exists()


def test_what_is_not_given_stays_as_it_is():
    assert checked_tolerances({"int8": 0.99}) == {**LEAST_AGREEMENT, "int8": 0.99}


def test_a_file_that_falls_short_costs_the_export_and_keeps_the_older_one(tmp_path):
    """A thousand times one input and a thousandth of the other: 8 bits hold the first alone."""
    student = keras.Sequential([keras.Input((2,), name="x"), layers.Dense(2, use_bias=False, name="out")])
    student.set_weights([np.array([[1.0, 1.0], [1.0, -1.0]])])
    x = np.random.default_rng(0).normal(size=(200, 2)) * [1e3, 1.0]
    arguments = {"formats": "tflite", "quantize": "int8", "representative_data": x, "evaluation_data": x}
    report = export_student(student, tmp_path, **arguments, tolerances={"int8": 0})
    found = report.files[0].agreement
    assert found < 0.8
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match=rf"at least 80.00% of the examples. Received: {found:.2%} of 200 examples"):
        export_student(student, tmp_path, **arguments)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
