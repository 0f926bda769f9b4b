"""Of two processes that write to one place the second is refused at once; a dead one hinders nobody."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import keras
import pytest

import keras_kd as kd
from keras_kd.cli import main
from keras_kd.locking import LOCK, contents, writing
from tests.assistants.chains import chain_of, models
from tests.assistants.chains import fit as fit_chain
from tests.cache.writing_program import files_of, write

PROGRAM = Path(__file__).with_name("locking_program.py")


@contextmanager
def another(folder, *part, killed=False):
    """Another process that writes there; killed, one that did."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(PROGRAM), str(folder), *part]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        if killed:
            process.kill()
            process.wait(timeout=30)
        yield process.pid
        process.stdin.close()


def refusal(where, pid):
    return (
        f"{where} is being written by process {pid} on {socket.gethostname()}. Wait until that has ended, or choose "
        "another folder."
    )


def check_refused(act, owner, folder, *part, where=None):
    """Refused while another process writes, with nothing changed; let through when that was killed."""
    with another(folder, *part) as pid:
        before = files_of(folder)
        with pytest.raises(ValueError, match="is being written by") as refused:
            act()
        assert str(refused.value) == refusal(f"{owner}: {where or folder}", pid)
        assert files_of(folder) == before
    with another(folder, *part, killed=True):
        act()
    assert not any(path.name.endswith(".lock") for path in folder.iterdir())


def test_a_cache(tmp_path):
    check_refused(lambda: write(tmp_path / "cache"), "`cache_teacher`", tmp_path / "cache")
    assert "manifest.json" in files_of(tmp_path / "cache")


def test_a_part_of_a_cache(tmp_path):
    folder = tmp_path / "cache"

    def write_both():
        write(folder, shard=(0, 2))  # which nobody else writes
        write(folder, shard=(1, 2))

    write(folder, shard=(0, 2))
    check_refused(write_both, "`cache_teacher`", folder, "1-of-2", where=f"part 1-of-2 of {folder}")
    assert "manifest.json" in files_of(folder)


def test_an_export(tmp_path):
    student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    check_refused(
        lambda: kd.export_student(student, tmp_path / "out", formats="tflite"), "`export_student`", tmp_path / "out"
    )
    assert sorted(files_of(tmp_path / "out")) == ["report.json", "student.tflite"]


def test_a_chain(tmp_path):
    chain, folder = chain_of(models()[:2]), tmp_path / "chain"
    check_refused(lambda: fit_chain(chain, folder=folder, epochs=1), "`TeacherAssistantChain`", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["chain.json", "hop_1"]


RUN = ("--epochs", "1", "--dataset", "digits", "--student", "S.keras", "--teacher", "T.keras")
COMMANDS = {
    "demo": ("--seeds", "1"),
    "distill": RUN,
    "adversarial": RUN,
    "chain": RUN,
    "multimodal": ("--manifest", "toy"),
    "export": ("--student", "S.keras", "--overwrite"),
}


def test_every_command(tmp_path, capsys):
    out = tmp_path / "out"
    with another(out) as pid:
        (out / "theirs").write_text("half done")
        before = files_of(out)
        for command, words in COMMANDS.items():
            assert main([command, *words, "--out", str(out)]) == 2
            said = capsys.readouterr().err.splitlines()[-1]
            assert said == f"keras-kd {command}: {refusal(f'--out: {out}', pid)}"
        assert files_of(out) == before


def test_what_a_killed_command_has_locked_counts_for_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    with another(out, killed=True):
        assert contents(out) == []
        assert main(["distill", *RUN, "--out", str(out)]) == 2  # of the next fault
    assert "student" in capsys.readouterr().err.splitlines()[-1]
    assert list(out.iterdir()) == []


def test_one_process_holds_a_folder_twice_but_two_threads_do_not(tmp_path):
    refused = []

    def elsewhere():
        try:
            with writing(tmp_path, "`thread`"):
                pass
        except ValueError as error:
            refused.append(str(error))

    with writing(tmp_path, "`outer`"):
        with writing(tmp_path, "`inner`"):
            assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert (tmp_path / LOCK).exists()
    assert refused == [refusal(f"`thread`: {tmp_path}", os.getpid())]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_taken_away_meanwhile_is_no_lock(tmp_path):
    """Whoever opens the file just before it is unlinked would hold a lock on nothing."""
    file = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    flock, unlinked = fcntl.flock, []

    def unlink_first(*arguments):
        flock(*arguments)
        if not unlinked:
            unlinked.append(os.unlink(tmp_path / LOCK))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", unlink_first)
        with writing(tmp_path, "`me`"), open(tmp_path / LOCK) as there, pytest.raises(BlockingIOError):
            flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(file)


def test_where_there_are_no_locks_nobody_is_refused(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")  # as of Lustre without `-o flock`

    monkeypatch.setattr(fcntl, "flock", unknown)
    with writing(tmp_path, "`one`"):
        pass
    assert list(tmp_path.iterdir()) == []
