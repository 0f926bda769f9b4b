"""What the tests of multimodal sources share: manifests on disk, and the contents of a source."""

import csv
import json

import numpy as np
from PIL import Image
from scipy.io import wavfile

SPLITS = ("train", "validation", "test")


def write_csv(folder, rows, *, columns=None, name="examples.csv"):
    """Writes dicts as a CSV."""
    path = folder / name
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(folder, rows, *, name="examples.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_image(path, shade, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path)


def write_sound(path, samples, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, np.asarray(samples, "float32"))


def contents(dataset):
    """A dict of stacked arrays, and the labels."""
    xs, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return {name: np.stack([x[name] for x in xs]) for name in xs[0]}, np.array(labels)


def everything(source):
    return contents(source.train.concatenate(source.validation).concatenate(source.test))
