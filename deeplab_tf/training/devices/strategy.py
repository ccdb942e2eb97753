"""Which devices and machines train, how a batch divides over them, and how workers agree."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import keras
import tensorflow as tf

# Not public. TensorFlow's own defaults would wait an hour for a worker that dies while it starts.
from tensorflow.python.eager import context

from deeplab_tf.training.devices.workers import Cluster, meet, read_cluster

_KINDS = ("auto", "mirrored", "multi_worker", "one_device")
_HEARTBEAT = 20  # ours: seconds without a sign of life after which a worker is given up
_REGISTER = 120  # ours: seconds from the meeting of the workers until TensorFlow knows them all


def make_strategy(
    kind: Literal["auto", "mirrored", "multi_worker", "one_device"] = "auto",
    devices: tuple[str, ...] = (),
) -> tf.distribute.Strategy:
    """How the devices share a batch.

    A second call with the same arguments returns the same strategy. In one process, a second
    strategy over the same devices takes the first one's collective operations for its own and fails
    (TensorFlow 2.21).

    Args:
      kind: "mirrored": the devices of this machine. "one_device": one of them. "multi_worker":
        every GPU, or else the CPU, of each machine that TF_CONFIG names; TensorFlow must not have
        run an operation in this process. "auto": "multi_worker" if TF_CONFIG names more than one
        worker, else "mirrored".
      devices: of this machine; by default every GPU, or else the CPU; for "one_device" the first.

    Returns:
      A MirroredStrategy, for one device too, or a MultiWorkerMirroredStrategy.

    Raises:
      ValueError: a device does not exist, TF_CONFIG is wrong, or the workers do not fit together.
      OSError: this worker's port is taken, or another worker did not start.
      RuntimeError: several workers, and TensorFlow has run an operation before.
    """
    if kind not in _KINDS:
        raise ValueError(f"train.strategy must be {'|'.join(_KINDS)}; got {kind!r}.")
    if kind == "auto":
        cluster = read_cluster()
        several = cluster is not None and len(cluster.tasks) > 1
        kind = "multi_worker" if several else "mirrored"
    if kind != "multi_worker":
        return _mirrored(_local_devices(devices, one=kind == "one_device"))
    if devices:
        raise ValueError(
            "train.devices must be empty with several workers, which use all their GPUs; got"
            f" {', '.join(devices)}. CUDA_VISIBLE_DEVICES chooses among them."
        )
    return _multi_worker()


def _local_devices(devices: tuple[str, ...], *, one: bool) -> tuple[str, ...]:
    known = [device.name.rpartition("device:")[2] for device in tf.config.list_logical_devices()]
    given = [device.removeprefix("/").removeprefix("device:") for device in devices]
    if len(set(given)) < len(given) or not set(given) <= set(known):
        raise ValueError(
            f"train.devices must be different devices of this machine, {', '.join(known)}; got"
            f" {', '.join(devices)}."
        )
    if one and len(given) > 1:
        raise ValueError(
            f"train.devices must be one device with train.strategy=one_device; got"
            f" {', '.join(devices)}."
        )
    found = given or [device for device in known if device.startswith("GPU:")] or ["CPU:0"]
    return tuple(found[:1] if one else found)


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    tf_config = os.environ.pop("TF_CONFIG", None)  # read there in vain, and refused if it is empty
    try:
        return tf.distribute.MirroredStrategy(list(devices))
    finally:
        if tf_config is not None:
            os.environ["TF_CONFIG"] = tf_config


@functools.cache
def _multi_worker() -> tf.distribute.MultiWorkerMirroredStrategy:
    cluster = read_cluster()
    if cluster is None:
        raise ValueError(
            "TF_CONFIG must name the workers with train.strategy=multi_worker; it is not set."
        )
    if context.context()._initialized:
        raise RuntimeError(
            "with several workers, the strategy must be made before TensorFlow's first operation;"
            " this process has run one. Call make_strategy earlier."
        )
    gpus = len(tf.config.get_visible_devices("GPU"))  # does not start TensorFlow's runtime
    facts = {"version of TensorFlow": tf.__version__, "number of GPUs": gpus}
    meet(cluster, facts, functools.partial(print, flush=True))
    _configure_service(cluster)
    with _lost_worker_as_error():
        return tf.distribute.MultiWorkerMirroredStrategy()


def _configure_service(cluster: Cluster) -> None:
    """Sets the timeouts of the service by which TensorFlow's workers watch each other."""
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2

    jobs = [job for job, _ in cluster.tasks]
    job, index = cluster.tasks[0]
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{job}/replica:0/task:{index}",
        cluster_register_timeout_in_ms=1000 * _REGISTER,
        heartbeat_timeout_in_ms=1000 * _HEARTBEAT,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=name, num_tasks=jobs.count(name))
            for name in dict.fromkeys(jobs)
        ],
    )
    context.context().coordination_service.cluster_register_with_barrier = True


