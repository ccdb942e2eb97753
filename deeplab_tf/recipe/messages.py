"""Text that messages share."""

from __future__ import annotations

from collections.abc import Iterable


def shortened(names: Iterable[object], separator: str = ", ", most: int = 20) -> str:  # ours: 20
    """The first `most` names, and how many more there are; "none" where there are none."""
    listed = [str(name) for name in names]
    more = len(listed) - most
    return separator.join(listed[:most] + [f"and {more} more"] * (more > 0)) or "none"
