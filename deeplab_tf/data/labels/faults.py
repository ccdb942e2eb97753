"""Faults of examples, listed once per pattern."""

from __future__ import annotations

import dataclasses
import re

_MOST_NAMES = 3  # ours: of examples with the same fault


@dataclasses.dataclass
class _Pattern:
    where: str
    text: str
    names: list[str]
    number: int = 0


class Faults:
    """Faults of which those that differ in numbers alone are one pattern."""

    def __init__(self) -> None:
        """Starts without faults."""
        self._patterns: dict[tuple[str, str], _Pattern] = {}

    def add(self, where: str, name: str, text: str, pattern: str | None = None) -> None:
        """Adds the fault of an example.

        Args:
          where: the split, or empty.
          name: of the example.
          text: what is wrong with it.
          pattern: the same for faults that are alike; None: the text without its numbers.
        """
        key = where, pattern or re.sub(r"\d+", "0", text)
        found = self._patterns.setdefault(key, _Pattern(where, text, []))
        found.number += 1
        if len(found.names) < _MOST_NAMES:
            found.names.append(name)

    def number(self, where: str | None = None) -> int:
        """Number of faulty examples; None: wherever they are."""
        return sum(p.number for p in self._patterns.values() if where in (None, p.where))

    def lines(self, without: str | None = None) -> list[str]:
        """One line per pattern: an example, what is wrong with it, and others like it.

        Args:
          without: leave out the faults with this `where`.
        """
        return [_line(p) for p in self._patterns.values() if p.where != without]


def _line(pattern: _Pattern) -> str:
    first, *others = pattern.names
    line = f"{pattern.where}: " * bool(pattern.where) + f"{first}: {pattern.text}"
    if not others:
        return line
    more = pattern.number - 1
    listed = ", ".join(others) + f", and {more - len(others)} more" * (more > len(others))
    return f"{line.rstrip('.')}; likewise {listed}"
