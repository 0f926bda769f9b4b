import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_kd.data import cutmix, mixup
from tests.data.drawn import check_text, over_seeds

RNG = np.random.default_rng(3)
IMAGE, PARTNER = RNG.uniform(size=(2, 11, 16, 3)).astype("float32")
SEEDS = [(index, 5) for index in range(60)]


def test_mixup_weighs_examples_as_labels():
    augment = mixup(alpha=1.0, num_classes=4)
    for seed in SEEDS:
        label = augment.mix_labels(3, seed, 1).numpy()
        share = label[3]
        np.testing.assert_array_equal(label, np.float32([0, 1 - share, 0, share]))
        mixed = share.astype("float64") * IMAGE + (1 - share.astype("float64")) * PARTNER
        np.testing.assert_allclose(augment(IMAGE, seed, PARTNER), mixed, atol=1e-6)
        pixels = [(image * 255).astype("uint8") for image in (IMAGE, PARTNER)]
        as_bytes = augment(pixels[0], seed, pixels[1]).numpy()
        assert as_bytes.dtype == np.uint8
        np.testing.assert_allclose(as_bytes, share * pixels[0] + (1 - share) * pixels[1], atol=0.5001)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha):
    augment = mixup(alpha=alpha, num_classes=2)
    shares = over_seeds(lambda seed: augment.mix_labels(0, seed, 1)[0], 1000)
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_a_tiny_alpha_takes_one_or_the_other():
    augment = mixup(alpha=1e-3, num_classes=2)
    shares = over_seeds(lambda seed: augment.mix_labels(0, seed, 1)[0], 400)
    whole = np.minimum(shares, 1 - shares) < 1e-3
    assert whole.mean() > 0.97
    assert abs(shares[whole].mean() - 0.5) < 4 * 0.5 / np.sqrt(whole.sum())


@pytest.mark.parametrize("augment", [mixup(1.0, num_classes=4), cutmix(1.0, num_classes=4, image_size=(11, 16))])
def test_labels_of_one_class_scores_and_any_integer_dtype(augment):
    y, partner_y = np.float32([0.5, 0.25, 0.25, 0]), np.float32([0, 0, 0, 1])
    for seed in SEEDS[:10]:
        share = float(augment.mix_labels(np.uint8(0), seed, np.int32(1))[0])
        np.testing.assert_allclose(augment.mix_labels(2, seed, 2), [0, 0, 1, 0], atol=1e-7)
        mixed = augment.mix_labels(y, seed, partner_y)
        assert (mixed.dtype, mixed.shape) == (tf.float32, (4,))
        np.testing.assert_allclose(mixed, share * y + (1 - share) * partner_y, atol=1e-7)
        np.testing.assert_allclose(augment.mix_labels(0, seed, partner_y), [share, 0, 0, 1 - share], atol=1e-7)


def test_labels_in_a_dataset_have_the_bits_and_the_shape_of_eager_ones():
    for augment in (mixup(num_classes=4), cutmix(num_classes=4, image_size=(11, 16))):
        labels = tf.data.Dataset.from_tensor_slices((np.arange(60) % 4, SEEDS))
        mixed = labels.map(lambda y, seed, augment=augment: augment.mix_labels(y, seed, 0))
        assert mixed.element_spec == tf.TensorSpec((4,), tf.float32)
        for (y, seed), label in zip(labels, mixed, strict=True):
            np.testing.assert_array_equal(label, augment.mix_labels(y, seed, 0))


def pasted_boxes(height, width, count, alpha=1.0):
    """Where views show the partner, one mask each, and the share of the label that is the image's."""
    augment = cutmix(alpha, num_classes=2, image_size=(height, width))
    one, other = np.zeros((height, width, 1), "uint8"), np.ones((height, width, 1), "uint8")
    masks = over_seeds(lambda seed: augment(one, seed, other), count)[..., 0] == 1
    return masks, over_seeds(lambda seed: augment.mix_labels(0, seed, 1), count)


def test_cutmix_pastes_the_partner_in_a_box_and_labels_count_the_pixels_exactly():
    masks, labels = pasted_boxes(11, 16, 300)
    for mask, label in zip(masks, labels, strict=True):
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        np.testing.assert_array_equal(mask, np.outer(rows, columns))
        for along in (rows, columns):
            assert np.abs(np.diff(along.astype(int))).sum() <= 2
        kept = np.float32((~mask).sum() / mask.size)
        np.testing.assert_array_equal(label, [kept, 1 - kept])


