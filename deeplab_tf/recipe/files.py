"""Writing a file whole or not at all, and reading lists."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Container


def write_bytes(path: str, data: bytes) -> None:
    """Writes `data` under a temporary name beside `path`, then puts it in place.

    Missing directories are made. A file that was there before stays intact until the new one is
    complete, and so it is after a power failure.

    Raises:
      OSError: it cannot be written, e.g. the disk is full.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(os.path.dirname(path) or ".")
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, path) from error  # which write() does not know
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def check_local(path: str) -> None:
    """Checks that a path is one of this machine; "gs://bucket" would be a folder called "gs:".

    Files are renamed and rows are appended, which stores of objects cannot do.

    Raises:
      ValueError: it is empty, or a URL such as gs://bucket/run.
    """
    if not path or "://" in path:
        raise ValueError(
            f"{path!r} must be a path of this machine, neither empty nor a URL. Mount the store,"
            " such as a bucket by gcsfuse, or copy the files."
        )


def check_writable(path: str) -> None:
    """Checks that a file can be written, before the work whose result it takes.

    Raises:
      ValueError: see `check_local`.
      OSError: it is a directory, a pipe or a device, its name is too long, or its directory
        cannot be written or made.
    """
    check_local(path)
    if not os.path.basename(path) or os.path.isdir(path):
        raise OSError(f"{path} cannot be written: it names a directory.")
    path = os.path.abspath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} cannot be written: it is a pipe, a socket or a device.")
    folder = os.path.dirname(path)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise OSError(f"{path} cannot be written: {folder} is not a directory.")
    missing = os.path.relpath(f"{path}.{os.getpid()}.tmp", folder).split(os.sep)
    try:
        for name in missing:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(os.path.join(folder, name))  # refuses names that are too long
        # Not os.access, which allows root what the file system does not.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}.") from error


def sync(path: str) -> None:
    """Waits until a file's content, or the names in a directory, are on the disk.

    Raises:
      OSError: they cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as some network file systems say
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(directory: str, names: Container[str] | None = None) -> None:
    """Removes what `write_bytes` left in a directory when its process was killed.

    Args:
      directory: it may not be there.
      names: of the files that `write_bytes` was to write; None: any, for directories of our own.

    Raises:
      OSError: it cannot be removed.
    """
    if not os.path.isdir(directory):
        return
    for name in os.listdir(directory):
        temporary = re.fullmatch(r"(.*)\.(\d+)\.tmp", name, re.DOTALL)
        if (
            temporary
            and (names is None or temporary[1] in names)
            and not _is_running(int(temporary[2]))
        ):
            os.remove(os.path.join(directory, name))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def write_text(path: str, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def read_lines(path: str) -> list[str]:
    """The lines of a list, without blank ones and the spaces around.

    Raises:
      OSError: there is no such file.
      ValueError: it is no text in UTF-8.
    """
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: str) -> list[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank; see `read_lines`."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # editors may begin it with a mark
            lines = enumerate(map(str.strip, file), start=1)
            return [(number, line) for number, line in lines if line]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be a text file in UTF-8; save it as such ({error})."
        ) from error


def read_class_names(path: str, flag: str) -> tuple[str, ...]:
    """Reads a file with one class name per line.

    Args:
      path: of the file.
      flag: the flag that names it, for the messages.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it does not name two or more different classes.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}; {flag} must name one.")
    names = tuple(read_lines(path))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"{path} must name two or more different classes, one per line;"
            f" got {', '.join(names) or 'none'}."
        )
    return names
