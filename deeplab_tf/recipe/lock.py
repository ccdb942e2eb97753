"""One process at a time: a lock that says who holds it, and that ends with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import socket
import sys
from collections.abc import Iterator

_MOST_COMMAND = 200  # ours: characters of a command line in a message


class NoLocksError(OSError):
    """The file system has no locks, as some of clusters."""


@contextlib.contextmanager
def locked(path: str, what: str, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock `path` in the `with` block.

    The system releases the lock of a process that ends in any way, a kill included. The file says
    who holds the lock, and is removed at the end; what a killed process leaves locks nobody out.
    Missing directories are made.

    Args:
      path: of the file.
      what: what is locked, for messages, e.g. "the workdir runs/1".
      wait: wait for another process that holds the lock, and say so on standard error.

    Raises:
      BlockingIOError: another process holds the lock, and `wait` is false; it names the process.
      NoLocksError: the file system has no locks.
      OSError: the file cannot be written.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    descriptor = _acquired(path, what, wait)
    try:
        _write(path, descriptor, f"{_this_process()}\n")
        yield
    finally:
        if _is_at(path, descriptor):
            os.remove(path)
        os.close(descriptor)


def _acquired(path: str, what: str, wait: bool) -> int:
    """An open file that is at `path` and has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(path, descriptor, what, wait)
            # A holder removes its file at the end; a lock on a removed one locks nobody out.
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(path: str, descriptor: int, what: str, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # A holder that has just begun has not yet written who it is.
        holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
        used = f"{what} is in use by {holder or 'another process'}"
        if not wait:
            raise BlockingIOError(f"{used}; wait until it ends, or stop it.") from None
        print(f"{used}; waiting until it ends", file=sys.stderr)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP):
            raise
        raise NoLocksError(
            f"{path} cannot be locked: its file system has no flock ({error.strerror}). Use a"
            " directory on another one, or mount this one with locks."
        ) from error


def _write(path: str, descriptor: int, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(errors="surrogateescape"), 0)
    except OSError as error:  # which does not know the path
        raise OSError(error.errno, error.strerror, path) from error


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _this_process() -> str:
    command = shlex.join(sys.argv).replace("\n", " ")
    return f"process {os.getpid()} on {socket.gethostname()}: {command[:_MOST_COMMAND]}"
