"""Examples with several modalities, image, audio and text: from manifests, arrays, TFDS sets paired by class, a toy."""

from keras_kd.data.multimodal.arrays import from_arrays
from keras_kd.data.multimodal.manifest import from_manifest
from keras_kd.data.multimodal.modalities import Audio, Image, Text
from keras_kd.data.multimodal.pairing import pair_by_class
from keras_kd.data.multimodal.source import MultimodalSource, load_vocabulary
from keras_kd.data.multimodal.spoken import keep_energy, spoken_digits, spoken_mnist
from keras_kd.data.multimodal.toy import tones_and_digits
from keras_kd.data.multimodal.words import number_words

__all__ = [
    "Audio",
    "Image",
    "MultimodalSource",
    "Text",
    "from_arrays",
    "from_manifest",
    "keep_energy",
    "load_vocabulary",
    "number_words",
    "pair_by_class",
    "spoken_digits",
    "spoken_mnist",
    "tones_and_digits",
]
