"""Whole modalities left out at random while training, so that the student works with any subset of them."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_kd.modalities.presence import kept, modalities_among, presence_key
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class ModalityDropout(keras.Layer):
    """Leaves out modalities of each example while training, never all that it has.

    An example that has the modalities `H` of those in `rates` keeps just `S ⊆ H`, `S` not empty, with probability

    `P(S) = Π_{m∈S} (1 - r_m) Π_{m∈H∖S} r_m  +  [|S| = 1] Π_{m∈H} r_m / |H|`:

    each is dropped independently with its rate, and where that takes all of them, one is kept, drawn uniformly. What is
    dropped becomes zeros, and its `"<name>_present"`, where the batch has one, false. What is kept is not scaled.

    Off at inference. Keys that are not in `rates` stay as they are and do not count as modalities: name one that must
    never be dropped with rate 0, so that an example which has it may lose all the others.

    Args:
        rates: Probability to be dropped, in [0, 1], by modality; or a number, the same for all keys but those of
            presence.
        seed: Seed of the draws. Defaults to a random one.
        **kwargs: `name`, as of any Keras layer.

    Call arguments:
        inputs: Dict of tensors `(batch, ...)` by modality, and of bool `(batch,)` by `"<name>_present"`: false where
            the example does not have the modality. Without such a key all have it.
        training: Whether to drop. Defaults to the mode Keras is in.

    Returns:
        A dict of the same keys, shapes and types.

    Raises:
        ValueError: If a rate is out of range, fewer than two modalities may be told apart, or the inputs are no dict of
            them.

    Example:
        >>> x = {"image": keras.ops.ones((4, 2)), "audio": keras.ops.ones((4, 3))}
        >>> dropped = ModalityDropout({"image": 0.0, "audio": 1.0})(x, training=True)
        >>> float(keras.ops.mean(dropped["image"])), float(keras.ops.mean(dropped["audio"]))
        (1.0, 0.0)

    Reference:
        Neverova, Wolf, Taylor, Nebout. ModDrop: Adaptive Multi-modal Gesture Recognition. 2014. arXiv:1501.00102. There
        all may be dropped at once.
    """

    def __init__(self, rates: float | Mapping[str, float], seed: int | None = None, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        if isinstance(rates, Mapping):
            self.rates = {name: self._checked(f"rates[{name!r}]", rate) for name, rate in rates.items()}
            self._require_two(list(rates))
        else:
            self.rates = self._checked("rates", rates)
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def _checked(self, name: str, rate: Any) -> float:
        return checked_number(self, name, rate, low=0, high=1)

    def _require_two(self, modalities: list[str]) -> None:
        if len(modalities) < 2:
            raise ValueError(
                "`ModalityDropout`: `rates` must be for two modalities or more, as one is always kept; give those that "
                f"are never dropped the rate 0. Received: {modalities}."
            )

    def build(self, input_shape: Any) -> None:
        self._rates_of(input_shape)

    def _rates_of(self, inputs: Any) -> dict[str, float]:
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"`ModalityDropout`: inputs must be a dict of tensors by modality. Received: one of shape {inputs}."
            )
        if not isinstance(self.rates, Mapping):
            modalities = modalities_among(inputs)
            self._require_two(modalities)
            return dict.fromkeys(modalities, self.rates)
        missing = [name for name in self.rates if name not in inputs]
        if missing:
            raise ValueError(
                f"`ModalityDropout`: inputs must hold every modality of `rates`. Received: {list(inputs)}, without "
                f"{missing}."
            )
        return dict(self.rates)

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        rates = self._rates_of(inputs)
        if not training:
            return dict(inputs)
        outputs = dict(inputs)
        for name, keep in zip(rates, ops.unstack(self._keep(inputs, rates), axis=1), strict=True):
            outputs[name] = kept(inputs[name], keep)
            if presence_key(name) in inputs:
                outputs[presence_key(name)] = keep
        return outputs

    def _keep(self, inputs: Mapping[str, Any], rates: dict[str, float]) -> Any:
        """Which modalities each example keeps, bool `(batch, modalities)`."""
        batch = ops.shape(inputs[next(iter(rates))])[0]
        everyone = ops.ones((batch,), dtype="bool")
        has = ops.stack([ops.cast(inputs.get(presence_key(name), everyone), "bool") for name in rates], axis=1)
        draws = keras.random.uniform((2, batch, len(rates)), dtype="float32", seed=self._generator)
        keep = has & (draws[0] >= ops.convert_to_tensor(list(rates.values()), dtype="float32"))
        lost_all = ops.logical_not(ops.any(keep, axis=1, keepdims=True))
        # The greatest of the draws of those it has is as likely to be any of them.
        saved = ops.argmax(ops.where(has, draws[1], -1.0), axis=1)
        return keep | (lost_all & has & ops.one_hot(saved, len(rates), dtype="bool"))

    def compute_output_spec(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        self._rates_of(inputs)
        return {name: keras.KerasTensor(tensor.shape, tensor.dtype) for name, tensor in inputs.items()}

    def get_config(self) -> dict[str, Any]:
        rates = dict(self.rates) if isinstance(self.rates, Mapping) else self.rates
        return {**super().get_config(), "rates": rates, "seed": self.seed}
