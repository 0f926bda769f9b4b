"""What a teacher says, computed once, kept on disk, and given back example by example and view by view."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_kd.cache.reading import open_cache
    from keras_kd.cache.writing import cache_teacher

__all__ = ["cache_teacher", "open_cache"]

_HOMES = {"cache_teacher": "keras_kd.cache.writing", "open_cache": "keras_kd.cache.reading"}


def __getattr__(name: str) -> Any:
    # Most programs need neither, and `import keras_kd` is to cost little.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
