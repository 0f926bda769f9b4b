import struct

import numpy as np
import pytest
from scipy import signal
from scipy.io import wavfile

from keras_kd.data.multimodal import Audio
from keras_kd.data.multimodal.files import read_audio
from keras_kd.data.multimodal.resampling import resample, samples_needed
from keras_kd.data.multimodal.wav import read_wav

RNG = np.random.default_rng(0)
# The tail that every format code in an extensible header has.
GUID = bytes.fromhex("000000001000800000aa00389b71")


def riff(form, data, *, size=None, before=b""):
    """A WAV file put together by hand."""
    chunks = before + b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def form(kind=1, channels=1, rate=8000, bits=16):
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("dtype", "silence", "full"),
    [("uint8", 128, 128), ("int16", 0, 2**15), ("int32", 0, 2**31), ("float32", 0, 1), ("float64", 0, 1)],
)
def test_sample_formats_that_scipy_writes(tmp_path, dtype, silence, full, channels):
    path = tmp_path / "a.wav"
    stored = (RNG.uniform(-1, 1, (1000, channels)) * full * 0.99 + silence).astype(dtype)
    wavfile.write(path, 11025, stored)
    samples, rate = read_wav(path)
    assert (rate, samples.dtype) == (11025, np.float32)
    np.testing.assert_allclose(samples, ((stored.astype("float64") - silence) / full).mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("extensible", [False, True])
def test_24_bits_by_hand(tmp_path, extensible):
    values = [0, 1, -1, 2**23 - 1, -(2**23), 1234567]
    data = b"".join(value.to_bytes(3, "little", signed=True) for value in values)
    header = form(bits=24)
    if extensible:
        header = form(kind=0xFFFE, bits=24) + struct.pack("<HHIH", 22, 24, 4, 1) + GUID
    path = tmp_path / "a.wav"
    path.write_bytes(riff(header, data, before=b"LIST" + struct.pack("<I", 3) + b"odd\0"))
    np.testing.assert_array_equal(read_wav(path)[0], np.array([value / 2**23 for value in values], "float32"))
    # SciPy puts 24 bits at the upper end of int32.
    np.testing.assert_array_equal(read_wav(path)[0], (wavfile.read(path)[1] / 2**31).astype("float32"))


def test_a_stream_of_unknown_length_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(form(), struct.pack("<3h", 16384, -16384, 8192) + b"\0", size=0xFFFFFFFF))
    assert read_wav(path)[0].tolist() == [0.5, -0.5, 0.25]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is not a WAV file"),
        (b"ID3\x04 an mp3, say", "it is not a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "it has no format or no samples"),
        (riff(form(), b"\0" * 8, size=100), "it is cut short"),
        (riff(form(), b""), "it holds no samples"),
        (riff(form(channels=0), b"\0" * 8), "it has 0 channels at 8000 Hz"),
        (riff(form(rate=0), b"\0" * 8), "it has 1 channels at 0 Hz"),
        (riff(form(kind=7, bits=8), b"\0" * 8), r"its sample format (code 7, 8 bits) is not PCM or float"),
        (riff(form(bits=12), b"\0" * 8), r"its sample format (code 1, 12 bits) is not PCM or float"),
        (riff(form(kind=3, bits=32), struct.pack("<f", np.nan)), "it holds samples that are not finite"),
    ],
)
def test_what_is_no_wav_says_why(tmp_path, content, text):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^its? ") as raised:
        read_wav(path)
    assert str(raised.value) == text


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 22050, 48000, 11025, 4000, 7999])
@pytest.mark.parametrize("length", [1, 37, 3000])
def test_resampling_is_that_of_scipy(rate, length):
    x = RNG.normal(size=length)
    expected = x if rate == 8000 else signal.resample_poly(x, 8000, rate)
    resampled = resample(x, rate, 8000)
    assert (resampled.dtype, resampled.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(resampled, expected, atol=2e-6)


def test_a_tone_keeps_its_pitch_and_one_above_the_new_nyquist_frequency_goes():
    time = np.arange(44100) / 44100
    kept = resample(np.sin(2 * np.pi * 1000 * time), 44100, 8000)
    np.testing.assert_allclose(kept[200:-200], np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)[200:-200], atol=2e-3)
    assert np.abs(resample(np.sin(2 * np.pi * 6000 * time), 44100, 8000))[200:-200].max() < 2e-3


@pytest.mark.parametrize("rate", [8000, 44100, 3000])
def test_what_lies_beyond_the_samples_needed_has_no_effect(rate):
    x = RNG.normal(size=4 * rate)
    needed = samples_needed(8000, rate, 8000)
    assert needed < len(x)
    np.testing.assert_array_equal(resample(x[:needed], rate, 8000)[:8000], resample(x, rate, 8000)[:8000])


def test_recordings_are_mixed_down_resampled_padded_and_cut(tmp_path):
    path = tmp_path / "a.wav"
    stereo = RNG.uniform(-0.5, 0.5, (2000, 2)).astype("float32")
    wavfile.write(path, 16000, stereo)
    expected = signal.resample_poly(stereo.astype("float64").mean(axis=1), 1, 2)
    np.testing.assert_allclose(read_audio(str(path), Audio(300, 8000)), expected[:300], atol=1e-6)
    padded = read_audio(str(path).encode(), Audio(1200, 8000))
    np.testing.assert_allclose(padded, np.pad(expected, (0, 200)), atol=1e-6)


def test_floats_beyond_full_scale_are_clipped(tmp_path):
    path = tmp_path / "a.wav"
    wavfile.write(path, 8000, np.array([0.5, 3, -2], "float32"))
    assert read_audio(str(path), Audio(4, 8000)).tolist() == [0.5, 1, -1, 0]
