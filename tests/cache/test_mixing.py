"""Views that mix an example with a partner: inputs and labels alike, told from the formulas of the papers."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

import keras_kd as kd
from keras_kd.cache import cache_teacher, open_cache
from tests.cache.caching import batched, check_aligned
from tests.cache.numpy_fingerprints import seeds
from tests.distiller.numpy_reference import soft_target_values
from tests.distiller.small_models import answers, compiled_distiller, mlp

COUNT, CLASSES, SIZE, VIEWS = 12, 4, 6, 2
rng = np.random.default_rng(3)
images = rng.normal(size=(COUNT, SIZE, SIZE, 1)).astype("float32")
labels = np.arange(COUNT) % CLASSES
MIXING = {
    "mixup": kd.data.mixup(alpha=1.0, num_classes=CLASSES),
    "cutmix": kd.data.cutmix(num_classes=CLASSES, image_size=(SIZE, SIZE)),
}


def on_images(width, seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Flatten(), keras.layers.Dense(width, "tanh"), keras.layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input((SIZE, SIZE, 1)), *layers])


@pytest.fixture(scope="module")
def teacher():
    return on_images(9, 1)


@pytest.fixture(scope="module", params=MIXING)
def mixed(request, teacher, tmp_path_factory):
    """An opened cache, and the augmentation that it was made with."""
    keras.config.disable_interactive_logging()
    folder, augment = tmp_path_factory.mktemp(request.param), MIXING[request.param]
    source = batched((images, labels), 5)
    cache_teacher(teacher, source, folder, dtype="float32", views=VIEWS, augment=augment)
    return request.param, open_cache(folder, source, augment=augment)


def one_pass(opened):
    batches = [(signals.x.numpy(), scores.numpy()) for signals, scores in opened]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def assert_blended(name, image, score, place, partner):
    """Every pixel and every score in the same proportion of example and partner."""
    share = score[labels[place]] if labels[place] != labels[partner] else None
    if name == "mixup" and share is not None:
        np.testing.assert_allclose(image, share * images[place] + (1 - share) * images[partner], atol=1e-6)
    if name == "cutmix":
        kept = image == images[place]
        np.testing.assert_array_equal(image[~kept], images[partner][~kept])
        assert share is None or share == pytest.approx(np.mean(kept), abs=1e-6)


def test_examples_and_labels_are_mixed_with_the_partner_that_the_seed_draws(mixed):
    """The partner stands at the seed modulo the number of examples in the block."""
    name, opened = mixed
    shares = []
    for view in range(VIEWS):
        for place, (image, score) in enumerate(zip(*one_pass(opened), strict=True)):
            partner = seeds(images, view)[place] % COUNT
            assert_blended(name, image, score, place, partner)
            expected = np.zeros(CLASSES)
            share = score[labels[place]] if labels[place] != labels[partner] else 1.0
            expected[labels[place]] += share
            expected[labels[partner]] += 1.0 - share
            np.testing.assert_allclose(score, expected, atol=1e-6)
            shares.append(share)
    assert 0.05 < np.mean(shares) < 0.95
    assert len({round(float(share), 4) for share in shares}) > COUNT / 2


def test_the_teacher_was_asked_about_the_mixture(mixed, teacher):
    _, opened = mixed
    for _ in range(VIEWS):
        check_aligned(opened, teacher, COUNT)


def test_a_student_learns_the_mixed_labels(mixed, teacher):
    _, opened = mixed
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller = compiled_distiller(on_images(5, 0), None, compile_with={"loss": loss, "run_eagerly": True})
    for signals, scores in opened:
        said = np.float64(answers(distiller.student, signals.x))
        logged = distiller.train_on_batch(signals, scores, return_dict=True)
        expected = -np.sum(scores.numpy() * log_softmax(said, axis=-1), axis=-1).mean()
        assert float(logged["student_loss"]) == pytest.approx(expected, rel=1e-5)
        distilled = soft_target_values(answers(teacher, signals.x), said, 4.0).mean()
        assert float(logged["soft_targets"]) == pytest.approx(distilled, rel=1e-4)
        distiller.reset_metrics()


def test_inputs_alone_are_mixed_too(teacher, tmp_path):
    augment = MIXING["mixup"]
    cache_teacher(teacher, images, tmp_path, dtype="float32", augment=augment)
    (batch,) = next(iter(open_cache(tmp_path, batched(images, COUNT), augment=augment)))
    assert np.abs(batch.x - images).max() > 0.1
    check_aligned(open_cache(tmp_path, batched(images, COUNT), augment=augment), teacher, COUNT)


def test_sample_weights_are_those_of_the_example(teacher, tmp_path):
    augment, weights = MIXING["mixup"], np.arange(COUNT, dtype="float32")
    cache_teacher(teacher, images, tmp_path, augment=augment)
    opened = open_cache(tmp_path, (images, labels, weights), augment=augment)
    assert [float(weight) for _, _, weight in opened] == weights.tolist()


def test_partners_come_from_the_examples_own_block(tmp_path):
    """Of 300 examples, 256 are the first block and 44 the second."""
    x = np.arange(300, dtype="float32")[:, None] * np.ones((1, 4), "float32")
    augment, teacher = kd.data.mixup(alpha=1.0), mlp(5, seed=1)
    cache_teacher(teacher, x, tmp_path, dtype="float32", augment=augment)
    opened = open_cache(tmp_path, x, augment=augment).batch(300)
    seen = check_aligned(opened, teacher, 300, atol=1e-5)
    drawn = seeds(x, 0)
    partner = [drawn[place] % 256 if place < 256 else 256 + drawn[place] % 44 for place in range(300)]
    low, high = np.minimum(partner, np.arange(300)), np.maximum(partner, np.arange(300))
    assert np.all(seen[:, 0] >= low - 1e-4)
    assert np.all(seen[:, 0] <= high + 1e-4)
