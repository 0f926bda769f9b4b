"""Augmentations that mix an example with a partner."""

import tensorflow as tf

from keras_kd.data.augmentations import MixingAugmentation
from keras_kd.data.drawing import box_around, pasted, require, restored, whole


def mixup(alpha: float = 0.2, num_classes: int | None = None) -> MixingAugmentation:
    r"""Makes an augmentation that is a weighted mean of an example and its partner.

    `λ · x + (1 - λ) · partner_x`, with `λ ~ Beta(alpha, alpha)`, and the labels alike.

    Args:
        alpha: positive; the smaller, the nearer to one of the two. Defaults to 0.2.
        num_classes: number of classes, 2 or more, needed to mix labels that are class indices.

    Returns:
        `augment(x, seed, partner_x)`, for one example `x` of any shape and dtype, a partner of the same and integers
        `seed` of shape `(2,)`; and `augment.mix_labels(y, seed, partner_y)`, for class indices or for scores of shape
        `(classes,)`. It raises ValueError if they are indices and `num_classes` is not given.

    Raises:
        TypeError: if `num_classes` is not an integer.
        ValueError: if an argument is outside its range.

    Example:
        >>> augment = mixup(alpha=1.0, num_classes=3)
        >>> x, y = augment([1.0], (0, 1), [0.0]), augment.mix_labels(2, (0, 1), 0)
        >>> float(x[0]) == float(y[2]), float(y[0] + y[2])
        (True, 1.0)

    Reference:
        Zhang, Cisse, Dauphin, Lopez-Paz. mixup: Beyond Empirical Risk Minimization. 2017. arXiv:1710.09412. The
        authors' code draws one `λ` for a batch; here each example has its own.
    """
    return MixingAugmentation("mixup", _blend, settings=_settings("mixup", alpha, num_classes), label_function=_labels)


def cutmix(
    alpha: float = 1.0, num_classes: int | None = None, image_size: tuple[int, int] | None = None
) -> MixingAugmentation:
    r"""Makes an augmentation that pastes a box of the partner into an image.

    The box has the sides `⌊√(1 - r) · height⌋` and `⌊√(1 - r) · width⌋`, with `r ~ Beta(alpha, alpha)`; every pixel is
    equally likely to be its centre, and what lies outside the image is cut off. The label is
    `λ · y + (1 - λ) · partner_y`, with `λ` the share of pixels kept, exactly.

    Args:
        alpha: positive. Defaults to 1, which makes `r` uniform.
        num_classes: number of classes, 2 or more, needed to mix labels that are class indices.
        image_size: height and width of the images, needed to mix labels: they are mixed without the image, and what
            is cut off and rounded depends on its size.

    Returns:
        `augment(x, seed, partner_x)`, for one image `x` of shape `(height, width, channels)`, a partner of the same
        shape and dtype and integers `seed` of shape `(2,)`; and `augment.mix_labels(y, seed, partner_y)`, for class
        indices or for scores of shape `(classes,)`. It raises ValueError if `image_size`, or for indices
        `num_classes`, is not given.

    Raises:
        TypeError: if `num_classes` or a side of `image_size` is not an integer.
        ValueError: if an argument is outside its range.

    Example:
        >>> import numpy as np
        >>> augment = cutmix(num_classes=2, image_size=(4, 4))
        >>> mixed = augment(np.ones((4, 4, 1)), (0, 1), np.zeros((4, 4, 1)))
        >>> float(mixed.numpy().mean()) == float(augment.mix_labels(0, (0, 1), 1)[0])
        True

    Reference:
        Yun, Han, Oh, Chun, Choe, Yoo. CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features. 2019. arXiv:1905.04899. As in the authors' code and not in the paper, labels follow the pixels kept;
        unlike there, a box of odd side is not made one pixel smaller, and each example has a box of its own.
    """
    settings = _settings("cutmix", alpha, num_classes)
    if image_size is not None:
        require(len(image_size) == 2, "cutmix", "`image_size` must be (height, width)", image_size=image_size)
        image_size = tuple(whole("cutmix", "image_size", side, least=1) for side in image_size)
    settings["image_size"] = image_size
    return MixingAugmentation("cutmix", _paste, "image", settings, label_function=_labels_by_pixels)


def _settings(owner: str, alpha: float, num_classes: int | None) -> dict[str, object]:
    require(0 < alpha < float("inf"), owner, "`alpha` must be positive", alpha=alpha)
    if num_classes is not None:
        num_classes = whole(owner, "num_classes", num_classes, least=2)
    return {"alpha": float(alpha), "num_classes": num_classes}


