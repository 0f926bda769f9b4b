"""Teachers that are no Keras models, as layers: SavedModels, TFLite files, and functions of NumPy arrays."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_kd.array_functions import ArrayFunction, shapes_of
from keras_kd.litert import LiteRTFile, try_out
from keras_kd.wording import one_line


class ForeignLayer(keras.Layer):
    """A model that can be run, but not looked into.

    It has no weights: what it runs is out of sight of whatever trains or saves.

    Args:
        run: Maps the inputs to the outputs.
        name: What its file or function is called.
        takes: `tf.TensorSpec`s in the structure that `run` takes. Defaults to `None`: whatever it is given.
        source: The file or directory that it comes from. Defaults to `None`: a function, which has none.
    """

    opaque = True  # there is nothing to tap

    def __init__(self, run: Callable[[Any], Any], name: str, takes: Any = None, source: Path | None = None):
        super().__init__(name=name, trainable=False)
        self._source = source
        # Not through `setattr`, with which Keras would wrap the structures, and track what they hold.
        object.__setattr__(self, "_run", run)
        object.__setattr__(self, "_takes", takes)
        # XLA compiles no calls to Python, and a file does not say whether it can be compiled.
        self.supports_jit = False
        self.built = True

    @property
    def input(self) -> Any:
        """The structure of the inputs, as a Functional model tells it."""
        if self._takes is None:
            raise AttributeError(f"`{self.name}` does not tell its inputs.")
        return self._takes

    @property
    def inputs(self) -> list[tf.TensorSpec]:
        """The inputs in a row; none where they are not known."""
        return [] if self._takes is None else keras.tree.flatten(self._takes)

    def fingerprint(self) -> str | None:
        """SHA-256 of the files it comes from; `None` where it comes from none."""
        if self._source is None:
            return None
        total, files = hashlib.sha256(), [self._source]
        if self._source.is_dir():
            # Not `fingerprint.pb`, which has the time of writing.
            files = sorted(path for path in self._source.rglob("*") if path.is_file() and path.suffix != ".pb")
            files.append(self._source / "saved_model.pb")
        for file in files:
            total.update(f"{file.relative_to(self._source)} {file.stat().st_size} ".encode())
            total.update(file.read_bytes())
        return total.hexdigest()

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        # Not by way of Keras, which would cast the inputs, and wrap every error in ten lines of its own.
        return self.call(inputs, training=training)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Runs the model in inference mode, the only one it has."""
        del training
        return self._run(inputs if self._takes is None else _arranged(inputs, self._takes, self.name))


def as_layer(model: Any) -> keras.Layer:
    """Makes a Keras layer of anything that can teach.

    Args:
        model: A Keras layer, which is passed on; the path of a `.keras` file (loaded in safe mode), of a `.tflite` file
            or of a SavedModel directory; or a function `f(x) -> logits` of NumPy arrays, whose answer is an array, or
            a list or dict of arrays.

    Returns:
        The layer.

    Raises:
        ValueError: If it is none of these, or the file cannot be read.

    Example:
        >>> layer = as_layer(lambda x: 2 * x)
        >>> layer(tf.ones((1, 2))).numpy().tolist()
        [[2.0, 2.0]]
    """
    if isinstance(model, keras.Layer):
        return model
    if isinstance(model, str | os.PathLike):
        return _of_path(Path(model))
    if callable(model) and not isinstance(model, type):
        name = getattr(model, "__name__", type(model).__name__)
        return ForeignLayer(ArrayFunction(model, name), name)
    raise ValueError(
        "`Teacher`: `model` must be a Keras model, the path of a SavedModel directory, of a `.keras` or of a `.tflite` "
        f"file, or a function of NumPy arrays. Received: {model!r}."
    )


def _of_path(path: Path) -> keras.Layer:
    if not path.exists():
        raise ValueError(f"`Teacher`: `model`: there is no file or directory '{path}'.")
    if path.is_dir():
        return _saved_model(path)
    if path.suffix == ".tflite":
        return _tflite(path)
    if path.suffix == ".keras":
        return _loaded(path, lambda: keras.saving.load_model(path, compile=False, safe_mode=True))
    raise ValueError(
        "`Teacher`: `model` as a path must be that of a SavedModel directory, of a `.keras` or of a `.tflite` file. "
        f"Received: '{path}'."
    )


