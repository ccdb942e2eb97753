"""TF_CONFIG, how workers meet, and two of them on the loopback interface."""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

from deeplab_tf.recipe import as_json
from deeplab_tf.training.devices.selfcheck import train_steps
from deeplab_tf.training.devices.strategy import make_strategy
from deeplab_tf.training.devices.workers import Cluster, meet, read_cluster

_LIMIT = 120  # seconds, far above what any of these processes takes


def _free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [s.getsockname()[1] for s in sockets]


def _tf_config(ports, index):
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )


def _cluster(ports, rank):
    return Cluster(
        tasks=tuple(("worker", index) for index in range(len(ports))),
        addresses=tuple(f"127.0.0.1:{port}" for port in ports),
        rank=rank,
    )


# TF_CONFIG


def test_cluster_has_the_chief_first_and_this_process_at_its_place(monkeypatch):
    config = {
        "cluster": {"worker": ["b:2", "c:3"], "chief": ["a:1"]},
        "task": {"type": "worker", "index": "1"},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    cluster = read_cluster()
    assert cluster.addresses == ("a:1", "b:2", "c:3") and cluster.rank == 2
    assert cluster.names([0, 2]) == "chief 0 (a:1), worker 1 (c:3)"


@pytest.mark.parametrize("text", ["", " ", "{}", '{"task": {"type": "worker", "index": 0}}'])
def test_tf_config_without_a_cluster_is_none(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster() is None


_TASK = '"task": {"type": "worker", "index": 0}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "^TF_CONFIG must be JSON like .*; got '{'"),
        ("[1]", r"^TF_CONFIG must be JSON like .*; got '\[1\]'"),
        ("[" * 10**5, "^TF_CONFIG must be JSON like .{,250}$"),
        ('{"cluster": 3}', "^TF_CONFIG must be like "),
        (f'{{"cluster": {{"worker": ["a:1"], "ps": ["b:1"]}}, {_TASK}}}', "; got 'ps'"),
        (f'{{"cluster": {{"worker": "a:1"}}, {_TASK}}}', "list of addresses .*; got 'a:1'"),
        (f'{{"cluster": {{"worker": []}}, {_TASK}}}', r"list of addresses .*; got \[\]"),
        (f'{{"cluster": {{"worker": ["a"]}}, {_TASK}}}', r"list of addresses .*; got \['a'\]"),
        (f'{{"cluster": {{"worker": ["a:65536"]}}, {_TASK}}}', "list of addresses "),
        (f'{{"cluster": {{"worker": ["a:1", "a:1"]}}, {_TASK}}}', "; got a:1 twice"),
        (f'{{"cluster": {{"chief": ["a:1", "b:1"]}}, {_TASK}}}', "at most one chief"),
        ('{"cluster": {"worker": ["a:1"]}}', "which worker this process is.*; got None"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "one of worker 0; got .*1",
        ),
    ],
)
def test_wrong_tf_config_is_refused(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        read_cluster()


# Meeting


def _meeting(calls):
    """Runs the calls at once; returns what each raised, or None."""
    outcomes = [None] * len(calls)

    def run(place, call):
        try:
            call()
        except (ValueError, OSError) as error:
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=row) for row in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LIMIT)
        assert not thread.is_alive()
    return outcomes


def _call(ports, rank, facts, print_fn=print, limit=60.0):
    return functools.partial(meet, _cluster(ports, rank), facts, print_fn, limit=limit)


def test_three_workers_meet_and_leave_their_ports_free():
    ports = _free_ports(3)
    assert _meeting([_call(ports, rank, {"color": 1}) for rank in (2, 0, 1)]) == [None] * 3
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_workers_that_differ_all_stop_with_the_same_words():
    ports = _free_ports(2)
    errors = _meeting([_call(ports, rank, {"number of GPUs": 4 - rank}) for rank in (0, 1)])
    assert str(errors[0]) == str(errors[1])
    assert isinstance(errors[0], ValueError) and isinstance(errors[1], ValueError)
    assert "same number of GPUs; worker 0 (127.0.0.1:" in str(errors[0])
    assert "has 4, worker 1 (127.0.0.1:" in str(errors[0]) and "has 3." in str(errors[0])


