"""A cache of five small shards, and a program that writes it in processes which come to grief.

Run with a list of cases as JSON: each is written by a process of its own, all forked from this one, which has imported
TensorFlow and run nothing. Prints, as JSON, how each of them ended.
"""

import json
import os
import resource
import signal
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from keras_kd.cache import cache_teacher, examples, planning

EXAMPLES, BLOCK, BLOCKS, SHARDS = 50, 4, 3, 5
STARTS = list(range(0, EXAMPLES, BLOCK))
x = np.random.default_rng(0).random((EXAMPLES, 3), "float32")
x[:, 0] = np.arange(EXAMPLES)


@contextmanager
def small_shards(views=1):
    """Four examples in a block, three blocks in a shard."""
    with (
        mock.patch.object(examples, "BLOCK", BLOCK),
        mock.patch.object(planning, "ROWS_PER_SHARD", BLOCK * BLOCKS * views),
    ):
        yield


def source(kind="arrays", count=EXAMPLES):
    """The same examples in several clothes."""
    dataset = tf.data.Dataset.from_tensor_slices(x[:count])
    if kind.startswith("ids"):
        names = tf.constant([f"train-{place}" for place in range(count)])
        dataset = tf.data.Dataset.from_tensor_slices({"image": x[:count], "tfds_id": names})
    if "batched" in kind:
        dataset = dataset.batch(7)
    if "uncounted" in kind:
        dataset = dataset.filter(lambda _: True)
    return x[:count] if kind == "arrays" else dataset


def shaken(x, seed):
    """A view that leaves the number of the example as it is."""
    shift = tf.constant([0.0, 1.0, 1.0]) * tf.random.stateless_uniform((3,), seed)
    return keras.tree.map_structure(lambda leaf: leaf + shift, x)


class NotingTeacher:
    """Answers, and notes the first of the examples it is asked about, one line for each call.

    Args:
        notes: The file to note in.
        at: The block at whose first view something happens, once greetings are over.
        act: What happens.
    """

    __name__ = "noting"

    def __init__(self, notes=os.devnull, at=None, act=None):
        self._notes, self._at, self._act = notes, at, act

    def __call__(self, x):
        x = x["image"] if isinstance(x, dict) else x
        with open(self._notes, "a", encoding="utf-8") as file:
            print(float(x[0, 0]), file=file)
        answers = np.stack([x[:, 0] - x[:, 1], 2 * x[:, 1], x[:, 2] ** 2], axis=1)
        if self._act is not None and x[0, 0] == self._at:
            return self._act(answers)
        return answers


def _starts(notes):
    """The blocks that a process asked about, less the made-up ones."""
    numbers = [float(line) for line in Path(notes).read_text("utf-8").splitlines()]
    return [int(number) for number in numbers if number in STARTS]


@cache
def greetings():
    """How often a teacher is shown the first block before anything is written, to learn what it answers."""
    with TemporaryDirectory() as folder:
        for notes in ("first", "second"):
            write(Path(folder) / "cache", Path(folder) / notes)
        return len(_starts(Path(folder) / "second"))  # there was nothing left to write


def asked(notes):
    """The blocks that a process asked about to write the answers down."""
    starts = _starts(notes)
    greeted = greetings()
    assert starts[:greeted] == [0] * greeted
    return starts[greeted:]


def die(_=None):
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(answers):
    os.kill(os.getpid(), signal.SIGINT)
    return answers


def fail(_):
    raise RuntimeError("The teacher is out.")


def nan_in_the_second(answers):
    answers[1, 2] = np.nan
    return answers


ACTS = {"die": die, "interrupt": interrupt, "fail": fail, "nan": nan_in_the_second}


def dying_at_rename(number, before):
    """A rename that is the last thing the process does, or the first that it does not."""
    replace, done = os.replace, [0]

    def replaced(*paths):
        done[0] += 1
        if done[0] == number and before:
            die()
        replace(*paths)
        if done[0] == number:
            die()

    return mock.patch.object(os, "replace", replaced)


def write(folder, notes=os.devnull, *, teacher=None, at=None, act=None, kind="arrays", views=1, count=EXAMPLES, **more):
    """Writes the cache, or goes on with it."""
    teacher = teacher or NotingTeacher(notes, at, ACTS.get(act))
    more = {"augment": shaken, **more} if views > 1 else more
    with small_shards(views):
        return cache_teacher(teacher, source(kind, count), folder, views=views, **{"dtype": "float32", **more})


def files_of(folder):
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _come_to_grief(case):
    bytes_per_file = case.pop("bytes_per_file", None)
    if bytes_per_file:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))
    if case.pop("as_nobody", False) and os.getuid() == 0:
        write(case.pop("warm_up"))  # what is imported late would be out of reach
        os.setuid(65534)
    rename = case.pop("rename", None)
    with dying_at_rename(*rename) if rename else small_shards():
        write(**case)


def _in_a_process(case):
    """Forks; returns the process and where it says what went wrong."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        return process, reader
    keras.config.disable_interactive_logging()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        _come_to_grief(case)
    except BaseException as error:
        os.write(writer, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


def _outcome(process, reader):
    with open(reader, encoding="utf-8") as file:
        said = file.read()
    _, status = os.waitpid(process, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


def main(cases):
    outcomes = []
    for case in cases:
        begun = [_in_a_process(one) for one in (case if isinstance(case, list) else [case])]
        outcomes.append([_outcome(*one) for one in begun])
    print("OUTCOMES" + json.dumps(outcomes))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
