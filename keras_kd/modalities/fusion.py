"""Reference models of several modalities, from a teacher to a light student, by one number."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_kd.modalities.branches import branch_inputs, embed
from keras_kd.modalities.log_mel import LogMel
from keras_kd.modalities.modality_dropout import ModalityDropout
from keras_kd.modalities.presence import KeepPresent, PresentSoftmax, presence_key


def fusion_model(
    modalities: Mapping[str, Any],
    num_classes: int,
    *,
    fusion: str = "concat",
    width: int = 32,
    present: bool = False,
    dropout_rates: float | Mapping[str, float] | None = None,
    mel: bool | LogMel = True,
    seed: int | None = None,
    name: str = "fusion_model",
) -> keras.Model:
    """Builds a model with one branch for each modality, fused to logits.

    `logits = W relu(U relu(fuse(e_1, ..., e_M)))`, `e_m` the output of a branch, of width `2 · width`, in a layer named
    `"<modality>_embedding"`: the tap for what compares branch with branch. A grid goes through three convolutions of
    `width`, `2 width` and `2 width` channels with batch normalisation, and its mean is taken; a spectrogram or another
    sequence through three along time, and its maximum is; text through an embedding of its symbols and two
    convolutions along it; a plain vector through a dense layer. They are fused by

    - "concat": side by side;
    - "attention": `Σ_m a_m e_m`, `a = softmax_m(v · tanh(W e_m))`, in a layer named `"modality_weights"`;
    - "gated": `Σ_m z_m ⊙ tanh(W_m e_m)`, `z_m = sigmoid(V_m [e_1, ..., e_M])`, in layers named `"<modality>_gate"`.

    A single modality is not fused. What is absent has no influence on the output: whatever stands in its tensor.

    Args:
        modalities: By name, what the model sees: an object with `height`, `width`, `channels` (an image, floats), with
            `samples` and `rate` (a waveform, floats), with `length` and `vocabulary` (text, int32 ids: positions in
            it, 0 for padding), as those of `keras_kd.data.multimodal`; or a shape without the batch, of floats: a grid
            `(height, width, channels)`, a sequence `(frames, bands)`, or a vector `(size,)`.
        num_classes: Number of logits.
        fusion: "concat", "attention" or "gated". Defaults to "concat".
        width: Channels of the first convolution: 64 for a teacher, 8 for a light student. Defaults to 32.
        present: Whether there is an input `"<modality>_present"`, bool `(batch,)`, beside each. Defaults to `False`.
        dropout_rates: Rates of a `ModalityDropout` on the inputs. Defaults to none.
        mel: Whether `LogMel(rate, floor=0.01, normalize=True)` is in the model; or the layer, for another one. If
            `False`, the input is what that layer gives of the waveform. Defaults to `True`.
        seed: Seed of the dropout. Defaults to a random one.
        name: Name of the model. Defaults to `"fusion_model"`.

    Returns:
        A Functional model: a dict of the inputs by name -> `(batch, num_classes)`, not normalised.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> model = fusion_model({"image": (8, 8, 1), "sensor": (5,)}, 3, fusion="gated", width=4)
        >>> sorted(model.input), model.output_shape, model.get_layer("image_embedding").output.shape
        (['image', 'sensor'], (None, 3), (None, 8))

    Reference:
        Gates: Arevalo, Solorio, Montes-y-Gómez, González. Gated Multimodal Units for Information Fusion. 2017.
        arXiv:1702.01992. Attention: Bahdanau, Cho, Bengio. Neural Machine Translation by Jointly Learning to Align and
        Translate. 2014. arXiv:1409.0473, its scores without a query.
    """
    _check(modalities, num_classes, fusion, width, mel)
    width = int(width)
    inputs, specs = branch_inputs(modalities, mel)
    if present:
        for modality in modalities:
            key = presence_key(modality)
            inputs[key] = keras.Input((), dtype="bool", name=key)
    seen = dict(inputs)
    if dropout_rates is not None:
        seen = ModalityDropout(dropout_rates, seed=seed, name="modality_dropout")(seen)
    masks = [seen[presence_key(modality)] for modality in modalities] if present else None
    if present:
        # Before the branches too: what stands for an absent modality must not reach the statistics of a batch.
        for modality, mask in zip(modalities, masks, strict=True):
            seen[modality] = KeepPresent(name=f"{modality}_kept")(seen[modality], mask)
    embeddings = [embed(modality, specs[modality], seen[modality], width) for modality in modalities]
    if present:
        embeddings = [KeepPresent()(embedding, mask) for embedding, mask in zip(embeddings, masks, strict=True)]
    fused = embeddings[0] if len(embeddings) == 1 else FUSIONS[fusion](list(modalities), embeddings, masks)
    fused = layers.Dense(2 * width, activation="relu", name="fused")(layers.ReLU()(fused))
    # In float32 under a mixed policy, as the losses.
    logits = layers.Dense(int(num_classes), dtype="float32", name="logits")(fused)
    return keras.Model(inputs, logits, name=name)


def _concatenated(modalities: Sequence[str], embeddings: Sequence[Any], masks: Sequence[Any] | None) -> Any:
    return layers.Concatenate(name="fusion")(embeddings)


def _attended(modalities: Sequence[str], embeddings: Sequence[Any], masks: Sequence[Any] | None) -> Any:
    side_by_side = ops.stack(embeddings, axis=1)
    hidden = layers.Dense(embeddings[0].shape[-1], activation="tanh", name="attention_hidden")(side_by_side)
    scores = layers.Dense(1, use_bias=False, name="attention_scores")(hidden)
    scores = layers.Reshape((len(modalities),))(scores)
    weights = PresentSoftmax(name="modality_weights")(scores, None if masks is None else ops.stack(masks, axis=1))
    return layers.Dot(axes=1, name="fusion")([weights, side_by_side])


def _gated(modalities: Sequence[str], embeddings: Sequence[Any], masks: Sequence[Any] | None) -> Any:
    everything = layers.Concatenate()(embeddings)
    width = embeddings[0].shape[-1]
    parts = []
    for index, (modality, embedding) in enumerate(zip(modalities, embeddings, strict=True)):
        gate = layers.Dense(width, activation="sigmoid", name=f"{modality}_gate")(everything)
        value = layers.Dense(width, activation="tanh", name=f"{modality}_value")(embedding)
        part = layers.Multiply()([gate, value])
        parts.append(part if masks is None else KeepPresent()(part, masks[index]))
    return layers.Add(name="fusion")(parts)


FUSIONS = {"concat": _concatenated, "attention": _attended, "gated": _gated}


def _check(modalities: Any, num_classes: Any, fusion: Any, width: Any, mel: Any) -> None:
    if not isinstance(modalities, Mapping) or not modalities:
        raise ValueError(
            "`fusion_model`: `modalities` must be a dict of what the model sees by name, as in "
            f"{{'image': (28, 28, 1)}}. Received: {modalities!r}."
        )
    bad = [name for name in modalities if not isinstance(name, str) or not name or "/" in name]
    bad += [presence_key(name) for name in modalities if presence_key(str(name)) in modalities]
    if bad:
        raise ValueError(
            "`fusion_model`: names of `modalities` must be strings without '/', and not those of presence, which "
            f"`present=True` adds. Received: {bad}."
        )
    if fusion not in FUSIONS:
        raise ValueError(f"`fusion_model`: `fusion` must be one of {list(FUSIONS)}. Received: fusion={fusion!r}.")
    for argument, value in (("num_classes", num_classes), ("width", width)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`fusion_model`: `{argument}` must be an integer >= 1. Received: {argument}={value!r}.")
    if not isinstance(mel, bool | LogMel):
        raise ValueError(f"`fusion_model`: `mel` must be True, False or a `LogMel`. Received: mel={mel!r}.")