def test_worker_that_does_not_start_is_named_and_given_up():
    ports = _free_ports(3)
    errors = _meeting([_call(ports, rank, {}, limit=1.0) for rank in (0, 2)])
    name = f"worker 1 (127.0.0.1:{ports[1]})"
    assert isinstance(errors[0], TimeoutError)
    assert f"all workers must start; {name} did not within 1 s" in str(errors[0])
    # The third one learns it from the chief.
    assert name in str(errors[1])
    (error,) = _meeting([_call(ports, 1, {}, limit=1.0)])
    assert f"worker 0 (127.0.0.1:{ports[0]}) did not within 1 s" in str(error)


def test_a_worker_says_whom_it_waits_for(monkeypatch):
    monkeypatch.setattr("deeplab_tf.training.devices.workers._QUIET", 0.1)
    ports = _free_ports(2)
    said = []
    _meeting([_call(ports, 0, {}, said.append, limit=2.0)])
    assert said == [f"waiting for worker 1 (127.0.0.1:{ports[1]})"]


def test_callers_that_are_no_workers_are_ignored():
    ports = _free_ports(2)
    met = threading.Event()

    def chief():
        try:
            _call(ports, 0, {})()
        finally:
            met.set()

    def stranger():
        while not met.is_set():
            with contextlib.suppress(OSError):  # the chief is not there yet, or has just left
                with socket.create_connection(("127.0.0.1", ports[0])) as connection:
                    connection.sendall(b'GET / HTTP/1.1\r\n[]\n{"rank": "x"}\n')
                    return
            time.sleep(0.001)

    assert _meeting([chief, stranger, _call(ports, 1, {})]) == [None] * 3


def test_taken_port_is_an_error_of_the_system():
    ports = _free_ports(2)
    with socket.create_server(("127.0.0.1", ports[1])):
        (error,) = _meeting([_call(ports, 1, {})])
    assert isinstance(error, OSError) and f"port {ports[1]}" in str(error)
    assert "must be free on this machine" in str(error)


# Two processes with TensorFlow

_PREAMBLE = """
import os, sys, time
import cli

def run():
    import tensorflow as tf
    from deeplab_tf.training.devices import strategy as strategies
    strategy = strategies.make_strategy()
    with strategy.scope():
        total = tf.Variable(1.0)

    def of_replica(value):
        context = tf.distribute.get_replica_context()
        total.assign(context.all_reduce("SUM", tf.identity(value)))
        return tf.identity(total)

    @tf.function
    def step(value):
        return strategy.experimental_local_results(strategy.run(of_replica, args=(value,)))[0]

    rank = strategies.read_cluster().rank
    {body}

def main(argv):
    cli.import_tensorflow()
    run()

cli.run(main)
"""


