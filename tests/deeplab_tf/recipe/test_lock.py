import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from deeplab_tf.recipe.lock import locked

HOLDER = """
import sys, time
from deeplab_tf.recipe.lock import locked
with locked(sys.argv[1], "the workdir"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "new" / "run.lock")


@pytest.fixture
def holder(path):
    """Another process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n", process.stderr.read()
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_and_told_who_the_first_is(path, holder):
    with pytest.raises(BlockingIOError) as caught, locked(path, "the workdir"):
        pytest.fail("the lock was given twice")
    text = str(caught.value)
    assert text.startswith(
        f"the workdir is in use by process {holder.pid} on {os.uname().nodename}"
    )
    assert f"-c {path}" in text and "\n" not in text
    assert os.path.exists(path)


def test_nothing_is_left_of_a_lock_that_ended(path, holder):
    holder.communicate("")
    assert os.listdir(os.path.dirname(path)) == []
    with locked(path, "the workdir"):
        assert os.listdir(os.path.dirname(path)) == ["run.lock"]
    assert os.listdir(os.path.dirname(path)) == []


def test_it_ends_with_an_error_too(path):
    with pytest.raises(ZeroDivisionError), locked(path, "the workdir"):
        1 / 0  # noqa: B018
    assert os.listdir(os.path.dirname(path)) == []


def test_a_killed_process_locks_nobody_out(path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert os.path.exists(path)
    with locked(path, "the workdir"):
        with open(path) as file:
            assert file.read().startswith(f"process {os.getpid()} on ")
    assert os.listdir(os.path.dirname(path)) == []


def test_a_process_that_does_not_hold_the_lock_leaves_its_file_alone(path, holder):
    with locked(f"{path}.other", "another workdir"):
        pass
    assert os.listdir(os.path.dirname(path)) == ["run.lock"]


def test_a_file_that_was_replaced_meanwhile_is_left_alone(path):
    with locked(path, "the workdir"):
        os.remove(path)
        with locked(path, "a new directory in its place"):
            assert os.path.exists(path)
        with open(path, "w") as file:
            file.write("not this lock's")
    with open(path) as file:
        assert file.read() == "not this lock's"


def test_one_that_waits_says_for_whom_and_then_has_the_lock(path, holder, capfd):
    entered = []

    def wait():
        with locked(path, "the dataset", wait=True):
            entered.append(holder.poll())

    thread = threading.Thread(target=wait)
    thread.start()
    told = ""
    while not told:  # the line comes before it waits
        time.sleep(0.01)
        told = capfd.readouterr().err
    assert told.startswith(f"the dataset is in use by process {holder.pid} on ")
    assert told.endswith("; waiting until it ends\n")
    assert entered == []
    holder.communicate("")
    thread.join()
    assert len(entered) == 1
    assert os.listdir(os.path.dirname(path)) == []


def test_among_many_there_is_one_at_a_time(path, tmp_path):
    code = f"""
import os, sys
from deeplab_tf.recipe.lock import locked
for _ in range(200):
    with locked({path!r}, "it", wait=True):
        os.mkdir({str(tmp_path / "inside")!r})  # fails if another is inside
        os.rmdir({str(tmp_path / "inside")!r})
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert os.listdir(os.path.dirname(path)) == []
