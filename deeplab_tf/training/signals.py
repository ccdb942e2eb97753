"""Stopping a run from outside: the first signal ends it after a step, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, a closed terminal


class Stopped(Exception):
    """What runs is given up, because a signal asked the run to stop."""


class StopRequest:
    """Whether a signal asked the run to stop.

    Attributes:
      number: of the signal; 0: none came.
    """

    number: int = 0

    def check(self) -> None:
        """Call it in what takes long and can be given up.

        Raises:
          Stopped: a signal came.
        """
        if self.number:
            raise Stopped


def raise_if_stopped(number: int) -> None:
    """Ends the program as the signal that stopped the run would.

    Args:
      number: of the signal; 0: nothing happens.

    Raises:
      KeyboardInterrupt: it is SIGINT.
      SystemExit: it is another one; the exit code is 128 + its number.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise SystemExit(128 + number)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """In this block, the first signal is noted, and a second one ends the process at once.

    A signal that was ignored before stays ignored, as under nohup. Outside the main thread, which
    alone receives signals, nothing changes.

    Returns:
      What was asked for so far.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _HANDLED}
    handled = [number for number in _HANDLED if before[number] not in (signal.SIG_IGN, None)]

    def note(number, frame):
        request.number = number
        for each in handled:
            signal.signal(each, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; a second signal stops at once\n")

    try:
        for number in handled:
            signal.signal(number, note)
        yield request
    finally:
        for number in handled:
            signal.signal(number, before[number])