@contextlib.contextmanager
def _workers(root, tmp_path, body, number=2):
    """Starts workers that run `body`; ends those that still run at the end."""
    ports = _free_ports(number)
    script = tmp_path / "worker.py"  # AutoGraph reads the source
    script.write_text(_PREAMBLE.replace("{body}", body.replace("\n", "\n    ")))
    search = os.pathsep.join([str(root), str(root / "scripts")])
    processes = [
        subprocess.Popen(
            [sys.executable, script],
            env={**os.environ, "TF_CONFIG": _tf_config(ports, rank), "PYTHONPATH": search},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_two_workers_agree_and_end_together(root, tmp_path):
    body = """
assert strategies.is_chief(strategy) == (rank == 0)
print(float(step(tf.constant(1.0 + rank))), strategies.from_chief(strategy, 3.5 + rank))
strategies.check_agreement(strategy, "same", "recipe")
strategies.check_workers(strategy)
strategies.wait_for_workers(strategy)
print("together")
strategies.check_agreement(strategy, f"of {rank}", "recipe")
"""
    with _workers(root, tmp_path, body) as processes:
        for process in processes:
            output, errors = process.communicate(timeout=_LIMIT)
            assert output == "3.0 3.5\ntogether\n", errors
            assert process.returncode == 1 and errors.count("\n") == 1
            assert "error: all workers must have the same recipe; that of worker 1 (" in errors


@pytest.mark.slow  # two processes with TensorFlow, and the time until one is given up
@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_when_a_worker_dies_the_other_stops_with_one_line(root, tmp_path, killed, how):
    body = """
with strategies.lost_worker_as_error(strategy):
    step(tf.constant(1.0))
    print("training", flush=True)
    while True:
        step(tf.constant(1.0))
        time.sleep(0.05)
"""
    with _workers(root, tmp_path, body) as processes:
        for process in processes:
            assert process.stdout.readline() == "training\n"
        processes[killed].send_signal(how)
        other = processes[1 - killed]
        _, errors = other.communicate(timeout=_LIMIT)
    assert other.returncode == 1
    assert errors.count("\n") == 1
    assert errors.startswith(f"error: worker {killed} (127.0.0.1:")
    assert "stopped or cannot be reached" in errors


@pytest.mark.slow  # as above
def test_chief_that_works_alone_notices_that_a_worker_died(root, tmp_path):
    body = """
strategies.wait_for_workers(strategy)
print("training", flush=True)
while rank == 0:
    strategies.check_workers(strategy)
    time.sleep(0.05)
strategies.wait_for_workers(strategy)
"""
    with _workers(root, tmp_path, body) as processes:
        for process in processes:
            assert process.stdout.readline() == "training\n"
        processes[1].kill()
        _, errors = processes[0].communicate(timeout=_LIMIT)
    assert processes[0].returncode == 1 and errors.count("\n") == 1
    assert errors.startswith("error: worker 1 (127.0.0.1:")


@pytest.mark.slow  # two processes with TensorFlow and a network
def test_two_workers_train_as_one_process_does(root, tmp_path, recipe_of, photos):
    recipe = recipe_of(photos)
    recipe_file = tmp_path / "recipe.json"
    recipe_file.write_text(as_json.to_json(recipe), encoding="utf-8")
    body = f"""
import keras
import numpy as np
from deeplab_tf import zoo
from deeplab_tf.recipe import as_json
from deeplab_tf.training.devices.selfcheck import train_steps
keras.config.set_dtype_policy("float64")
text = open({str(recipe_file)!r}, encoding="utf-8").read()
recipe = as_json.from_json(text, zoo.PARTS)
last = train_steps(recipe, recipe.dataset.open(None), strategy, 3)[-1]
np.savez(f"{tmp_path}/{{rank}}.npz", loss=last.loss, **last.weights, **last.statistics)
strategies.wait_for_workers(strategy)
"""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        one = make_strategy("one_device", ("CPU:0",))
        last = train_steps(recipe, recipe.dataset.open(None), one, 3)[-1]
    finally:
        keras.config.set_dtype_policy(policy)
    with _workers(root, tmp_path, body) as processes:
        for process in processes:
            _, errors = process.communicate(timeout=_LIMIT)
            assert process.returncode == 0, errors
    expected = {"loss": last.loss, **last.weights, **last.statistics}
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as found:
            assert set(found) == set(expected)
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, atol=1e-11, err_msg=name)


@pytest.mark.slow  # three times two processes with TensorFlow and a network
def test_killed_workers_resume_to_the_numbers_of_an_uninterrupted_run(
    root, tmp_path, recipe_of, photos
):
    recipe_file = tmp_path / "recipe.json"
    recipe_file.write_text(as_json.to_json(recipe_of(photos, steps=6)), encoding="utf-8")

    def body(workdir):
        return f"""
from deeplab_tf import zoo
from deeplab_tf.recipe import as_json
from deeplab_tf.training.loop import train
text = open({str(recipe_file)!r}, encoding="utf-8").read()
recipe = as_json.from_json(text, zoo.PARTS)
say = lambda line: print(line, flush=True)
train(recipe, workdir={str(workdir)!r}, strategy=strategy, check_data=False, print_fn=say)
"""

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with _workers(root, tmp_path, body(stopped)) as (chief, other):
        while not chief.stdout.readline().startswith("step 4"):
            assert chief.poll() is None
        other.kill()
        _, errors = chief.communicate(timeout=_LIMIT)
        assert chief.returncode == 1
        assert "error: worker 1 (127.0.0.1:" in errors.splitlines()[-1]
    for workdir in (stopped, whole):
        with _workers(root, tmp_path, body(workdir)) as processes:
            outputs = []
            for process in processes:
                output, errors = process.communicate(timeout=_LIMIT)
                assert process.returncode == 0, errors
                outputs.append(output)
        assert ("resuming at step" in outputs[0]) == (workdir == stopped)
        assert outputs[1] == ""  # the chief prints
    tables = [(workdir / "metrics.csv").read_text() for workdir in (stopped, whole)]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 1 + 6 + 3
