"""The workers of a training on several machines: TF_CONFIG, and their meeting before the start.

TensorFlow alone would wait for a missing worker without a word, and would compute with whatever
number of GPUs each worker has. So the workers meet first, over plain TCP at the chief's address,
which TensorFlow takes over afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deeplab_tf.recipe.json_files import parse
from deeplab_tf.recipe.messages import shown

_START_LIMIT = 600.0  # ours: seconds to wait for the other workers, which a queue may start later
_QUIET = 5.0  # ours: seconds before a worker says whom it waits for
_POLL = 0.5  # ours: seconds between two looks, and for a caller to say who it is
_LONGEST_MESSAGE = 1 << 16  # ours: bytes; others than workers may call at an open port
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """The workers that TF_CONFIG names, in TensorFlow's order: the chief is the first.

    Attributes:
      tasks: job and index of each.
      addresses: host:port of each.
      rank: place of this process among them.
    """

    tasks: tuple[tuple[str, int], ...]
    addresses: tuple[str, ...]
    rank: int

    def name(self, rank: int) -> str:
        """A worker in messages, as in "worker 1 (10.0.0.2:2222)"."""
        job, index = self.tasks[rank]
        return f"{job} {index} ({self.addresses[rank]})"

    def names(self, ranks: Sequence[int]) -> str:
        """Several workers in messages."""
        return ", ".join(map(self.name, ranks))


def read_cluster() -> Cluster | None:
    """Reads TF_CONFIG.

    Returns:
      The cluster; None if TF_CONFIG is not set or names no cluster.

    Raises:
      ValueError: it is not what several workers need.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = parse(text)
    except ValueError as error:
        raise ValueError(f"TF_CONFIG must be JSON like {_EXAMPLE}; got {shown(text)}.") from error
    cluster = config.get("cluster")
    if not cluster:
        return None
    if not isinstance(cluster, dict):
        raise ValueError(f"TF_CONFIG must be like {_EXAMPLE}; got {text!r}.")
    unknown = sorted(cluster.keys() - {"chief", "worker"})
    if unknown:
        raise ValueError(
            "TF_CONFIG must have the job 'worker' and, if at all, 'chief': all workers train alike,"
            f" and the chief evaluates; got {', '.join(map(repr, unknown))}."
        )
    jobs = {job: _addresses(job, cluster[job]) for job in ("chief", "worker") if job in cluster}
    if len(jobs.get("chief", ())) > 1:
        raise ValueError(f"TF_CONFIG must have at most one chief; got {jobs['chief']!r}.")
    tasks = tuple((job, index) for job, listed in jobs.items() for index in range(len(listed)))
    addresses = tuple(address for listed in jobs.values() for address in listed)
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice:
        raise ValueError(
            f"each worker in TF_CONFIG must have an address of its own; got {twice[0]} twice."
        )
    task = config.get("task")
    own = (task.get("type"), _integer(task.get("index"))) if isinstance(task, dict) else None
    if own not in tasks:
        raise ValueError(
            "TF_CONFIG must say which worker this process is, by a 'task' with a 'type' and an"
            f" 'index' from 0 on, one of {', '.join(f'{job} {index}' for job, index in tasks)};"
            f" got {task!r}."
        )
    return Cluster(tasks=tasks, addresses=addresses, rank=tasks.index(own))


