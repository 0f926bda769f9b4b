import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from keras_kd.cache import rows as rows_module
from keras_kd.cache.codecs import Dense, Sampled, TopK, codec_of

few = settings(deadline=None, max_examples=40, derandomize=True)
CODECS = [
    *(Dense(dtype) for dtype in ("float32", "float16", "int8")),
    *(TopK(3, 2.0, dtype) for dtype in ("float16", "float32")),
    Sampled(3, 2.0),
]


def unused():
    return np.random.default_rng(0)


def logits_of(*shape, scale=4.0, seed=0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype("float32")


def round_trip(codec, logits):
    return codec.decode(codec.encode(logits, unused()))


def log_of_tail(row, ids, temperature):
    """`log(p_rest / p_0)`, term by term."""
    rest = [row[i] for i in range(len(row)) if i not in ids]
    top = max(rest)
    return (top - row[ids[0]]) / temperature + math.log(math.fsum(math.exp((z - top) / temperature) for z in rest))


def outcomes_of(row, k, temperature):
    """Ids, and log ratios to the greatest of the others and of the rest, by sorting all."""
    row = [float(z) for z in row]
    ids = sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]
    return ids, [(row[i] - row[ids[0]]) / temperature for i in ids[1:]] + [log_of_tail(row, ids, temperature)]


def probabilities(ratios):
    odds = [1.0, *(math.exp(ratio) for ratio in ratios)]
    return [odd / math.fsum(odds) for odd in odds]


def test_codec_of_makes_what_was_asked_for():
    assert codec_of() == Dense("float16")
    assert codec_of("int8") == Dense("int8")
    assert codec_of(top_k=5) == TopK(5, 4.0, "float16")
    assert codec_of("float32", top_k=5, temperature=2) == TopK(5, 2.0, "float32")
    assert codec_of(samples=6, temperature=3) == Sampled(6, 3.0)
    assert [(codec.kind, codec.temperature) for codec in CODECS[2:]] == [
        ("dense", None),
        ("top_k", 2.0),
        ("top_k", 2.0),
        ("sampled", 2.0),
    ]


ERRORS = [
    ({"dtype": "float64"}, "`dtype` must be one of float32, float16, int8. Received: dtype='float64'."),
    ({"top_k": 0}, "`top_k` must be an integer >= 1, or None. Received: top_k=0."),
    ({"top_k": True}, "`top_k` must be an integer >= 1, or None. Received: top_k=True."),
    ({"samples": 1.5}, "`samples` must be an integer >= 1, or None. Received: samples=1.5."),
    ({"temperature": 0}, "`temperature` must be > 0. Received: temperature=0."),
    ({"temperature": math.nan}, "`temperature` must be > 0. Received: temperature=nan."),
    ({"temperature": "4"}, "`temperature` must be > 0. Received: temperature='4'."),
    ({"top_k": 4, "samples": 8}, "one of `top_k` and `samples` must be None. Received: top_k=4, samples=8."),
    (
        {"top_k": 4, "dtype": "int8"},
        "with `top_k`, `dtype` must be 'float16' or 'float32'. Received: dtype='int8', top_k=4. "
        "The default, 'float16', takes 4 bytes per class.",
    ),
    (
        {"samples": 4, "dtype": "int8"},
        "with `samples`, only classes are stored, which have no dtype. Received: dtype='int8', samples=4. "
        "Leave out `dtype`.",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), ERRORS)
def test_arguments_that_make_no_codec(arguments, text):
    with pytest.raises(ValueError, match=f"^{re.escape('`cache_teacher`: ' + text)}$"):
        codec_of(**arguments)


REFUSED = [
    (
        lambda: TopK(10, 1.0).encode(logits_of(2, 10), unused()),
        "`top_k` must be less than the number of classes, 10. Received: top_k=10. To store them all: top_k=None.",
    ),
    (
        lambda: TopK(2, 1.0).fields((2**24 + 1,)),
        "`top_k` in float16 is for up to 16777216 classes. Received: 16777217 classes. Give dtype='float32'.",
    ),
    (
        lambda: Dense("float16").encode(np.float32([[1.0, -7e4]]), unused()),
        "logits stored as float16 must be within ±65504. Received: a magnitude of 70000. Give dtype='float32'.",
    ),
]
REFUSED += [
    (
        lambda codec=codec, bad=bad: codec.encode(np.float32([[0.0, bad, 1.0, 2.0]]), unused()),
        "the teacher's logits must be finite. Received: NaN or infinity. Look at its inputs, or run it in float32.",
    )
    for codec in CODECS
    for bad in (np.nan, -np.inf)
]