def _blend(x: tf.Tensor, seed: tf.Tensor, partner: tf.Tensor, alpha: float, num_classes: int | None) -> tf.Tensor:
    return restored(_weighted(x, partner, _beta(seed, alpha)), x.dtype)


def _labels(y: tf.Tensor, seed: tf.Tensor, partner_y: tf.Tensor, alpha: float, num_classes: int | None) -> tf.Tensor:
    return _mixed_labels("mixup", y, partner_y, _beta(seed, alpha), num_classes)


def _paste(
    x: tf.Tensor,
    seed: tf.Tensor,
    partner: tf.Tensor,
    alpha: float,
    num_classes: int | None,
    image_size: tuple[int, int] | None,
) -> tf.Tensor:
    require(
        image_size is None or x.shape[:2].is_compatible_with(image_size),
        "cutmix",
        f"expected an image of image_size={image_size}",
        shape=x.shape,
    )
    start, stop = _box(seed, tf.shape(x)[:2], alpha)
    return pasted(x, start, stop, tf.strided_slice(partner, start, stop))


def _labels_by_pixels(
    y: tf.Tensor,
    seed: tf.Tensor,
    partner_y: tf.Tensor,
    alpha: float,
    num_classes: int | None,
    image_size: tuple[int, int] | None,
) -> tf.Tensor:
    require(
        image_size is not None,
        "cutmix",
        "`mix_labels` needs the size of the images, as in `cutmix(..., image_size=(32, 32))`",
        image_size=image_size,
    )
    start, stop = _box(seed, tf.constant(image_size), alpha)
    pixels = image_size[0] * image_size[1]
    kept = (pixels - tf.reduce_prod(stop - start)) / pixels
    return _mixed_labels("cutmix", y, partner_y, tf.cast(kept, tf.float32), num_classes)


def _box(seed: tf.Tensor, size: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    share_seed, place_seed = tf.unstack(tf.random.split(seed))
    sides = tf.cast(size, tf.float32)
    extent = tf.cast(tf.sqrt(1 - _beta(share_seed, alpha)) * sides, tf.int32)
    centre = tf.cast(tf.random.stateless_uniform([2], place_seed) * sides, tf.int32)
    return box_around(centre, extent, size)


def _beta(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draws from Beta(alpha, alpha): the share of one of two Gamma(alpha) numbers in their sum."""
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed))
    # Where alpha is small, both numbers would often be too small for a float. Their logarithms are not:
    # Gamma(alpha) is Gamma(alpha + 1) times U^(1 / alpha), with U uniform in (0, 1].
    gamma = tf.random.stateless_gamma([2], gamma_seed, alpha=alpha + 1)
    uniform = 1 - tf.random.stateless_uniform([2], uniform_seed)
    one, other = tf.unstack(tf.math.log(gamma) + tf.math.log(uniform) * (1 / alpha))
    return tf.sigmoid(one - other)


def _weighted(x: tf.Tensor, partner: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return share * tf.cast(x, tf.float32) + (1 - share) * tf.cast(partner, tf.float32)


def _mixed_labels(
    owner: str, y: tf.Tensor, partner_y: tf.Tensor, share: tf.Tensor, num_classes: int | None
) -> tf.Tensor:
    scores, partner_scores = (_scores(owner, label, num_classes) for label in (y, partner_y))
    mixed = _weighted(scores, partner_scores, share)
    mixed.set_shape([num_classes])
    return mixed


def _scores(owner: str, y: tf.Tensor, num_classes: int | None) -> tf.Tensor:
    y = tf.convert_to_tensor(y)
    if y.shape.rank == 0 and y.dtype.is_integer:
        require(
            num_classes is not None,
            owner,
            f"`mix_labels` of class indices needs the number of classes, as in `{owner}(..., num_classes=10)`",
            num_classes=num_classes,
        )
        # Unlike tf.one_hot, which answers a label outside the classes with zeros, this raises.
        return tf.scatter_nd(tf.reshape(tf.cast(y, tf.int64), (1, 1)), [1.0], tf.constant([num_classes], tf.int64))
    require(
        y.shape.rank == 1 and y.shape.is_compatible_with([num_classes]),
        owner,
        f"`mix_labels` takes a class index or scores of shape ({num_classes or 'classes'},)",
        dtype=y.dtype.name,
        shape=y.shape,
    )
    return y
