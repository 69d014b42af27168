"""One training at a time writes to a folder."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.reproduction import Settings, reproduce
from onebit.training import load_recipe, load_run, lock, train
from onebit.training.lock import LOCK, hold, is_empty

TINY = load_recipe("digits").override(
    {"widths": [4], "epochs": 1, "train_limit": 20, "validation_share": 0, "threads": 1}
)
HOLDER = """
import importlib.util, sys, time
from pathlib import Path
# By its file: the package around it takes PyTorch's seconds.
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.hold(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder():
    """Another process that holds a folder until it is killed."""
    processes = []

    def start(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, lock.__file__, folder], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_training_is_refused_at_once_and_names_the_first(tmp_path, holder, monkeypatch):
    out = tmp_path / "runs" / "two"
    process = holder(out)
    for name in ("onebit.training.jobs.images", "onebit.reproduction.scale"):
        monkeypatch.setattr(sys.modules[name], "load_images", lambda *args: pytest.fail("the data are read"))
    message = f"is in use by process {process.pid} on {socket.gethostname()}: wait until that has ended, or give"
    for resume in (False, True):
        with pytest.raises(OnebitError, match=message) as caught:
            train(TINY, out, resume, progress=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(OnebitError, match=message):
        reproduce(Settings("table2", 0.001, "digits"), out)
    assert [entry.name for entry in out.iterdir()] == [LOCK]


def test_the_command_says_so_too(tmp_path, holder, capsys):
    holder(tmp_path / "a")
    for words in (["train", "digits"], ["reproduce", "table2"], ["demo"]):
        assert main([*words, "--out", str(tmp_path / "a")]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"onebit: error: [{words[0]}] {tmp_path / 'a'} is in use by process ")
        assert error.count("\n") == 1


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    out = tmp_path / "a"
    process = holder(out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / LOCK).exists()
    assert is_empty(out)  # what a killed process has left keeps nobody off
    train(TINY, out, progress=False)
    assert not (out / LOCK).exists()
    assert load_run(out).epochs == 1


def test_runs_that_are_resumed_are_kept_apart_as_well(tmp_path):
    out = tmp_path / "a"
    train(TINY, out, progress=False)
    with hold(out), pytest.raises(OnebitError, match="is in use by process"):
        train(TINY.override({"epochs": 2}), out, resume=True, progress=False)
    assert train(TINY.override({"epochs": 2}), out, resume=True, progress=False).epochs == 2


def test_a_training_that_does_not_begin_leaves_no_folder(tmp_path):
    with pytest.raises(OnebitError, match="there is no such data set"):
        train(TINY.override({"data": str(tmp_path / "nothing")}), tmp_path / "runs" / "a", progress=False)
    with pytest.raises(OnebitError, match="holds no run to resume"):
        train(TINY, tmp_path / "runs" / "a", resume=True, progress=False)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "kept").mkdir()
    with pytest.raises(OnebitError, match="there is no such data set"):
        train(TINY.override({"data": str(tmp_path / "nothing")}), tmp_path / "kept", progress=False)
    assert not list((tmp_path / "kept").iterdir())


def test_of_many_that_begin_together_one_holds_the_folder(tmp_path):
    """Where each makes the folder, and removes it when it ends, no two are within."""
    within, most, refused = [], [], []

    def live():
        for _ in range(50):
            try:
                with hold(tmp_path / "runs" / "a"):
                    within.append(1)
                    most.append(len(within))
                    within.pop()
            except OnebitError:
                refused.append(1)

    threads = [threading.Thread(target=live) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) + len(refused) == 200
    assert not list(tmp_path.rglob(LOCK))


def test_a_link_to_nowhere_is_no_folder(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError), hold(tmp_path / "a"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_trained_on_all_the_same(tmp_path, monkeypatch, number):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold(tmp_path / "a") as descriptor:
        assert os.fstat(descriptor)


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "loop", "folder", "pipe"])
def test_a_lock_of_another_program_is_left_alone(tmp_path, kind):
    out, other = tmp_path / "a", tmp_path / "other"
    out.mkdir()
    file = out / LOCK
    if kind == "file":
        file.write_text("kept")
    elif kind == "link":
        other.write_text("kept")
        file.symlink_to(other)
    elif kind == "dangling":
        file.symlink_to(tmp_path / "gone" / "too")
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "folder":
        file.mkdir()
    else:
        os.mkfifo(file)
    with pytest.raises(OnebitError, match=r"\.lock is not a lock of onebit: move it away") as caught, hold(out):
        pass
    assert "\n" not in str(caught.value)
    assert os.path.lexists(file)
    if kind in ("file", "link"):
        assert file.read_text() == "kept"


def test_a_full_disk_holds_a_lock_without_a_name(tmp_path, monkeypatch):
    def refuse(*words):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with hold(tmp_path / "a"), pytest.raises(OnebitError, match="is in use by another process"), hold(tmp_path / "a"):
        pass
    assert not (tmp_path / "a").exists()


def test_a_failure_in_the_body_ends_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "a"):
        raise ZeroDivisionError
    with hold(tmp_path / "a"):
        pass