@pytest.mark.parametrize(("encode", "text"), REFUSED)
def test_logits_that_cannot_be_stored(encode, text):
    with pytest.raises(ValueError, match=f"^{re.escape('`cache_teacher`: ' + text)}$"):
        encode()


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (300,)])
@pytest.mark.parametrize("n", [0, 4])
def test_encoded_arrays_are_the_fields(codec, shape, n):
    encoded = codec.encode(logits_of(n, *shape), unused())
    found = [(name, array.dtype.str, array.shape) for name, array in encoded.items()]
    assert found == [(name, dtype, (n, *size)) for name, dtype, size in codec.fields(shape)]
    assert codec.bytes_of(shape) * n == sum(array.nbytes for array in encoded.values())


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_leading_dimensions_are_rows(codec):
    logits = logits_of(4, 2, 3, 7)
    flat, wide = round_trip(codec, logits.reshape(24, 7)), round_trip(codec, logits)
    for name, array in flat.items():
        np.testing.assert_array_equal(wide[name], array.reshape(4, 2, 3, -1), err_msg=name)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_fields_read_from_rows_of_bytes_say_the_same(codec):
    logits = logits_of(6, 7)
    encoded = codec.encode(logits, unused())
    stored = np.empty(6, [("seed", "<i4"), *codec.fields((7,))])
    for name, array in encoded.items():
        stored[name] = array
    read = np.frombuffer(stored.tobytes(), stored.dtype)
    expected = codec.decode(encoded)
    for name, array in codec.decode({name: read[name] for name in encoded}).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dense_floats_are_rounded_as_numpy_rounds(dtype):
    logits = np.concatenate(
        [logits_of(20, 9, scale=3e3), np.float32([[0.0, -0.0, 1e-7, 65504, -65504, 1, 2, 3, 1e-9]])]
    )
    found = round_trip(Dense(dtype), logits)["logits"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, logits.astype(dtype).astype("float32"))


@few
@given(arrays("float32", (3, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)))
def test_int8_is_off_by_half_a_step_at_most(logits):
    encoded = Dense("int8").encode(logits, unused())
    found = Dense("int8").decode(encoded)["logits"]
    # Beside half a step, the rounding to float32 of the quotient and of the product: 127 steps * 2^-24 each.
    steps = encoded["scale"].astype("float64")[:, None]
    assert np.all(np.abs(found.astype("float64") - logits) <= steps * (0.5 + 2 * 127 * 2.0**-24) + 2.0**-126)
    assert np.all(found[np.all(logits == 0, axis=-1)] == 0)


def test_int8_by_hand():
    encoded = Dense("int8").encode(np.float32([[-254.0, 3.1, 100.9], [0, 0, 0], [0.0, 1.0, 12.7]]), unused())
    np.testing.assert_array_equal(encoded["logits"], [[-127, 2, 50], [0, 0, 0], [0, 10, 127]])
    np.testing.assert_allclose(encoded["scale"], [2.0, 0.0, 0.1], rtol=1e-6)


