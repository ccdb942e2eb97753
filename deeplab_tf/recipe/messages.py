"""Text that messages share."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable


def shortened(names: Iterable[object], separator: str = ", ", most: int = 20) -> str:  # ours: 20
    """The first `most` names, and how many more there are; "none" where there are none."""
    listed = [str(name) for name in names]
    more = len(listed) - most
    return separator.join(listed[:most] + [f"and {more} more"] * (more > 0)) or "none"


# ours: what fits into two lines
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 100
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = 20
_SHOWN.maxlevel = 3


def shown(value: object) -> str:
    """A value that a message quotes, in Python's form, shortened where it is long."""
    return _SHOWN.repr(value)
