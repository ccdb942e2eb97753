"""A progress line."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO


class Progress:
    """One line: how far a loop is, and when it will end.

    On a terminal it rewrites itself and is cut to the terminal's width; elsewhere a new one is
    printed every `every` seconds.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        start: int = 0,
        stream: TextIO | None = None,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Prints nothing yet.

        Args:
          what: the work, e.g. "training".
          total: steps in all.
          start: steps that were done before.
          stream: to print to; None: standard error.
          every: seconds between two lines, where the stream is not a terminal.
          clock: a clock in seconds.
        """
        self._what, self._total, self._done = what, total, start
        self._stream = sys.stderr if stream is None else stream
        self._every, self._clock = every, clock
        self._first: tuple[int, float] | None = None  # (steps done, time) of the first update
        self._printed_at = -math.inf
        self._width = 0  # of the unfinished line on the terminal

    def update(self, done: int, values: Mapping[str, float] | None = None) -> None:
        """Reports `done` steps as done, with `values` in four digits after the remaining time.

        The remaining time is estimated from the second update on, because the first step compiles.
        Whatever happens between the steps, such as evaluations, counts in it.
        """
        now = self._clock()
        self._done = done
        if self._first is None:
            self._first = (done, now)
        finished = done >= self._total
        if self._stream.isatty():
            # A line that the terminal wraps cannot be rewritten.
            line = self._line(now, values)[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line:<{self._width}}", end="", file=self._stream, flush=True)
            self._width = len(line)
            if finished:
                self.close()
        elif finished or now - self._printed_at >= self._every:
            print(self._line(now, values), file=self._stream, flush=True)
            self._printed_at = now

    def close(self) -> None:
        """Ends the line on a terminal, so that other output starts on a new one."""
        if self._width:
            print(file=self._stream, flush=True)
            self._width = 0

    def _line(self, now: float, values: Mapping[str, float] | None) -> str:
        parts = [f"{self._what} {self._done}/{self._total} ({self._done / self._total:.0%})"]
        steps, seconds = self._done - self._first[0], now - self._first[1]
        if steps > 0:
            pace = seconds / steps
            parts += [_pace(pace), f"ETA {_duration((self._total - self._done) * pace)}"]
        parts += [f"{name} {value:.4g}" for name, value in (values or {}).items()]
        return "  ".join(parts)


def _pace(seconds_per_step: float) -> str:
    if 0 < seconds_per_step < 1:
        return f"{1 / seconds_per_step:.1f}/s"
    return f"{seconds_per_step:.1f} s each"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