def test_cutmix_takes_pixels_of_the_partner_from_the_same_place():
    augment = cutmix(num_classes=2, image_size=(11, 16))
    masks, _ = pasted_boxes(11, 16, 60)
    for index, mask in enumerate(masks):
        mixed = augment(IMAGE, (index, 1), PARTNER)
        np.testing.assert_array_equal(mixed, np.where(mask[..., None], PARTNER, IMAGE))


def sampled_boxes(height, width, count, alpha):
    """Boxes drawn as the paper draws them, by another generator."""
    rng = np.random.default_rng(4)
    for share in rng.beta(alpha, alpha, count):
        mask = np.zeros((height, width), bool)
        tall, wide = int(height * np.sqrt(1 - share)), int(width * np.sqrt(1 - share))
        top, left = rng.integers(height) - tall // 2, rng.integers(width) - wide // 2
        mask[max(top, 0) : max(top + tall, 0), max(left, 0) : max(left + wide, 0)] = True
        yield mask


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_boxes_are_distributed_as_those_of_the_paper(alpha):
    masks, _ = pasted_boxes(11, 16, 1500, alpha)
    expected = np.array(list(sampled_boxes(11, 16, 1500, alpha)))
    areas, expected_areas = masks.sum(axis=(1, 2)), expected.sum(axis=(1, 2))
    assert stats.ks_2samp(areas, expected_areas).pvalue > 0.001
    # Where boxes fall, pixel by pixel: 5 standard errors of the difference of two shares of 1,500.
    assert np.abs(masks.mean(axis=0) - expected.mean(axis=0)).max() < 5 * np.sqrt(2 * 0.25 / 1500)


def test_a_label_outside_the_classes_is_refused():
    for label in (-1, 4):
        with pytest.raises(tf.errors.InvalidArgumentError, match="does not index into shape"):
            mixup(num_classes=4).mix_labels(label, (0, 1), 0)


@pytest.mark.parametrize(
    ("made", "error", "text"),
    [
        (lambda: mixup(0), ValueError, "`mixup`: `alpha` must be positive. Received: alpha=0."),
        (lambda: cutmix(float("nan")), ValueError, "`cutmix`: `alpha` must be positive. Received: alpha=nan."),
        (
            lambda: mixup(num_classes=1),
            ValueError,
            "`mixup`: `num_classes` must be 2 or more. Received: num_classes=1.",
        ),
        (
            lambda: cutmix(image_size=(0, 4)),
            ValueError,
            "`cutmix`: `image_size` must be 1 or more. Received: image_size=0.",
        ),
        (
            lambda: cutmix(image_size=(4, 4, 3)),
            ValueError,
            "`cutmix`: `image_size` must be (height, width). Received: image_size=(4, 4, 3).",
        ),
        (
            lambda: mixup().mix_labels(1, (0, 1), 2),
            ValueError,
            "`mixup`: `mix_labels` of class indices needs the number of classes, as in `mixup(..., num_classes=10)`. "
            "Received: num_classes=None.",
        ),
        (
            lambda: cutmix(num_classes=3).mix_labels(1, (0, 1), 2),
            ValueError,
            "`cutmix`: `mix_labels` needs the size of the images, as in `cutmix(..., image_size=(32, 32))`. "
            "Received: image_size=None.",
        ),
        (
            lambda: mixup(num_classes=3).mix_labels([0.5, 0.5], (0, 1), 2),
            ValueError,
            "`mixup`: `mix_labels` takes a class index or scores of shape (3,). "
            "Received: dtype='float32', shape=TensorShape([2]).",
        ),
        (
            lambda: mixup().mix_labels(1.0, (0, 1), 2.0),
            ValueError,
            "`mixup`: `mix_labels` takes a class index or scores of shape (classes,). "
            "Received: dtype='float32', shape=TensorShape([]).",
        ),
        (
            lambda: cutmix(image_size=(32, 32))(IMAGE, (0, 1), PARTNER),
            ValueError,
            "`cutmix`: expected an image of image_size=(32, 32). Received: shape=TensorShape([11, 16, 3]).",
        ),
        (
            lambda: mixup()(IMAGE, (0, 1), PARTNER[..., :1]),
            ValueError,
            "`mixup`: expected a partner of the example's shape and dtype. Received: "
            "x=(TensorShape([11, 16, 3]), 'float32'), partner_x=(TensorShape([11, 16, 1]), 'float32').",
        ),
    ],
)
def test_what_cannot_be_is_refused(made, error, text):
    check_text(error, made, text)