def _addresses(job: str, listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not listed or not all(map(_is_address, listed)):
        raise ValueError(
            f"TF_CONFIG's {job!r} must be a list of addresses such as host1:2222; got {listed!r}."
        )
    return tuple(listed)


def _is_address(text: Any) -> bool:
    match = re.fullmatch(r"[^\s:/]+:(\d{1,5})", text) if isinstance(text, str) else None
    return match is not None and 0 < int(match[1]) < 1 << 16


def _integer(value: Any) -> Any:
    """The index, which some schedulers write as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def meet(
    cluster: Cluster,
    facts: Mapping[str, Any],
    print_fn: Callable[[str], None],
    *,
    limit: float = _START_LIMIT,
) -> None:
    """Waits until all workers have started, and checks that they fit together.

    Args:
      cluster: all workers.
      facts: what -> its value on this worker, as JSON has it; it must be the same on all.
      print_fn: prints whom this worker waits for, after a few seconds.
      limit: seconds after which a worker gives up.

    Raises:
      ValueError: the workers do not fit together.
      OSError: this worker's port is taken, or another worker did not start.
    """
    facts = {"list of workers in TF_CONFIG": list(cluster.addresses), **facts}
    with _take_port(cluster) as server:
        if cluster.rank == 0:
            _welcome_all(cluster, facts, server, print_fn, limit)
            return
    _report(cluster, facts, print_fn, limit)


def _take_port(cluster: Cluster) -> socket.socket:
    port = int(cluster.addresses[cluster.rank].rpartition(":")[2])
    try:
        return socket.create_server(("", port), backlog=len(cluster.tasks))
    except OSError as error:
        raise OSError(
            f"the port of {cluster.name(cluster.rank)} in TF_CONFIG must be free on this machine;"
            f" got {os.strerror(error.errno)!r}. End the program that uses port {port}, perhaps an"
            " earlier run, or give all workers another port in TF_CONFIG."
        ) from error


def _welcome_all(
    cluster: Cluster,
    facts: Mapping[str, Any],
    server: socket.socket,
    print_fn: Callable[[str], None],
    limit: float,
) -> None:
    """The chief's side of a meeting."""
    start = time.monotonic()
    others = range(1, len(cluster.tasks))
    connections: dict[int, socket.socket] = {}
    told = False
    with contextlib.ExitStack() as stack:
        server.settimeout(_POLL)
        while missing := [rank for rank in others if rank not in connections]:
            waited = time.monotonic() - start
            if waited > limit:
                message = _not_started(cluster, missing, limit)
                _tell_all(connections, {"refused": message})
                raise TimeoutError(message)
            if waited > _QUIET and not told:
                told = True
                print_fn(f"waiting for {cluster.names(missing)}")
            with contextlib.suppress(OSError):  # nobody calls, or somebody who says nothing
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(_POLL)
                report = _receive(connection)
                rank = report.get("rank")
                if rank in others:
                    message = _misfit(cluster, rank, facts, report["facts"])
                    if rank in connections:
                        message = (
                            f"each worker must have a task of its own in TF_CONFIG; two say that"
                            f" they are {cluster.name(rank)}."
                        )
                    if message:
                        _tell_all({**connections, -1: connection}, {"refused": message})
                        raise ValueError(message)
                    connections[rank] = connection
            connections = {r: c for r, c in connections.items() if _is_open(c)}
        server.close()  # TensorFlow takes the port now
        _tell_all(connections, {"complete": True})


def _misfit(
    cluster: Cluster, rank: int, facts: Mapping[str, Any], reported: Mapping[str, Any]
) -> str | None:
    for what, value in facts.items():
        if reported.get(what) != value:
            return (
                f"all workers must have the same {what}; {cluster.name(0)} has {value},"
                f" {cluster.name(rank)} has {reported.get(what)}."
            )
    return None


def _report(
    cluster: Cluster, facts: Mapping[str, Any], print_fn: Callable[[str], None], limit: float
) -> None:
    """Another worker's side of a meeting."""
    start = time.monotonic()
    host, _, port = cluster.addresses[0].rpartition(":")
    told = False
    while (waited := time.monotonic() - start) < limit:
        if waited > _QUIET and not told:
            told = True
            print_fn(f"waiting for {cluster.name(0)}")
        # Until the chief is there, the connection is refused or ends without an answer.
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, int(port)), timeout=_POLL) as connection,
        ):
            _tell_all({0: connection}, {"rank": cluster.rank, "facts": facts})
            if not select.select([connection], [], [], _QUIET)[0] and not told:
                told = True
                print_fn(f"waiting for the workers that {cluster.name(0)} waits for")
            connection.settimeout(limit + _QUIET - waited)  # the chief gives up first
            answer = _receive(connection)
            if "complete" in answer:
                return
            if "refused" in answer:
                raise ValueError(answer["refused"])
        time.sleep(_POLL)
    raise TimeoutError(_not_started(cluster, [0], limit))


def _tell_all(connections: Mapping[int, socket.socket], message: Mapping[str, Any]) -> None:
    for connection in connections.values():
        with contextlib.suppress(OSError):  # it is gone, which TensorFlow notices
            connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection: socket.socket) -> Mapping[str, Any]:
    """The next line; empty if it is not one of ours."""
    with connection.makefile("rb") as file:
        line = file.readline(_LONGEST_MESSAGE)
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:  # open, and nothing is said
        return True
    except OSError:
        return False


def _not_started(cluster: Cluster, missing: Sequence[int], limit: float) -> str:
    return (
        f"all workers must start; {cluster.names(missing)} did not within {limit:g} s. Run the same"
        " command on every machine that TF_CONFIG names; the machines must reach each other."
    )
