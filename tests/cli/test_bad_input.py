"""Bad input: one clear line on stderr, exit code 2, and nothing written."""

import pytest

from keras_kd.cli import main


def words(files, out, **changes):
    given = {"teacher": files / "teacher.keras", "student": files / "student.keras", "dataset": "digits", "out": out}
    given |= {"epochs": 1, **changes}
    return [str(word) for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


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


@pytest.mark.parametrize(("changes", "text"), CASES.values(), ids=CASES)
def test_is_told_in_one_line(files, tmp_path, capsys, changes, text):
    changes = {key: files / value if str(value).endswith(".keras") else value for key, value in changes.items()}
    out = tmp_path / "out"
    assert main(["distill", *words(files, out, **changes)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    said = [line for line in lines if line.startswith("keras-kd distill: ")]
    assert len(said) == 1
    assert text in said[0]
    assert not out.exists()


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
