"""Bad input: one clear line on stderr, exit code 2, and nothing written."""

import shutil

import pytest

from keras_kd.cli import main


def options(**given):
    return [str(word) for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


def words(files, out, **changes):
    given = {"teacher": files / "teacher.keras", "student": files / "student.keras", "dataset": "digits", "out": out}
    return options(**given | {"epochs": 1, **changes})


def caching_words(files, out, **changes):
    return options(**{"teacher": files / "teacher.keras", "dataset": "digits", "out": out, **changes})


def cached_words(files, cache, out, /, **changes):
    return options(**{"cache": cache, "student": files / "student.keras", "out": out, "epochs": 1, **changes})


CASES = {
    "missing file": ({"teacher": "no.keras"}, "the teacher file does not exist"),
    "not a .keras file": ({"student": __file__}, "the student must be a `.keras` file"),
    "text": ({"teacher": "text.keras"}, "the teacher file is damaged, or no `.keras` file at all"),
    "cut": ({"student": "cut.keras"}, "the student file is damaged, or no `.keras` file at all"),
    "flipped": ({"student": "flipped.keras"}, "cannot read the student file"),
    "code in a file": ({"teacher": "lambda.keras"}, "Python code (a Lambda layer), which is not run from a file"),
    "class counts": ({"student": "seven_classes.keras"}, "has 7 classes, but the data set digits has 10"),
    "softmax student": ({"student": "softmax.keras"}, "the student must give logits"),
    "unknown data set": ({"dataset": "mnits"}, "Near matches: mnist"),
    "alpha": ({"alpha": 3}, "`alpha` must be >= 0 and <= 1. Received: alpha=3.0"),
    "temperature": ({"temperature": 0}, "`temperature` must be > 0. Received: temperature=0.0"),
    "epochs": ({"epochs": 0}, "--epochs must be at least 1. Received: 0"),
    "batch size": ({"batch_size": -1}, "--batch-size must be at least 1. Received: -1"),
}


CACHE_CASES = {
    "missing file": ({"teacher": "no.keras"}, "the teacher file does not exist"),
    "another file": ({"teacher": __file__}, "the teacher must be a `.keras` or `.tflite` file or a SavedModel folder"),
    "no SavedModel": ({"teacher": "."}, "the directory '.' holds no SavedModel"),
    "class counts": ({"teacher": "seven_classes.keras"}, "has 7 classes, but the data set digits has 10"),
    "unknown augmentation": ({"augment": "shift(2)"}, "cannot read the augmentation 'shift(2)': expected calls of "),
    "code": ({"augment": "random_shift(exit())"}, "expected plain values as arguments. Received: exit()."),
    "audio for images": ({"augment": "random_noise()"}, "`random_noise`: expected one waveform"),
    "labels unknown": ({"augment": "mixup()"}, "`mix_labels` of class indices needs the number of classes"),
    "other labels": ({"augment": "mixup(num_classes=7)"}, "labels of 7 classes, but the data set has 10"),
    "equal views": ({"views": 2}, "without `augment` all views are the same. Received: views=2"),
    "no views": ({"views": 0}, "`views` must be an integer >= 1. Received: views=0"),
    "shard": ({"shard": "1"}, "--shard must be I/N, two numbers with 0 <= I < N, as in 0/4. Received: 1"),
    "shard beyond": ({"shard": "2/2"}, "0 <= I < N, as in 0/4. Received: 2/2"),
    "shard of words": ({"shard": "a/b"}, "0 <= I < N, as in 0/4. Received: a/b"),
    "codecs": ({"top_k": 2, "samples": 2}, "one of `top_k` and `samples` must be None"),
    "too many classes": ({"top_k": 10}, "`top_k` must be less than the number of classes, 10. Received: top_k=10"),
    "tap": ({"taps": "nowhere"}, "has no layer `nowhere`"),
}


def check_refusal(command, arguments, out, capsys, text):
    assert main([command, *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    said = [line for line in lines if line.startswith(f"keras-kd {command}: ")]
    assert len(said) == 1
    assert text in said[0]
    assert not out.exists()


def found(files, changes):
    return {key: files / value if str(value).endswith(".keras") else value for key, value in changes.items()}


@pytest.mark.parametrize(("changes", "text"), CASES.values(), ids=CASES)
def test_is_told_in_one_line(files, tmp_path, capsys, changes, text):
    out = tmp_path / "out"
    check_refusal("distill", words(files, out, **found(files, changes)), out, capsys, text)


@pytest.mark.parametrize(("changes", "text"), CACHE_CASES.values(), ids=CACHE_CASES)
def test_of_caching_is_told_in_one_line(files, tmp_path, capsys, changes, text):
    out = tmp_path / "out"
    check_refusal("cache", caching_words(files, out, **found(files, changes)), out, capsys, text)


@pytest.fixture(scope="module")
def cache(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches") / "cache"
    assert main(["cache", *caching_words(files, folder, top_k=3)]) == 0
    return folder


CACHED_CASES = {
    "class counts": ({"student": "seven_classes.keras"}, "has 7 classes, but the data set digits has 10"),
    "another data set": ({"dataset": "mnist"}, "is that of the data set digits. Received: --dataset mnist."),
    "another temperature": ({"temperature": 2}, "--temperature must be 4, at which the cache"),
    "no cache": ({"cache": "nowhere"}, "there is no cache nowhere. Make one with `keras-kd cache`."),
    "softmax student": ({"student": "softmax.keras"}, "the student must give logits"),
}


@pytest.mark.parametrize(("changes", "text"), CACHED_CASES.values(), ids=CACHED_CASES)
def test_of_distilling_from_a_cache_is_told_in_one_line(files, cache, tmp_path, capsys, changes, text):
    out = tmp_path / "out"
    check_refusal("distill", cached_words(files, cache, out, **found(files, changes)), out, capsys, text)


@pytest.mark.parametrize(
    ("lacking", "text"),
    [("run.json", "has no run.json of `keras-kd cache`"), ("manifest.json", "there is no finished cache in")],
)
def test_of_a_cache_that_is_not_whole(files, cache, tmp_path, capsys, lacking, text):
    torn, out = shutil.copytree(cache, tmp_path / "torn"), tmp_path / "out"
    (torn / lacking).unlink()
    check_refusal("distill", cached_words(files, torn, out), out, capsys, text)


def test_a_cache_is_left_alone(files, cache, tmp_path, capsys):
    before = {path: path.read_bytes() for path in cache.iterdir()}
    assert main(["cache", *caching_words(files, cache, top_k=3, teacher=files / "softmax.keras")]) == 2
    assert "holds a cache of another teacher" in capsys.readouterr().err
    assert main(["distill", *cached_words(files, cache, cache), "--overwrite"]) == 2
    assert "the output folder is a cache" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in cache.iterdir()} == before


def test_a_folder_of_something_else_becomes_no_cache(files, tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    assert main(["cache", *caching_words(files, tmp_path)]) == 2
    assert "the output folder holds something else than a cache" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_teacher_needs_a_data_set(files, tmp_path, capsys):
    given = options(teacher=files / "teacher.keras", student=files / "student.keras", out=tmp_path / "out")
    check_refusal("distill", given, tmp_path / "out", capsys, "--teacher needs --dataset")


def test_a_teacher_and_a_cache_exclude_each_other(files, cache, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["distill", *words(files, tmp_path / "out"), "--cache", str(cache)])
    assert stop.value.code == 2
    assert "argument --cache: not allowed with argument --teacher" in capsys.readouterr().err


def test_from_a_process_of_its_own_there_is_no_traceback(files, tmp_path, keras_kd):
    done = keras_kd("distill", *words(files, tmp_path / "out", teacher=files / "text.keras"))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("keras-kd distill: the teacher file is damaged")
    assert "Traceback" not in done.stderr


def test_an_existing_folder_is_left_alone(files, tmp_path, capsys):
    kept = tmp_path / "out" / "kept.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    assert main(["distill", *words(files, kept.parent)]) == 2
    assert "the output folder exists" in capsys.readouterr().err
    assert [path.name for path in kept.parent.iterdir()] == ["kept.txt"]


def test_resuming_needs_a_run(files, tmp_path, capsys):
    assert main(["distill", *words(files, tmp_path / "out"), "--resume"]) == 2
    assert "there is no run to resume" in capsys.readouterr().err


def test_a_missing_option_is_argparse_error_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["distill", "--teacher", "T.keras"])
    assert stop.value.code == 2
    assert "--student" in capsys.readouterr().err
