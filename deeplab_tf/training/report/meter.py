"""How fast a run is, and how much memory it takes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import tensorflow as tf


class Meter:
    """Measures what differs between equal runs: images per second, and memory."""

    def __init__(self, images_per_step: int, *, clock: Callable[[], float] = time.monotonic):
        """Measures nothing yet.

        Args:
          images_per_step: the global batch size.
          clock: a clock in seconds.
        """
        self._images_per_step, self._clock = images_per_step, clock
        self._last: tuple[int, float] | None = None  # (step, time) of the last reading

    def read(self, step: int) -> dict[str, float]:
        """Measures after `step`. Read the step's results first: a GPU may not be done with it.

        Returns:
          "images_per_second" since the last reading, from the second reading on because the first
          step compiles; and "memory_gb", see `peak_memory`, in 10^9 bytes.
        """
        now = self._clock()
        reading = {"memory_gb": peak_memory() / 1e9}
        if self._last is not None:
            images = (step - self._last[0]) * self._images_per_step
            reading = {"images_per_second": images / (now - self._last[1])} | reading
        self._last = (step, now)
        return reading

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time in this context counts in no reading, such as that of an evaluation."""
        began = self._clock()
        yield
        seconds = self._clock() - began
        if self._last is not None:
            self._last = (self._last[0], self._last[1] + seconds)


def peak_memory() -> int:
    """Most bytes in use so far: of the GPU with the most, or of the process if there is no GPU."""
    gpus = [f"GPU:{i}" for i in range(len(tf.config.get_visible_devices("GPU")))]
    if gpus:
        return max(tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus)
    return peak_resident_memory()


def peak_resident_memory() -> int:
    """Most bytes that the process has held so far."""
    # Not getrusage on Linux, which counts what the process that started this one has held.
    with contextlib.suppress(FileNotFoundError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows, where the rest works

    unit = 1 if sys.platform == "darwin" else 1024  # of what the system counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