def check_batch_size(
    batch_size: int, strategy: tf.distribute.Strategy, accumulation_steps: int = 1
) -> None:
    """Checks that every replica gets the same part of a batch, in equal parts one after another.

    Raises:
      ValueError: the batch does not divide over the replicas and the parts.
    """
    replicas = strategy.num_replicas_in_sync
    divisor = replicas * accumulation_steps
    if batch_size % divisor:
        near = batch_size // divisor * divisor
        what = f"{replicas}, the number of replicas"
        if accumulation_steps > 1:
            what = f"{divisor}, {replicas} replica(s) x {accumulation_steps} accumulation_steps"
        raise ValueError(
            f"train.batch_size must be a multiple of {what}; got {batch_size}. Use"
            f" {f'{near} or ' if near else ''}{near + divisor}."
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes and evaluates."""
    return not has_workers(strategy) or read_cluster().rank == 0


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes train together."""
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return several and read_cluster() is not None


def from_chief(strategy: tf.distribute.Strategy, value: float) -> float:
    """The chief's value, on all workers; each must call it, and it waits until each has.

    Raises:
      ConnectionError: another worker is gone.
    """
    return _of_all_workers(strategy, value)[0]


def largest(strategy: tf.distribute.Strategy, value: float) -> float:
    """The largest value of all workers; each must call it, and it waits until each has.

    Raises:
      ConnectionError: another worker is gone.
    """
    return max(_of_all_workers(strategy, value))


def copy_from_chief(strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable]) -> None:
    """Gives all workers the chief's values; each must call it with variables of the same shapes.

    Args:
      strategy: of the workers.
      variables: floats, made in its scope.
    """
    if not has_workers(strategy):
        return

    def of_replica():
        replica = tf.distribute.get_replica_context()
        is_first = tf.equal(replica.replica_id_in_sync_group, 0)
        values = [tf.identity(variable.value) for variable in variables]
        own = [tf.where(is_first, value, tf.zeros_like(value)) for value in values]
        for variable, value in zip(variables, replica.all_reduce("SUM", own), strict=True):
            variable.value.assign(value)

    @tf.function(autograph=False)
    def copy():
        strategy.run(of_replica)

    copy()


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Waits until each worker calls it, for however long.

    At the end of a run, no worker may leave before the others: they would take it for dead.

    Raises:
      ConnectionError: another worker is gone.
    """
    _of_all_workers(strategy, 0.0)


def check_agreement(strategy: tf.distribute.Strategy, text: str, what: str) -> None:
    """Checks that all workers have the same text; each must call it, in the same order.

    Args:
      strategy: of the workers.
      text: of this worker.
      what: it is, in the message, which is the same on all workers.

    Raises:
      ValueError: a worker's text differs from the chief's.
      ConnectionError: another worker is gone.
    """
    # 48 bits: a float64 holds them exactly.
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
    digests = _of_all_workers(strategy, float(digest))
    differing = [rank for rank, other in enumerate(digests) if other != digests[0]]
    if differing:
        cluster = read_cluster()
        raise ValueError(
            f"all workers must have the same {what}; that of {cluster.names(differing)} is not that"
            f" of {cluster.name(0)}. Run the same command, with the same files, on all machines."
        )


def lost_worker(error: Exception) -> str | None:
    """What to say if an error means that another worker is gone; None: it means something else.

    Args:
      error: from a step, or whatever else waits for the other workers.
    """
    # The first three as seen when a worker is killed, halts or leaves.
    codes = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError)
    text = str(error)
    if not isinstance(error, codes) or not re.search(r"Collective ops|/job:|Coordination", text):
        return None
    cluster = read_cluster()
    if cluster is None:
        return None
    named = [(job, int(i)) for job, i in re.findall(r"/job:(\w+)/(?:replica:0/)?task:(\d+)", text)]
    if not named and "CoordinationService" in text:
        named = [cluster.tasks[0]]  # the chief runs that service
    ranks = [r for r, task in enumerate(cluster.tasks) if task in named and r != cluster.rank]
    return _gone(cluster, ranks)


@contextlib.contextmanager
def lost_worker_as_error(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Around whatever waits for other workers: says in one line if one of them is gone.

    Raises:
      ConnectionError: another worker is gone.
    """
    with _lost_worker_as_error() if has_workers(strategy) else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _lost_worker_as_error() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        message = lost_worker(error)
        if message is None:
            raise
        raise ConnectionError(message) from error


def check_workers(strategy: tf.distribute.Strategy) -> None:
    """Checks that all workers live; for the chief, when it works alone for long.

    Raises:
      ConnectionError: one is gone.
    """
    if not has_workers(strategy):
        return
    cluster = read_cluster()
    jobs = [job for job, _ in cluster.tasks]
    states = context.context().get_task_states(
        [(job, jobs.count(job)) for job in dict.fromkeys(jobs)]
    )
    lost = [rank for rank, state in enumerate(states) if state is not None]
    if lost:
        raise ConnectionError(_gone(cluster, lost))


def _gone(cluster: Cluster, ranks: list[int]) -> str:
    return (
        f"{cluster.names(ranks) or 'another worker'} stopped or cannot be reached, so this worker"
        " stops too. The same command on all machines resumes from the last checkpoint."
    )


def _of_all_workers(strategy: tf.distribute.Strategy, value: float) -> list[float]:
    """The value of each worker, the chief's first."""
    if not has_workers(strategy):
        return [value]
    with _lost_worker_as_error():
        gathered = _gather(strategy)(tf.constant(value, tf.float64)).numpy()
    replicas = len(gathered) // len(read_cluster().tasks)  # of a worker
    return [float(value) for value in gathered[::replicas]]


@functools.cache
def _gather(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of a scalar of this worker -> [replicas], those of all replicas."""

    def of_replica(value):
        replica = tf.distribute.get_replica_context()
        place = tf.range(strategy.num_replicas_in_sync) == replica.replica_id_in_sync_group
        row = tf.where(place, value, tf.zeros_like(value))
        return replica.all_reduce("SUM", row)

    @tf.function(autograph=False)
    def gather(value):
        return strategy.experimental_local_results(strategy.run(of_replica, args=(value,)))[0]

    return gather
