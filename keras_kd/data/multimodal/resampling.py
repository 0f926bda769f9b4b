"""Change of sample rate."""

import math

import numpy as np

# The filter spans this many zero crossings to each side and is windowed to a stop band of about 60 dB.
_ZERO_CROSSINGS = 10
_KAISER_BETA = 5.0


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resamples a waveform: a polyphase filter, a sinc under a Kaiser window, cut off at the lower Nyquist frequency.

    It does what `scipy.signal.resample_poly` does by default, without SciPy, which the package does not ask for.

    Args:
        samples: shape `(n,)`.
        rate: samples per second of `samples`.
        new_rate: samples per second of the result.

    Returns:
        Float32 of shape `(ceil(n · new_rate / rate),)`. Beyond its ends the waveform counts as zero.

    Example:
        >>> resample(np.ones(400), 16000, 8000)[50:150].round(3).mean()
        np.float32(1.0)
    """
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    if up == down:
        return samples.astype("float32")
    half = _ZERO_CROSSINGS * max(up, down)
    kernel = np.sinc(np.arange(-half, half + 1) / max(up, down)) * np.kaiser(2 * half + 1, _KAISER_BETA)
    kernel *= up / kernel.sum()
    length = -(-len(samples) * up // down)
    reach = half // up + 1
    padded = np.pad(samples.astype("float64"), (reach, reach + down))
    resampled = np.empty(length, "float32")
    # Output n lies at n · down / up. Outputs that are `up` apart see the waveform through the same taps of the kernel.
    for phase in range(min(up, length)):
        place = phase * down
        first, last = -((half - place) // up), (place + half) // up
        taps = kernel[half + place - up * np.arange(first, last + 1)]
        count = -(-(length - phase) // up)
        needed = reach + first + (count - 1) * down + len(taps)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(padded, (0, max(0, needed - len(padded)))), len(taps))
        resampled[phase::up] = windows[reach + first :: down][:count] @ taps
    return resampled


def samples_needed(samples: int, rate: int, new_rate: int) -> int:
    """Returns how many samples of a recording decide the first `samples` of the resampled one."""
    return math.ceil(samples * rate / new_rate) + math.ceil((_ZERO_CROSSINGS + 1) * max(1, rate / new_rate))
