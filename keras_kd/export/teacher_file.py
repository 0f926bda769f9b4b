"""What the teacher would be on the phone: its own TFLite file, measured as the student's are, and not kept."""

import gzip
from pathlib import Path
from typing import Any

import keras

from keras_kd.export.examples import named_inputs
from keras_kd.export.parity import Answers, Tally
from keras_kd.export.report import ExportedFile
from keras_kd.export.serving import Serving, float32_compute
from keras_kd.export.tflite import convert
from keras_kd.export.timing import host_figures
from keras_kd.litert import LiteRTFile
from keras_kd.teachers import Ensemble, Teacher

NAME = "teacher.tflite"


class TeacherFile:
    """The file of one teacher, counted batch by batch.

    Args:
        teacher: one Keras model without `preprocess`, or a `.tflite` file.
        x: the inputs of a batch, the teacher's among them.
        folder: where to write the file for a while.

    Raises:
        ValueError: if the teacher has no such file; the text says why.
    """

    def __init__(self, teacher: Teacher | Ensemble, x: Any, folder: Path):
        self._teacher = _alone(teacher)
        self._tally = Tally()
        self._example: dict[str, Any] = {}
        written = getattr(self._teacher.model, "_source", None)
        if not getattr(self._teacher.model, "opaque", False):
            self._teacher.build(x)
            self._path = folder / NAME
            serving = _convert(self._teacher.model, self._path)
            self._specs, self._names = keras.tree.flatten(serving.inputs), serving.output_names
        elif written is not None and written.suffix == ".tflite":
            self._path, self._specs, self._names = written, None, None
        else:
            raise ValueError("it is no Keras model")
        self._file = LiteRTFile(self._path, "`teacher`")

    def add(self, said: Answers) -> None:
        """Run the file on one batch.

        Args:
            said: what student and teacher said of it.
        """
        named = named_inputs(self._teacher.inputs_for(said.x), self._specs or list(self._file.real_specs.values()))
        if not self._example:
            size = self._file.batch_size or 1
            self._example = {name: array[[0] * size] for name, array in named.items()}
        outputs = self._file.run_real(named)
        reference = dict(zip(self._names or sorted(outputs), said.teacher_outputs, strict=True))
        self._tally.add(reference, outputs, said.labels)

    def figures(self) -> ExportedFile:
        """Return what was counted, with size and costs on this host."""
        content = self._path.read_bytes()
        return ExportedFile(
            Path(NAME),
            "tflite",
            "float32",
            len(content),
            gzip_bytes=len(gzip.compress(content)),
            batch_size=self._file.batch_size,
            **self._tally.figures(),
            **host_figures(self._path, self._example),
        )


def _alone(teacher: Teacher | Ensemble) -> Teacher:
    if len(teacher.members) > 1:
        raise ValueError("there are several")
    (alone,) = teacher.members
    if alone.preprocess is not None:
        raise ValueError("its `preprocess` is no part of the model")
    return alone


def _convert(model: keras.Layer, path: Path) -> Serving:
    if not isinstance(model, keras.Model):
        raise ValueError("it is no Keras model")
    try:
        with float32_compute(model):
            conversion = convert(model, ["float32"])
    except Exception as error:  # the converter, and layers in a trace, raise all kinds of errors
        text = " ".join(str(error).split()).rpartition("Received: ")[2]
        raise ValueError(f"it cannot be converted: {text[:80]}") from error
    path.write_bytes(conversion.files["float32"])
    return conversion.serving
