"""Digits seen, spoken and written: `spoken_mnist`, and the sets that it is made of."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_kd.data.drawing import require, whole, within
from keras_kd.data.loading import load
from keras_kd.data.multimodal.modalities import Audio
from keras_kd.data.multimodal.pairing import pair_by_class
from keras_kd.data.multimodal.source import SPLITS, MultimodalSource
from keras_kd.data.multimodal.words import LANGUAGES, number_words
from keras_kd.data.source import Source

_RATE = 8000


def spoken_mnist(
    data_dir: str | os.PathLike | None = None,
    *,
    per_class: tuple[int, int, int] = (1000, 100, 200),
    image_energy: float = 0.25,
    seconds: float = 1.0,
    fold: int = 0,
    languages: Sequence[str] = LANGUAGES,
    misspelling: float = 0.1,
    length: int = 16,
    seed: int = 0,
) -> MultimodalSource:
    """Pairs TFDS `mnist` and `spoken_digit` and number words by class, in the way of audiovisual MNIST.

    Test, validation and training share no image, no speaker and no draw of misspellings.

    Args:
        data_dir: where TFDS keeps its sets. Defaults to TFDS's own rule.
        per_class: how many examples of each digit there are in training, validation and test.
        image_energy: share of the images' energy that is kept, see `keep_energy`. Defaults to 0.25, as published,
            which makes them hard to read; 1 leaves them as they are.
        seconds: length of a recording, which is cut or padded.
        fold: which speakers are for test and validation, see `spoken_digits`.
        languages: languages of the words, see `number_words`.
        misspelling: how often letters are hit, see `number_words`.
        length: number of characters of a word.
        seed: what pairs and words are drawn from.

    Returns:
        The `MultimodalSource` of "image" (28, 28, 1), "audio" at 8 kHz and "text".

    Raises:
        ValueError: if an argument is outside its range.
        OSError: if TFDS can neither find the two sets on disk nor prepare them.

    Reference:
        Vielzeuf, Lechervy, Pateux, Jurie. CentralNet: a Multilayer Approach for Multimodal Fusion. 2018.
        arXiv:1808.07275. There, the voices are those of TIDIGITS under the noise of ESC-50, given as spectrograms, and
        there is no text; here they are those of the Free Spoken Digit Dataset, without noise, from speakers that
        training has not heard.
    """
    samples = round(_RATE * within("spoken_mnist", "seconds", seconds, 1 / _RATE))
    images = keep_energy(load("mnist", data_dir=data_dir), image_energy)

    def words(labels: np.ndarray, split: str) -> list[str]:
        draw = (seed, SPLITS.index(split))
        return number_words(labels, languages=languages, misspelling=misspelling, seed=draw)

    return pair_by_class(
        {"image": images, "audio": spoken_digits(data_dir, samples=samples, fold=fold), "text": words},
        per_class=per_class,
        modalities={"audio": Audio(samples, _RATE)},
        length=length,
        seed=seed,
        name="spoken_mnist",
    )


def spoken_digits(data_dir: str | os.PathLike | None = None, *, samples: int = 8000, fold: int = 0) -> Source:
    """Opens TFDS `spoken_digit` split by speaker, whom the names of its files tell.

    Of the speakers in alphabetical order, turned by `fold`, the first fifth is for test, the next for validation and
    the rest for training: one, one and four of the six there are. `keras_kd.data.load("spoken_digit")` instead splits
    by recording.

    Args:
        data_dir: where TFDS keeps its sets. Defaults to TFDS's own rule.
        samples: length that recordings are cut or padded to, at 8 kHz.
        fold: how many speakers to turn by, from 0. Testing on each in turn takes as many folds as there are speakers.

    Returns:
        The `Source`, of int16 audio.

    Raises:
        ValueError: if `samples` or `fold` is outside its range.
        OSError: if TFDS can neither find the set on disk nor prepare it.
    """
    import tensorflow_datasets as tfds

    whole("spoken_digits", "samples", samples, 1)
    source = load("spoken_digit", data_dir=data_dir)
    stored = tfds.builder("spoken_digit", data_dir=data_dir).as_dataset(split="train", shuffle_files=False)
    speakers, sounds, labels = [], [], []
    for example in stored.as_numpy_iterator():
        speakers.append(example["audio/filename"].decode().split("_")[1])
        sound = example["audio"][:samples].astype("int16")
        sounds.append(np.pad(sound, (0, samples - len(sound))))
        labels.append(example["label"])
    parts = split_speakers(speakers, fold)
    sounds, labels = np.stack(sounds), np.array(labels, "int64")
    rows = {split: np.isin(speakers, parts[split]) for split in SPLITS}
    splits = {split: tf.data.Dataset.from_tensor_slices((sounds[row], labels[row])) for split, row in rows.items()}
    return dataclasses.replace(source, input_shape=(samples,), **splits)


def split_speakers(speakers: Sequence[str], fold: int) -> dict[str, list[str]]:
    """Divides speakers into three splits.

    Args:
        speakers: a name for each recording.
        fold: how many speakers to turn by.

    Returns:
        Names by split.

    Raises:
        ValueError: if there are fewer than three speakers, or `fold` is outside its range.

    Example:
        >>> split_speakers(["theo", "lucas", "jackson", "theo"], fold=1)
        {'test': ['lucas'], 'validation': ['theo'], 'train': ['jackson']}
    """
    names = sorted(set(speakers))
    require(len(names) > 2, "spoken_digits", "there must be three speakers or more", speakers=names)
    require(fold in range(len(names)), "spoken_digits", f"`fold` must be from 0 to {len(names) - 1}", fold=fold)
    names = names[fold:] + names[:fold]
    fifth = max(1, len(names) // 5)
    return {"test": names[:fifth], "validation": names[fifth : 2 * fifth], "train": names[2 * fifth :]}


def keep_energy(source: Source, energy: float) -> Source:
    """Takes the finer detail out of images: what is left are their first principal components.

    `mean + (x - mean) V Vᵀ`, clipped to [0, 1]. The columns of `V` are the fewest first principal components of the
    training images whose variances add up to the share `energy` of the whole.

    Args:
        source: images of one size.
        energy: share of the variance, above 0 and up to 1, which leaves the images as they are.

    Returns:
        The `Source`, its images float32 in [0, 1].

    Raises:
        ValueError: if `energy` is outside its range or the source is not one of images of one size.
    """
    require(0 < energy <= 1, "keep_energy", "`energy` must be above 0 and up to 1", energy=energy)
    shape = source.input_shape
    fits = source.kind == "image" and None not in shape
    require(fits, "keep_energy", "`source` must be images of one size", kind=source.kind, input_shape=shape)
    dtype = source.train.element_spec[0].dtype
    scale = 1 / dtype.max if dtype.is_integer else 1.0

    def scaled(x: tf.Tensor) -> tf.Tensor:
        return tf.cast(x, tf.float32) * scale

    if energy == 1:
        function = scaled
    else:
        batches = source.train.map(lambda x, _: scaled(x)).batch(1024).as_numpy_iterator()
        mean, directions = _principal(np.concatenate(list(batches)).reshape(-1, int(np.prod(shape))), energy)
        # Through the few components and back: their product, of the size of an image squared, would cost far more.
        forth, back = tf.constant(directions), tf.constant(directions.T)

        def function(x: tf.Tensor) -> tf.Tensor:
            centred = tf.reshape(scaled(x), (1, -1)) - mean
            return tf.clip_by_value(tf.reshape(centred @ forth @ back + mean, shape), 0.0, 1.0)

    splits = {split: getattr(source, split).map(lambda x, y: (function(x), y), tf.data.AUTOTUNE) for split in SPLITS}
    return dataclasses.replace(source, **splits)


def _principal(images: np.ndarray, energy: float) -> tuple[np.ndarray, np.ndarray]:
    mean = images.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(images, rowvar=False))
    variances, directions = variances[::-1], directions[:, ::-1]
    count = np.searchsorted(np.cumsum(variances), energy * variances.sum()) + 1
    return mean, directions[:, :count].astype("float32")
