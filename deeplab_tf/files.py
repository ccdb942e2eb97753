"""Writing a file whole or not at all."""

from __future__ import annotations

import os


def write_bytes(path: str, data: bytes) -> None:
    """Writes `data` under a temporary name beside `path`, then puts it in place.

    Missing directories are made. A file that was there before stays intact until the new one is
    complete.

    Raises:
      OSError: it cannot be written, e.g. the disk is full.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def write_text(path: str, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())
