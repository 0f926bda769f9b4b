"""The audio front end as a layer, so that a student takes the raw waveform on the phone too."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_kd.scalars import checked_number

_LEAST_QUANTIZED = 1024
# A waveform that stays below is taken for silence, and not blown up to noise.
_LEAST_PEAK = 1e-3


@keras.saving.register_keras_serializable(package="keras_kd")
class LogMel(keras.Layer):
    """Log of a mel filter bank of the power spectrum.

    `y[t, b] = log(max(Σ_k F[k, b] |X[t, k]|², floor))`, `X` the Fourier transform of the frames under a periodic Hann
    window, frame `t` centred on sample `t · hop` of the waveform mirrored at its ends, `F` triangles of height 1 whose
    corners are equally spaced in `mel(f) = 2595 log10(1 + f / 700)`. With `normalize`, `x / max(max |x|, 0.001)` takes
    the waveform's place: recordings of any loudness give the same.

    Nothing in it trains and it has no weights. It computes in float32 whatever the policy, and runs in a model or in a
    `tf.data` pipeline. Exported, it is made of TFLite's built-in operators, equal to Keras in the forms "float32",
    "float16" and "dynamic". In "int8" the power spectrum has 256 levels, of which the logarithm keeps the loudest 24 dB
    below the loudest calibration example: for such a student take it out of the model, into the pipeline.

    Args:
        rate: Samples per second of the waveform.
        frame: Samples under the window; the transform has the next power of two. Defaults to 256.
        hop: Samples from one frame to the next. Defaults to 128.
        bands: Number of mel bands. Defaults to 40.
        low: Lower edge of the first band in Hz. Defaults to 20.
        high: Upper edge of the last band in Hz. Defaults to half the rate.
        floor: Least energy of a band, `> 0`, for a waveform in [-1, 1]. Defaults to 1e-6.
        normalize: Whether each waveform is first divided by its largest absolute value. Defaults to `False`.
        **kwargs: `name` and `dtype`, as of any Keras layer.

    Call arguments:
        inputs: Waveforms, `(batch, samples)`, floats, more samples than half the transform.

    Returns:
        `(batch, 1 + samples // hop, bands)`.

    Raises:
        ValueError: If an argument is out of range, a band is narrower than the resolution of the transform, or the
            waveforms are too short.

    Example:
        >>> silence = keras.ops.zeros((1, 8000))
        >>> features = LogMel(floor=1.0)(silence)
        >>> features.shape, float(keras.ops.max(features))
        (TensorShape([1, 63, 40]), 0.0)

    Reference:
        Davis, Mermelstein. Comparison of Parametric Representations for Monosyllabic Word Recognition in Continuously
        Spoken Sentences. 1980. The mel formula and the triangles are those of the Hidden Markov Model Toolkit, by way
        of `keras.layers.MelSpectrogram`.
    """

    def __init__(
        self,
        rate: int = 8000,
        frame: int = 256,
        hop: int = 128,
        bands: int = 40,
        low: float = 20.0,
        high: float | None = None,
        floor: float = 1e-6,
        normalize: bool = False,
        **kwargs: Any,
    ):
        # The samples stay in float32 under a mixed policy: their squares overflow float16.
        super().__init__(autocast=False, **kwargs)
        for name, value in (("rate", rate), ("frame", frame), ("hop", hop), ("bands", bands)):
            checked_number(self, name, value, low=1)
        self.rate, self.frame, self.hop, self.bands = int(rate), int(frame), int(hop), int(bands)
        self.low = checked_number(self, "low", low, low=0, high=self.rate / 2)
        self.high = None if high is None else checked_number(self, "high", high, low=self.low, high=self.rate / 2)
        self.floor = checked_number(self, "floor", floor, low=0, open_low=True)
        if not isinstance(normalize, bool):
            raise ValueError(f"`LogMel`: `normalize` must be True or False. Received: normalize={normalize!r}.")
        self.normalize = normalize
        # TFLite transforms powers of two only (tensorflow #84171).
        self._transform = 1 << (self.frame - 1).bit_length()
        self._filters = self._triangles()

    def _triangles(self) -> list[tuple[slice, Any]]:
        # Not the whole layer: its gradient is NaN at silence (a square root, squared again), its decibels depend on
        # the rest of the batch, and it names one frame too many for some lengths (Keras 3.15).
        filters = keras.layers.MelSpectrogram(
            fft_length=self._transform, sampling_rate=self.rate, num_mel_bins=self.bands, dtype="float32"
        ).linear_to_mel_weight_matrix(
            num_mel_bins=self.bands,
            num_spectrogram_bins=self._transform // 2 + 1,
            sampling_rate=self.rate,
            lower_edge_hertz=self.low,
            upper_edge_hertz=self.high or self.rate / 2,
        )
        filters = ops.convert_to_numpy(filters)
        empty = int((filters.sum(axis=0) == 0).sum())
        if empty:
            raise ValueError(
                f"`LogMel`: every band must be as wide as a step of the transform, {self.rate / self._transform:g} Hz. "
                f"Received: bands={self.bands}, of which {empty} hold nothing. Take fewer `bands` or a longer `frame`."
            )
        return list(_pieces(filters))

    def build(self, input_shape: Any) -> None:
        least = self._transform // 2 + 1
        if len(input_shape) != 2 or (input_shape[1] or least) < least:
            raise ValueError(
                f"`LogMel`: inputs must be waveforms of shape (batch, samples), of at least {least} samples. "
                f"Received: shape {tuple(input_shape)}."
            )

    def call(self, inputs: Any) -> Any:
        waveform = ops.cast(inputs, "float32")
        if self.normalize:
            waveform /= ops.maximum(ops.max(ops.abs(waveform), axis=1, keepdims=True), _LEAST_PEAK)
        real, imaginary = ops.stft(waveform, self.frame, self.hop, self._transform, window="hann", center=True)
        power = ops.square(real) + ops.square(imaginary)
        energy = [ops.matmul(power[..., bins], filters) for bins, filters in self._filters]
        energy = ops.concatenate(energy, axis=-1)
        return ops.cast(ops.log(ops.maximum(energy, self.floor)), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int | None, int]:
        batch, samples = input_shape
        return batch, None if samples is None else 1 + samples // self.hop, self.bands

    def get_config(self) -> dict[str, Any]:
        own = ("rate", "frame", "hop", "bands", "low", "high", "floor", "normalize")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _pieces(filters: Any) -> Iterator[tuple[slice, Any]]:
    """Cuts `(bins, bands)` into neighbouring bands and the bins that these are not zero for.

    Most of it is zero. And the converter leaves matrices of under 1,024 elements in float where weights are quantised
    ("dynamic"): a power spectrum in 8 bits would lose all that is 24 dB below its maximum.
    """
    first = last = 0
    while first < filters.shape[1]:
        piece = None
        while last < filters.shape[1]:
            used = filters[:, first : last + 1].any(axis=1).nonzero()[0]
            bins = slice(int(used[0]), int(used[-1]) + 1)
            wider = bins, filters[bins, first : last + 1]
            if piece is not None and wider[1].size >= _LEAST_QUANTIZED:
                break
            piece, last = wider, last + 1
        yield piece
        first = last
