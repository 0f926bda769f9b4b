"""WAV files of any rate and sample format, as mono float32.

`tf.audio.decode_wav` reads 16-bit PCM only, and the standard library's `wave` knows neither float samples nor, before
Python 3.12, the extensible header that most programs write for 24-bit files.
"""

import struct
from pathlib import Path

import numpy as np

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN_LENGTH = 0xFFFFFFFF  # written by programs that stream


def read_wav(path: str | Path) -> tuple[np.ndarray, int]:
    """Reads a WAV file and mixes its channels down.

    Args:
        path: a file of 8-, 16-, 24- or 32-bit PCM or of 32- or 64-bit floats.

    Returns:
        The mean of the channels, float32 of shape `(samples,)`, full scale being 1; and the rate.

    Raises:
        ValueError: if the file is not such a file, is cut short or holds no sound. The text says which, without the
            path.
        OSError: if the file cannot be opened.
    """
    chunks = _chunks(Path(path).read_bytes())
    if len(chunks.get(b"fmt ", b"")) < 16 or b"data" not in chunks:
        raise ValueError("it has no format or no samples")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    if kind == _EXTENSIBLE and len(chunks[b"fmt "]) >= 26:
        (kind,) = struct.unpack_from("<H", chunks[b"fmt "], 24)
    if not channels or not rate:
        raise ValueError(f"it has {channels} channels at {rate} Hz")
    data = chunks[b"data"]
    frame = channels * bits // 8
    samples = _samples(data[: len(data) // frame * frame] if frame else data, kind, bits)
    if not samples.size:
        raise ValueError("it holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError("it holds samples that are not finite")
    return samples.reshape(-1, channels).mean(axis=1).astype("float32"), rate


def _chunks(content: bytes) -> dict[bytes, bytes]:
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("it is not a WAV file")
    chunks = {}
    start = 12
    while start + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, start)
        start += 8
        if size == _UNKNOWN_LENGTH and name == b"data":
            size = len(content) - start
        if start + size > len(content) and name in (b"data", b"fmt "):
            raise ValueError("it is cut short")
        chunks.setdefault(name, content[start : start + size])
        start += size + size % 2
    return chunks


def _samples(data: bytes, kind: int, bits: int) -> np.ndarray:
    if (kind, bits) in ((_FLOAT, 32), (_FLOAT, 64)):
        return np.frombuffer(data, f"<f{bits // 8}").astype("float64")
    if kind != _PCM or bits not in (8, 16, 24, 32):
        raise ValueError(f"its sample format (code {kind}, {bits} bits) is not PCM or float")
    if bits == 8:
        return np.frombuffer(data, "u1") / 128 - 1
    if bits == 24:
        parts = np.frombuffer(data, "u1").reshape(-1, 3)
        # Three bytes become the upper three of an int32: the sign comes right, the scale is that of 32 bits.
        data, bits = np.insert(parts, 0, 0, axis=1).tobytes(), 32
    return np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)