def test_words_by_hand():
    logits = np.log(np.float32([[0.125, 0.25, 0.5, 0.125]]))
    # ln 0.5 in float16 is -(1 + 396 / 1024) / 2: sign 1, exponent 14, mantissa 396.
    half = 1 << 15 | 14 << 10 | 396
    np.testing.assert_array_equal(
        TopK(2, 1.0).encode(logits, unused())["words_16"], np.uint32([[half << 16 | 2, half << 16 | 1]])
    )
    wide = np.full((1, 65537), -1e4, "float32")
    wide[:, -4:] = logits
    words = TopK(2, 1.0).encode(wide, unused())["words_17"]
    np.testing.assert_array_equal(words, np.uint32([[half // 2 << 17 | 65535, half // 2 << 17 | 65534]]))


@few
@given(
    arrays("float32", (2, 9), elements=st.floats(-50, 50, width=32)),
    st.integers(1, 8),
    st.floats(0.5, 20),
    st.sampled_from(["float16", "float32"]),
)
def test_top_k_says_the_greatest_and_the_rest(logits, k, temperature, dtype):
    said = round_trip(TopK(k, temperature, dtype), logits)
    for row, classes, stored in zip(logits, said["classes"], said["logits"], strict=True):
        ids, ratios = outcomes_of(row, k, temperature)
        assert list(classes) == ids
        expected = probabilities([float(np.dtype(dtype).type(ratio)) for ratio in ratios])
        np.testing.assert_allclose(softmax(stored.astype("float64") / temperature), expected, rtol=1e-4, atol=1e-30)
        # Logarithms of probabilities as they are, without a softmax, add up to one.
        assert math.fsum(np.exp(stored.astype("float64") / temperature)) == pytest.approx(1, abs=1e-6)


@few
@given(arrays("float32", (3, 7), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0])), st.integers(1, 6))
def test_of_equal_classes_the_lower_id_comes_first(logits, k):
    found = round_trip(TopK(k, 1.0), logits)["classes"]
    np.testing.assert_array_equal(found, [outcomes_of(row, k, 1.0)[0] for row in logits])


def test_the_rest_is_the_sum_of_the_rest_where_one_less_the_sum_is_zero():
    logits = np.float32([[0.0, -100.0, -101.0, -102.0]])
    said = round_trip(TopK(1, 1.0, "float32"), logits)["logits"]
    rest = np.log(np.exp(logits[0, 1:].astype("float64")).sum())
    np.testing.assert_allclose(said, [[0.0, rest]], rtol=1e-6)
    assert 1 - softmax(logits.astype("float64"))[0, 0] == 0


@pytest.mark.parametrize("classes", [3, 65537, 2**20])
def test_what_is_too_improbable_for_float16_stays_a_number(classes):
    logits = np.full((1, classes), -1e6, "float32")
    logits[0, -1], logits[0, 1] = 0.0, -2e6
    lost = max(0, (classes - 1).bit_length() - 16)
    limit = 2.0**16 - 2.0 ** (5 + lost)  # the greatest float16 without its lowest bits
    np.testing.assert_array_equal(round_trip(TopK(2, 1.0), logits)["logits"], np.float32([[0.0, -limit, -limit]]))


@pytest.mark.parametrize("classes", [65536, 65537, 2**19 + 1, 2**24])
def test_ids_at_their_limits_and_numbers_rounded_to_the_bits_left(classes):
    logits = np.full((1, classes), -900.0, "float32")
    chosen = {classes - 1: 0.0, 0: -0.7003, classes - 2: -3.0517, classes // 2: -11.7}
    for place, value in chosen.items():
        logits[0, place] = value
    said = round_trip(TopK(4, 1.0), logits)
    np.testing.assert_array_equal(said["classes"][0], list(chosen))
    bits = 11 - max(0, (classes - 1).bit_length() - 16)
    ratios = said["logits"][0, 1:4].astype("float64") - said["logits"][0, 0]
    for found, value in zip(ratios, [*chosen.values()][1:], strict=True):
        mantissa, exponent = math.frexp(float(np.float16(value)))
        assert found == pytest.approx(math.ldexp(round(mantissa * 2**bits), exponent - bits), rel=1e-6)


@pytest.mark.parametrize(("classes", "drawn"), [(10, 1), (1000, 2), (65536, 2), (65537, 4), (10**6, 4)])
def test_bytes_of_an_example(classes, drawn):
    assert codec_of().bytes_of((classes,)) == 2 * classes
    assert codec_of("int8").bytes_of((classes,)) == classes + 4
    assert codec_of(top_k=8).bytes_of((classes,)) == 4 * 8
    assert codec_of("float32", top_k=8).bytes_of((7, classes)) == 7 * 8 * 8
    assert codec_of(samples=8).bytes_of((7, classes)) == 7 * 8 * drawn


@pytest.mark.parametrize(("classes", "dtype"), [(256, "|u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")])
def test_a_drawn_id_takes_the_fewest_bytes_and_survives(classes, dtype):
    logits = np.full((1, classes), -500.0, "float32")
    logits[0, -1] = 500.0
    encoded = Sampled(2, 1.0).encode(logits, unused())
    assert encoded["classes"].dtype.str == dtype
    np.testing.assert_array_equal(Sampled(2, 1.0).decode(encoded)["classes"], [[classes - 1] * 2])


@pytest.mark.parametrize("classes", [1, 2, 5, 8, 33])
def test_draws_invert_the_distribution(classes):
    logits, numbers = logits_of(6, classes), np.random.default_rng(1).random((6, 40))
    generator = SimpleNamespace(random=lambda size: numbers.reshape(size))
    found = Sampled(40, 2.0).encode(logits, generator)["classes"]
    for row, drawn, ids in zip(logits, numbers, found, strict=True):
        cumulated = np.cumsum(softmax(row.astype("float64") / 2))
        np.testing.assert_array_equal(ids, np.searchsorted(cumulated, (1 - drawn) * cumulated[-1]))


def test_a_class_of_probability_zero_is_never_drawn():
    logits = np.float32([[-9e3, 0.0, -9e3, 0.0, -9e3]])
    numbers = np.array([[0.0, 2.0**-53, 0.5, 0.5 - 2.0**-53, 1 - 2.0**-53]])
    found = Sampled(5, 1.0).encode(logits, SimpleNamespace(random=lambda size: numbers))["classes"]
    np.testing.assert_array_equal(found, [[3, 3, 1, 3, 1]])


@pytest.mark.parametrize("codec", CODECS[3:], ids=str)
def test_blocks_do_not_change_what_is_stored(codec, monkeypatch):
    logits = logits_of(11, 2, 7)
    whole = codec.encode(logits, np.random.default_rng(3))
    for block in (1, 15):
        monkeypatch.setattr(rows_module, "BLOCK", block)
        for name, array in codec.encode(logits, np.random.default_rng(3)).items():
            np.testing.assert_array_equal(array, whole[name], err_msg=f"{block} {name}")
