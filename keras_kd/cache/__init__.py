"""What a teacher says, computed once, kept on disk, and given back example by example and view by view."""

from keras_kd.cache.reading import open_cache
from keras_kd.cache.writing import cache_teacher

__all__ = ["cache_teacher", "open_cache"]