def _loaded(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # zipfile, h5py, Keras and TensorFlow raise all kinds of errors on a broken file
        raise ValueError(f"`Teacher`: `model` '{path}' cannot be loaded: {fault_of(error)}") from error


def fault_of(error: Exception) -> str:
    """What is wrong with a model file, in one line, from what its loader raised."""
    if "enable_unsafe_deserialization" in str(error):  # so ends whatever Keras says of code in a file
        return "it holds Python code (a Lambda layer), which is not run from a file. Replace it by a Keras layer."
    return one_line(error)


def _tflite(path: Path) -> ForeignLayer:
    try_out(path, "`Teacher`: `model`")
    file = LiteRTFile(path, "`Teacher`: `model`")
    takes = file.real_specs
    run = ArrayFunction(lambda x: _one_alone(file.run_real(_by_name(x, takes))), path.stem)
    return ForeignLayer(run, path.stem, _one_alone(takes), path)


def _saved_model(path: Path) -> ForeignLayer:
    if not tf.saved_model.contains_saved_model(str(path)):
        raise ValueError(
            f"`Teacher`: `model`: the directory '{path}' holds no SavedModel. Write one with `model.export(directory)`."
        )
    with ThreadPoolExecutor(max_workers=1) as apart:
        # Loaded within the scope of a distribution strategy, it could run among replicas only, and is asked before.
        saved = _loaded(path, lambda: apart.submit(tf.saved_model.load, str(path)).result())
    if getattr(getattr(saved, "serve", None), "concrete_functions", None):
        takes, run = _of_endpoint(saved.serve)
    elif "serving_default" in saved.signatures:
        takes, run = _of_signature(saved.signatures["serving_default"])
    else:
        raise ValueError(
            f"`Teacher`: `model`: the SavedModel '{path}' must have the endpoint 'serve' or the signature "
            f"'serving_default'. Received the signatures {sorted(saved.signatures)}. Give a function of NumPy arrays "
            "that calls the one that is meant."
        )
    layer = ForeignLayer(lambda x: _one_alone(run(x)), path.resolve().name, takes, path)
    object.__setattr__(layer, "_saved", saved)  # its functions do not keep its variables alive
    return layer


def _of_endpoint(serve: Callable) -> tuple[Any, Callable]:
    """What `model.export` writes: a function of the model's own structures."""
    arguments = serve.concrete_functions[0].structured_input_signature[0]
    return (arguments[0], serve) if len(arguments) == 1 else (list(arguments), lambda x: serve(*x))


def _of_signature(signature: Callable) -> tuple[Any, Callable]:
    """What `tf.saved_model.save` writes: a function of tensors by name."""
    takes = dict(sorted(signature.structured_input_signature[1].items()))
    return _one_alone(takes), lambda x: signature(**_by_name(x, takes))


def _one_alone(named: Any) -> Any:
    """A dict of one as what it holds; all else as it is."""
    return next(iter(named.values())) if isinstance(named, Mapping) and len(named) == 1 else named


def _by_name(x: Any, names: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reverse of `_one_alone`."""
    return dict.fromkeys(names, x) if len(names) == 1 else x


def _arranged(x: Any, takes: Any, name: str) -> Any:
    """Brings inputs into the structure and the dtypes that a model takes, by name where `x` has names."""
    specs, given = keras.tree.flatten(takes), x
    if isinstance(takes, Mapping):
        given = {key: x[key] for key in takes if key in x} if isinstance(x, Mapping) else ()
    elif isinstance(x, Mapping):
        given = [x[spec.name] for spec in specs if spec.name in x]
    tensors = [leaf for leaf in keras.tree.flatten(given) if leaf is not None]
    if len(tensors) != len(specs) or not all(
        spec.shape.is_compatible_with(tensor.shape) for spec, tensor in zip(specs, tensors, strict=True)
    ):
        raise ValueError(
            f"`Teacher`: `{name}` takes inputs of the shapes {shapes_of(takes)}. Received: {shapes_of(x)}. "
            "Select them with `keras_kd.Teacher(model, inputs=[...])`, or reshape them with `preprocess`."
        )
    cast = [tf.cast(tensor, spec.dtype) for spec, tensor in zip(specs, tensors, strict=True)]
    return keras.tree.pack_sequence_as(takes, cast)
