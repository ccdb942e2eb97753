"""One training at a time in a workdir."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from deeplab_tf.recipe.files import remove_leftovers
from deeplab_tf.recipe.lock import NoLocksError, locked
from deeplab_tf.training.workdir.checkpoints import remove_incomplete


@contextlib.contextmanager
def held(workdir: str) -> Iterator[None]:
    """Holds a workdir in the `with` block, and makes it if it is not there.

    Directories that were made and stay empty are removed at the end, so that a command that is
    refused leaves nothing behind. Evaluation, prediction and export only read, and need no lock.
    Where the file system has no locks, a warning is printed and nothing is locked.

    Raises:
      BlockingIOError: another process trains in it; the message names the process.
      OSError: it cannot be written.
    """
    made = _missing(os.path.abspath(workdir))
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            lock = locked(os.path.join(workdir, "lock"), f"the workdir {workdir}")
            stack.enter_context(lock)
        except BlockingIOError:
            raise
        except NoLocksError as error:
            print(f"warning: {error} Until then, let no second training use it.", file=sys.stderr)
        except OSError as error:
            raise OSError(
                f"the workdir {workdir} cannot be written: {error}; choose one that can."
            ) from error
        for folder in ("", "best", "checkpoints", "pictures"):
            remove_leftovers(os.path.join(workdir, folder))
        remove_incomplete(workdir)
        yield


def _missing(path: str) -> list[str]:
    """The directories of a path that do not exist, the innermost first."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _remove_empty(directories: list[str]) -> None:
    for directory in directories:
        if not os.path.isdir(directory) or os.listdir(directory):
            return
        os.rmdir(directory)
