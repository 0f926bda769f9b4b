"""The examples of `keras-kd multimodal`: a manifest that is opened, and what of it a model sees."""

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import data
from keras_kd.data.multimodal import Audio, MultimodalSource, Text, from_manifest, load_vocabulary, tones_and_digits
from keras_kd.data.multimodal.source import SPLITS
from keras_kd.export.serving import input_specs
from keras_kd.modalities.branches import speech_front_end
from keras_kd.modalities.presence import kept, presence_key
from keras_kd.whole_files import whole, write_text

TOY = "toy"
# Of the spectrogram: 256 and 128 samples at 8 kHz.
_FRAME_SECONDS, _HOP_SECONDS = 0.032, 0.016


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Adds what says which examples there are, and in which form."""
    parser.add_argument(
        "--manifest",
        required=True,
        metavar="FILE",
        help="a .csv or .jsonl of the columns image, audio, text or text_file, label, split, a path in each cell (the "
        f"text itself under `text`); or `{TOY}`, a small embedded set of digits that are seen, dialled and written",
    )
    parser.add_argument(
        "--root", metavar="DIR", help="folder that paths start from and may not leave (default: the manifest's)"
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count the rows that cannot be used")
    parser.add_argument("--image", metavar="HxWxC", help="size that images are brought to (default 28x28x1)")
    parser.add_argument("--rate", type=int, metavar="HZ", help="samples per second of audio (default 8000)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of audio (default 1.0)")
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--text-length", type=int, metavar="N", help="characters of text (default 32)")
    texts.add_argument(
        "--vocabulary", metavar="V.json", help="that of a teacher or student which takes text, as a run writes it"
    )
    parser.add_argument(
        "--mel",
        choices=("inside", "outside"),
        default="inside",
        help="whether models take the waveform, or its log-mel spectrogram (default inside)",
    )


@dataclass(frozen=True)
class Examples:
    """A source in the form that models take.

    Attributes:
        source: The source.
        modalities: By name, what `fusion_model` is to be told of it.
        front_end: Of audio, in the models or before them.
        splits: Single examples by split. Beside each modality `"<name>_present"`.
    """

    source: MultimodalSource
    modalities: Mapping[str, Any]
    front_end: Any
    splits: Mapping[str, tf.data.Dataset]

    def batches(self, split: str, modalities: Sequence[str], **form: Any) -> tf.data.Dataset:
        """Batches, by `data.pipeline`, of the examples that have at least one of the modalities.

        Raises:
            ValueError: If there is none.
        """
        examples = self.splits[split]
        if self.source.has_missing and set(modalities) != set(self.modalities):
            examples = examples.filter(lambda x, y: tf.reduce_any([x[presence_key(name)] for name in modalities]))
            count = int(examples.reduce(np.int64(0), lambda total, _: total + 1))
            if not count:
                raise ValueError(f"no {split} example of {self.source.name} has {' or '.join(modalities)}. Add some.")
            examples = examples.apply(tf.data.experimental.assert_cardinality(count))
        return data.pipeline(examples, **form)

    def keys_of(self, model: keras.Model, role: str, named: Sequence[str] | None = None) -> list[str]:
        """What a model takes, in its order.

        Args:
            model: A model.
            role: "teacher" or "student", for the text of errors.
            named: The modality of a model with a single input, whatever that is called.

        Raises:
            ValueError: If the model does not fit the examples.
        """
        outputs = getattr(model, "outputs", None)
        if not outputs:
            raise ValueError(
                f"the {role} `{model.name}` does not tell its shapes. Save a Functional or Sequential model, or distil "
                "it in Python."
            )
        if len(outputs) > 1:
            raise ValueError(f"the {role} `{model.name}` has several outputs. Distil it in Python.")
        if outputs[0].shape[-1] != self.source.num_classes:
            raise ValueError(
                f"the {role} `{model.name}` has {outputs[0].shape[-1]} classes, but {self.source.name} has "
                f"{self.source.num_classes}."
            )
        takes = {spec.name: spec.shape[1:] for spec in keras.tree.flatten(input_specs(model))}
        if named is not None and len(named) == len(takes) == 1:
            takes = dict(zip(named, takes.values(), strict=True))
        for name, shape in takes.items():
            self._check_input(f"the {role} `{model.name}`", name, shape)
        return list(takes)

    def _check_input(self, owner: str, name: str, shape: tf.TensorShape) -> None:
        available = self.splits["train"].element_spec[0]
        if name not in available:
            raise ValueError(
                f"{owner} takes {name!r}, but the modalities of {self.source.name} are {', '.join(self.modalities)}. "
                "Give its inputs such names, or add what it lacks."
            )
        if not available[name].shape.is_compatible_with(shape):
            raise ValueError(
                f"{owner} takes {name!r} of shape {tuple(shape)}, but it is {tuple(available[name].shape)} here. "
                "Change that by --image, --rate, --seconds, --text-length or --mel."
            )


def open_examples(options: argparse.Namespace) -> Examples:
    """Opens what the options of `add_data_options` name.

    Raises:
        ValueError: If it does not exist or cannot be used.
    """
    source = _source(options)
    modalities, front_end, outside = dict(source.modalities), True, {}
    for name, spec in source.modalities.items():
        if isinstance(spec, Audio):
            frame, hop = (round(seconds * spec.rate) for seconds in (_FRAME_SECONDS, _HOP_SECONDS))
            front_end = speech_front_end(spec.rate, frame=frame, hop=hop)
            front_end.build((None, spec.samples))
            if options.mel == "outside":
                modalities[name] = front_end.compute_output_shape((None, spec.samples))[1:]
                outside[name] = front_end

    def prepare(x: Mapping[str, tf.Tensor], y: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        x = {**{presence_key(name): tf.constant(True) for name in modalities}, **x}
        for name, layer in outside.items():
            # Of one example; and what is absent is zeros, not the spectrogram of silence.
            x[name] = kept(layer(x[name][None]), x[presence_key(name)][None])[0]
        return x, y

    splits = {split: getattr(source, split).map(prepare, tf.data.AUTOTUNE) for split in SPLITS}
    return Examples(source, modalities, front_end, splits)


def tell_skipped(source: MultimodalSource, out: Path, shown: int = 5) -> None:
    """Prints how many rows were left out and the first of them, and writes all to `skipped.txt`."""
    write_text(out / "skipped.txt", "".join(f"{line}\n" for line in source.skipped))
    print(f"Bad rows left out: {len(source.skipped)}, listed in {out / 'skipped.txt'}.")
    for line in source.skipped[:shown]:
        print(f"  {line}")


def _source(options: argparse.Namespace) -> MultimodalSource:
    if options.manifest == TOY:
        own = ("root", "skip_bad", "image", "rate", "seconds", "text_length", "vocabulary")
        if given := [f"--{name.replace('_', '-')}" for name in own if getattr(options, name) not in (None, False)]:
            raise ValueError(f"{', '.join(given)} are for manifests of files; the {TOY} has a form of its own.")
        return tones_and_digits()
    seconds = 1.0 if options.seconds is None else options.seconds
    if not 0 < seconds < math.inf:
        raise ValueError(f"--seconds must be more than 0. Received: {seconds:g}")
    try:
        return from_manifest(
            options.manifest,
            image=_size("28x28x1" if options.image is None else options.image),
            audio=(8000 if options.rate is None else options.rate, seconds),
            text=_text(options),
            root=options.root,
            skip_bad=options.skip_bad,
        )
    except ValueError as error:
        text = str(error).replace("by `skip_bad=True`", "by --skip-bad").replace("as `root`", "by --root")
        raise ValueError(text) from error


def _size(text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)x([13])", text)
    if not found:
        raise ValueError(f"--image must be HxWxC, C 1 or 3, as in 28x28x1. Received: {text}")
    return tuple(map(int, found.groups()))


def _text(options: argparse.Namespace) -> int | Text:
    if options.vocabulary is None:
        return 32 if options.text_length is None else options.text_length
    texts = load_vocabulary(options.vocabulary)
    if "text" not in texts:
        raise ValueError(f"--vocabulary must be that of `text`. Received: {options.vocabulary}, of {', '.join(texts)}")
    return texts["text"]


def write_vocabulary(source: MultimodalSource, out: Path) -> list[str]:
    """Writes `vocabulary.json` where there is text; names of what was written."""
    if not any(isinstance(spec, Text) for spec in source.modalities.values()):
        return []
    with whole(out / "vocabulary.json") as file:
        source.save_vocabulary(file)
    return ["vocabulary.json"]
