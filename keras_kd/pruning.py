"""Magnitude pruning while a student learns: a Keras callback that zeroes its smallest weights by a schedule."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

_LAYERS = keras.layers
# What is pruned of which layer. Of a depthwise kernel nothing is: it holds few weights, and each channel needs them.
_KERNELS = (
    ((_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D), ("pointwise_kernel",)),
    ((_LAYERS.Dense, _LAYERS.EinsumDense, _LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D), ("kernel",)),
    ((_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose, _LAYERS.Conv3DTranspose), ("kernel",)),
    ((_LAYERS.Embedding,), ("embeddings",)),
    ((_LAYERS.SimpleRNNCell, _LAYERS.GRUCell, _LAYERS.LSTMCell), ("kernel", "recurrent_kernel")),
)


class MagnitudePruning(keras.callbacks.Callback):
    """Sets the smallest weights of each kernel to zero, more of them as training goes on, and holds them there.

    `s_t = s_f + (s_i - s_f) · (1 - (t - t_0) / (t_n - t_0))^3` for `t_0 <= t <= t_n`, then `s_f`; of a kernel of `n`
    weights, the `round(s_t · n)` of smallest magnitude are zero.

    For `fit` of any Keras model; of a distiller it prunes the student. Pruned are the kernels of `Dense`,
    `EinsumDense` (and with it attention), `Conv1D` to `Conv3D` and their transposes, the pointwise kernels of
    `SeparableConv1D` and `SeparableConv2D`, the tables of `Embedding` and both kernels of the recurrent cells, as far
    as the training moves them: not what is frozen, and nothing that a teacher owns. Biases, normalisation and
    depthwise kernels stay whole.

    Weights are pruned at `t_0`, at every `every`-th step from there and at `t_n`. The zeros are restored after every
    batch (every execution, with `steps_per_execution`) and when training ends. The logs of an epoch hold `sparsity`,
    the share of zeros among the weights pruned.

    A step is an update of the weights, counted by `optimizer.iterations` from where the first epoch began. A run that
    goes on, by `keras.callbacks.BackupAndRestore` or `initial_epoch`, follows the schedule where it stopped. Where the
    optimizer has made updates before `fit`, the zeros that it finds stay zero. Callbacks that choose among epochs
    (`EarlyStopping`, `ModelCheckpoint`) should choose among those after `end_step`.

    Zeros make the compressed file smaller (what is downloaded), not the file itself, nor the run faster by themselves.

    Args:
        final_sparsity: Share of zeros in each kernel at the end, in [0, 1). Defaults to 0.8.
        initial_sparsity: The share at `begin_step`, in [0, final_sparsity]. Defaults to 0.
        begin_step: Step of the first pruning, `>= 0`. Defaults to 0, before the first update.
        end_step: Step from which the share is the final one, `>= begin_step`. Defaults to the last step of `fit`.
        every: Steps between two prunings, `>= 1`. Defaults to 100.
        layers: Names of layers to prune; `"backbone/conv"` is inside `backbone`, and `"backbone"` all of it. Defaults
            to all that can be pruned.

    Raises:
        ValueError: If a number is out of range; when training begins, if a name is not that of a layer that can be
            pruned, there is none, or the training ends before `begin_step`.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5, name="hidden"), keras.layers.Dense(2)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((16, 8)), np.ones((16, 2))
        >>> history = model.fit(x, y, epochs=2, callbacks=[MagnitudePruning(0.5, every=1)], verbose=0)
        >>> sparsity(model)
        0.5

    Reference:
        Zhu, Gupta. To prune, or not to prune: exploring the efficacy of pruning for model compression. 2017.
        arXiv:1710.01878. There a masked weight gets no update; here it is set back to zero after the update, which
        leaves the same kernels.
    """

    def __init__(
        self,
        final_sparsity: float = 0.8,
        *,
        initial_sparsity: float = 0.0,
        begin_step: int = 0,
        end_step: int | None = None,
        every: int = 100,
        layers: Sequence[str] | None = None,
    ):
        super().__init__()
        _check_numbers(final_sparsity, initial_sparsity, begin_step, end_step, every)
        self.final_sparsity, self.initial_sparsity = final_sparsity, initial_sparsity
        self.begin_step, self.end_step, self.every = begin_step, end_step, every
        self.layers = [layers] if isinstance(layers, str) else layers

    def scheduled(self, step: int, end_step: int) -> float:
        """The share of zeros after the given step, where pruning ends at `end_step`."""
        if step >= end_step:
            return self.final_sparsity
        if step < self.begin_step:
            return 0.0
        last_pruning = step - (step - self.begin_step) % self.every
        to_go = 1 - (last_pruning - self.begin_step) / (end_step - self.begin_step)
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * to_go**3

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.end_step is None and self.params["steps"] is None:
            raise ValueError(
                "`MagnitudePruning`: `end_step` must be given where `fit` does not know the steps of an epoch. "
                "Received: end_step=None."
            )
        self._kernels = self._find_kernels() if self.model.built else []
        self._start = self._plan = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        if self._start is not None:
            return
        # Not before: another callback may have restored weights and optimizer when training began.
        self._start, self._first_epoch = self._updates(), epoch
        if self._start > 0:
            for kernel in self._kernels:
                kernel.keep_zeros()
        if epoch == 0:
            self._prune(self.scheduled(0, 1 if self.end_step is None else self.end_step))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._kernels = self._kernels or self._find_kernels()
        self._plan = self._plan or self._planned(batch + 1)
        origin, end_step = self._plan
        steps, epochs = self.params["steps"], self.params["epochs"]
        # Updates that a loss scale skips are not counted, and must not keep the last pruning away.
        is_last = self.end_step is None and self._epoch + 1 == epochs and batch + 1 >= steps
        self._prune(self.scheduled(end_step if is_last else self._updates() - origin, end_step))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["sparsity"] = sum(kernel.zeros for kernel in self._kernels) / sum(k.size for k in self._kernels)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        # Since the last batch, Keras may have put the weights' moving averages in their place.
        self._prune(0.0)

    def _prune(self, share: float) -> None:
        for kernel in self._kernels:
            kernel.prune(share)

    def _updates(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _planned(self, batches: int) -> tuple[int, int]:
        """The count of updates at which step 0 was, and the step that ends the pruning, once the first are made."""
        steps = self.params["steps"]
        if steps is None:
            return self._start if self._first_epoch == 0 else 0, self.end_step
        optimizer, done, batches = self.model.optimizer, self._updates() - self._start, min(batches, steps)
        accumulated = getattr(optimizer, "inner_optimizer", optimizer).gradient_accumulation_steps or 1
        per_batch = done / batches if done > batches else 1 / accumulated  # `DataFreeDistiller` makes several
        planned = int(self.params["epochs"] * steps * per_batch)
        if planned < self.begin_step:
            raise ValueError(
                f"`MagnitudePruning`: `begin_step` must be <= the {planned} steps of the training. "
                f"Received: begin_step={self.begin_step}."
            )
        origin = self._start - int(self._first_epoch * steps * per_batch)
        return origin, planned if self.end_step is None else self.end_step

    def _find_kernels(self) -> list["_Kernel"]:
        moving = {id(variable) for variable in self.model.trainable_variables}
        found = [(path, kernel) for path, kernel in _prunable(self.model) if id(kernel) in moving]
        paths = list(dict.fromkeys(path for path, _ in found))
        names = paths if self.layers is None else self.layers
        unknown = [name for name in names if not any(_is_in(path, name) for path in paths)]
        if unknown or not names:
            raise ValueError(
                f"`MagnitudePruning`: `layers` must name layers with kernels that the training moves, of {paths}. "
                f"Received: layers={self.layers if self.layers is None else list(self.layers)}."
            )
        chosen = [kernel for path, kernel in found if any(_is_in(path, name) for name in names)]
        return [_Kernel(kernel) for kernel in _distinct(chosen)]


class _Kernel:
    """A kernel, and which of its weights are to stay zero."""

    def __init__(self, variable: keras.Variable):
        self.variable = variable
        self.size = int(np.prod(variable.shape))
        self._masked, self._kept = np.zeros(self.size, bool), None
        self._zero = keras.ops.zeros((), variable.dtype)

    @property
    def zeros(self) -> int:
        return int(self._masked.sum())

    def keep_zeros(self) -> None:
        """Takes the zeros that are there for pruned."""
        self._mask(_values(self.variable).ravel() == 0)

    def prune(self, share: float) -> None:
        """Sets zeros to zero again, and the smallest weights with them until the share is reached."""
        count = round(share * self.size)
        if count > self.zeros:
            magnitudes = np.where(self._masked, -1.0, np.abs(_values(self.variable).ravel().astype("float64")))
            self._masked[np.argpartition(magnitudes, count - 1)[:count]] = True
            self._mask(self._masked)
        if self._kept is not None:
            # Not a product with the mask, which turns negative weights into -0.0: other bytes, that compress less well.
            self.variable.assign(keras.ops.where(self._kept, self.variable, self._zero))

    def _mask(self, masked: np.ndarray) -> None:
        self._masked = masked
        self._kept = keras.ops.convert_to_tensor(~masked.reshape(self.variable.shape), "bool")


def sparsity(model: keras.Model) -> float:
    """Share of zeros among the weights that `MagnitudePruning` can prune, those of frozen layers too.

    Args:
        model: A built model, or a distiller, whose student it then is.

    Returns:
        `zeros / weights`, in [0, 1].

    Raises:
        ValueError: If there are no such weights, as in a model that is not built.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
        >>> _ = model.layers[0].kernel.assign([[0.0, 1.0], [2.0, 0.0]])
        >>> round(sparsity(model), 3)
        0.333
    """
    kernels = [_values(kernel) for kernel in _distinct(kernel for _, kernel in _prunable(model))]
    if not kernels:
        raise ValueError(
            "`sparsity`: `model` must be built and hold kernels that can be pruned. Received a model with the layers "
            f"{[layer.name for layer in _student(model).layers]}."
        )
    return float(sum((kernel == 0).sum() for kernel in kernels) / sum(kernel.size for kernel in kernels))


def sparsity_by_layer(model: keras.Model) -> dict[str, float]:
    """Share of zeros of each layer that `MagnitudePruning` can prune, by the layer's name.

    Args:
        model: A built model, or a distiller.

    Returns:
        `{name: share}`; a layer inside another is `"outer/inner"`.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a"), keras.layers.Dense(1)])
        >>> _ = model.get_layer("a").kernel.assign([[0.0], [1.0]])
        >>> sparsity_by_layer(model)["a"]
        0.5
    """
    values = {}
    for path, kernel in _prunable(model):
        values.setdefault(path, []).append(_values(kernel).ravel())
    return {path: float(np.mean(np.concatenate(kernels) == 0)) for path, kernels in values.items()}


def _check_numbers(final: float, initial: float, begin_step: int, end_step: int | None, every: int) -> None:
    for name, value, holds, expected in (
        ("final_sparsity", final, 0 <= final < 1, "in [0, 1)"),
        ("initial_sparsity", initial, 0 <= initial <= final, f"in [0, final_sparsity={final}]"),
        ("begin_step", begin_step, _is_whole(begin_step, 0), "a whole number >= 0"),
        ("every", every, _is_whole(every, 1), "a whole number >= 1"),
        ("end_step", end_step, end_step is None or _is_whole(end_step, begin_step), f"a whole number >= {begin_step=}"),
    ):
        if not holds:
            raise ValueError(f"`MagnitudePruning`: `{name}` must be {expected}. Received: {name}={value!r}.")


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and value >= least


def _is_in(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/")


def _student(model: keras.Model) -> keras.Model:
    return getattr(model, "finished_student", getattr(model, "student", model))


def _prunable(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Each kernel that can be pruned, with the name of its layer; one that layers share comes once for each."""
    for path, layer in _named_layers(_student(model)):
        for kinds, attributes in _KERNELS:
            if isinstance(layer, kinds):
                # With LoRA or quantized weights a kernel is a tensor, computed from others.
                kernels = (getattr(layer, attribute, None) for attribute in attributes)
                yield from ((path, kernel) for kernel in kernels if isinstance(kernel, keras.Variable))
                break


def _named_layers(outer: keras.layers.Layer, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    for layer in outer._flatten_layers(include_self=False, recursive=False):
        yield prefix + layer.name, layer
        yield from _named_layers(layer, f"{prefix}{layer.name}/")


def _distinct(variables: Any) -> list[keras.Variable]:
    return list({id(variable): variable for variable in variables}.values())


def _values(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)
