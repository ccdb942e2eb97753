"""Which strategy is made, and what workers say to each other; see also test_workers.py."""

import json
import os

import pytest
import tensorflow as tf

from deeplab_tf.training.devices.strategy import (
    check_agreement,
    check_batch_size,
    check_workers,
    from_chief,
    is_chief,
    lost_worker,
    lost_worker_as_error,
    make_strategy,
    wait_for_workers,
)

_TWO = ("CPU:0", "CPU:1")


def _tf_config(number, index=0):
    return json.dumps(
        {
            "cluster": {"worker": [f"host{i}:{2222 + i}" for i in range(number)]},
            "task": {"type": "worker", "index": index},
        }
    )


@pytest.mark.parametrize("config", ["", _tf_config(1)])
def test_auto_is_mirrored_without_several_workers(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    assert make_strategy("auto", _TWO) is make_strategy("mirrored", _TWO)
    assert make_strategy("one_device", ("CPU:1",)).num_replicas_in_sync == 1
    assert os.environ["TF_CONFIG"] == config


def test_one_device_is_the_one_given_or_the_first():
    devices = make_strategy("one_device", ("CPU:1",)).extended.worker_devices
    assert [device.rpartition("device:")[2] for device in devices] == ["CPU:1"]
    assert make_strategy("one_device").num_replicas_in_sync == 1
    with pytest.raises(ValueError, match="^train.devices must be one device .*; got CPU:0, CPU:1"):
        make_strategy("one_device", _TWO)


def test_several_workers_need_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="^TF_CONFIG must name the workers"):
        make_strategy("multi_worker")


def test_several_workers_choose_no_devices(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", _tf_config(2))
    with pytest.raises(ValueError, match="^train.devices must be empty .*; got GPU:0"):
        make_strategy("auto", ("GPU:0",))


def test_several_workers_are_connected_before_the_first_operation(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", _tf_config(2))
    tf.zeros([])
    with pytest.raises(RuntimeError, match="before TensorFlow's first operation"):
        make_strategy("multi_worker")


def test_batch_divides_over_replicas_and_parts():
    strategy = make_strategy("mirrored", _TWO)
    check_batch_size(12, strategy, accumulation_steps=3)
    with pytest.raises(ValueError, match="multiple of 2, the number of .*; got 5. Use 4 or 6"):
        check_batch_size(5, strategy)
    with pytest.raises(ValueError, match=r"multiple of 6, 2 .* x 3 acc.*; got 4. Use 6"):
        check_batch_size(4, strategy, accumulation_steps=3)


def test_on_one_machine_the_only_worker_is_the_chief():
    strategy = make_strategy("mirrored", _TWO)
    assert is_chief(strategy)
    assert from_chief(strategy, 0.1) == 0.1
    check_agreement(strategy, "recipe", "recipe")
    check_workers(strategy)
    wait_for_workers(strategy)


# As TensorFlow 2.21 words it.
_KILLED = (
    "Collective ops is aborted by: Error reported from /job:worker/task:1: The following tasks are"
    " unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:1\n"
)
_CLOSED = (
    "Collective ops is aborted by: Socket closed\nAdditional GRPC error information from remote"
    " target /job:worker/replica:0/task:0 while calling /tensorflow.WorkerService/RecvBuf:"
)
_SILENT = (
    "Collective ops is aborted by: Deadline Exceeded\n\n"
    "RPC: /tensorflow.CoordinationService/Heartbeat\n"
)


@pytest.mark.parametrize(
    ("own", "error", "named"),
    [
        (0, tf.errors.UnavailableError(None, None, _KILLED), "worker 1 (host1:2223) stopped"),
        (1, tf.errors.UnavailableError(None, None, _CLOSED), "worker 0 (host0:2222) stopped"),
        (1, tf.errors.DeadlineExceededError(None, None, _SILENT), "worker 0 (host0:2222) stopped"),
        (
            1,
            tf.errors.UnavailableError(None, None, "Collective ops is aborted by: Broken pipe"),
            "another worker stopped",
        ),
    ],
)
def test_error_of_a_lost_worker_is_told_by_its_name(monkeypatch, own, error, named):
    monkeypatch.setenv("TF_CONFIG", _tf_config(2, own))
    assert lost_worker(error).startswith(named)


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.InvalidArgumentError(None, None, "/job:worker/task:1 has wrong shapes"),
        tf.errors.UnavailableError(None, None, "gs://bucket cannot be reached"),
        ValueError(_KILLED),
    ],
)
def test_other_errors_are_not_of_a_lost_worker(monkeypatch, error):
    monkeypatch.setenv("TF_CONFIG", _tf_config(2))
    assert lost_worker(error) is None


def test_on_one_machine_errors_stay_as_they_are(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(tf.errors.UnavailableError):
        with lost_worker_as_error(make_strategy("mirrored", _TWO)):
            raise tf.errors.UnavailableError(None, None, _KILLED)
