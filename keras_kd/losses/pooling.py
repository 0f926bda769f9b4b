"""Features pooled to a smaller grid, whatever the two sizes."""

from keras import ops


def pooled(features, sizes, reduce):
    """`(batch, places..., channels)` in `sizes` cells along the axes of its places.

    Cell i of n covers the places `floor(i · length / n)` to `ceil((i + 1) · length / n)`, so that
    cells of a length that n does not divide overlap and leave nothing out. `reduce` is `ops.max` or
    `ops.mean`, which may take one axis after the other.
    """
    for axis, size in enumerate(sizes, start=1):
        features = _pooled_along(features, axis, size, reduce)
    return features


def _pooled_along(features, axis, size, reduce):
    length, before = features.shape[axis], (slice(None),) * axis
    if length == size:
        return features
    cells = (slice(i * length // size, -(-(i + 1) * length // size)) for i in range(size))
    return ops.stack([reduce(features[(*before, cell)], axis=axis) for cell in cells], axis=axis)
