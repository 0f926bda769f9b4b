"""`CacheTeacher`: `cache_teacher` as an Apache Beam transform, its parts shared out among the workers of a runner."""

import os
from collections.abc import Callable
from typing import Any

from keras_kd.cache.manifest import Manifest
from keras_kd.cache.writing import cache_teacher

try:
    import apache_beam as beam
except ImportError as error:
    raise ImportError("`keras_kd.cache.beam` needs Apache Beam. Run `pip install 'keras_kd[beam]'`.") from error


class CacheTeacher(beam.PTransform):
    """Asks a teacher about the parts of a source on many workers, and writes the files of one `cache_teacher`.

    Each part is an element, written by `cache_teacher(..., shard=(i, parts))`; one more element, after all of them,
    writes what is missing and the manifest. A runner may try an element again, or elsewhere: it goes on where it was,
    and an attempt that is still alive is shut out. Each part reads the source from its beginning, and drops the
    examples of other parts before an augmentation or the teacher sees them.

    Args:
        make_teacher: A function without arguments, called on the worker, that gives the `teacher` of `cache_teacher`.
        make_dataset: A function without arguments, called on the worker, that gives its `dataset`, the same and in the
            same order everywhere.
        path: Folder for the cache, which all workers have under this name: a mounted file system that renames files as
            POSIX does, as NFS. Not a bucket, neither by its URL nor mounted: write parts to folders of the workers
            there, with `cache_teacher(..., shard=(i, n))`, and copy their files together.
        parts: How many parts, 1 or more; more than the source has shards leave workers idle.
        **settings: `taps`, `top_k`, `samples`, `temperature`, `dtype`, `views`, `augment` and `seed`, as in
            `cache_teacher`.

    The functions and `augment` go to the workers by Beam's pickling. A function of a module that the workers can
    import goes by its name; one of `__main__`, a lambda or a closure by its code, with all that it refers to: load the
    teacher within, rather than to refer to one.

    Returns:
        A `PCollection` of one element, the `Manifest`.

    Raises:
        ValueError: If `parts` is no integer >= 1, a function is none, or a setting is not one of these; on the workers,
            what `cache_teacher` raises.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> def make_teacher():
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, kernel_initializer="ones")])
        >>> def make_dataset():
        ...     return np.random.default_rng(0).random((100, 8), "float32")
        >>> path = tempfile.mkdtemp()
        >>> keras.config.disable_interactive_logging()  # no progress bars
        >>> with beam.Pipeline("FnApiRunner") as pipeline:
        ...     _ = pipeline | CacheTeacher(make_teacher, make_dataset, path, parts=2)
        Nothing to do: ...: what `sequential` says of 100 examples, 10 bytes each.
        >>> sorted(os.listdir(path))
        ['manifest.json', 'signals-00000.tfrecord']
    """

    def __init__(
        self,
        make_teacher: Callable[[], Any],
        make_dataset: Callable[[], Any],
        path: str | os.PathLike,
        *,
        parts: int,
        **settings: Any,
    ):
        super().__init__()
        _check(make_teacher, make_dataset, parts, settings)
        self._parts, self._path = parts, os.fspath(path)
        self._make = make_teacher, make_dataset
        self._settings = settings

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """The steps: parts, shared out, then the rest once all are done."""
        parts = [(part, self._parts) for part in range(self._parts)]
        return (
            begin
            | "Parts" >> beam.Create(parts, reshuffle=False)
            | "Share out" >> beam.Reshuffle()
            | "Write a part" >> beam.Map(_written, *self._make, self._path, self._settings)
            | "Wait for all" >> beam.CombineGlobally(beam.combiners.CountCombineFn())
            | "Finish" >> beam.Map(lambda _, *how: _written((0, 1), *how), *self._make, self._path, self._settings)
        )


def _written(
    shard: tuple[int, int],
    make_teacher: Callable[[], Any],
    make_dataset: Callable[[], Any],
    path: str,
    settings: dict[str, Any],
) -> Manifest | None:
    return cache_teacher(make_teacher(), make_dataset(), path, shard=shard, **settings)


def _check(make_teacher: Any, make_dataset: Any, parts: Any, settings: dict[str, Any]) -> None:
    for name, function in (("make_teacher", make_teacher), ("make_dataset", make_dataset)):
        if not callable(function):
            raise ValueError(
                f"`CacheTeacher`: `{name}` must be a function without arguments. Received: {function!r}. It is called "
                "on each worker."
            )
    if type(parts) is not int or parts < 1:
        raise ValueError(f"`CacheTeacher`: `parts` must be an integer >= 1. Received: parts={parts!r}.")
    unknown = sorted(set(settings) - set(cache_teacher.__kwdefaults__) | {"shard"} & set(settings))
    if unknown:
        raise ValueError(
            f"`CacheTeacher`: it has no setting {', '.join(unknown)}. Received: {settings!r}. Its settings are those "
            "of `cache_teacher`; for `shard`, give `parts`."
        )
