"""What the machine has."""

from __future__ import annotations

import pathlib


def machine_memory(root: str = "/") -> tuple[int, int] | None:
    """Memory of this machine, or of the container or job that the process is in.

    Args:
      root: directory with proc and sys.

    Returns:
      (all of it with swap space, what is free now) in bytes; None where the system does not tell.
    """
    directory = pathlib.Path(root)
    meminfo = _numbers(directory / "proc/meminfo", unit=1024)
    if "MemTotal" not in meminfo or "MemAvailable" not in meminfo:
        return None
    total, free = meminfo["MemTotal"], meminfo["MemAvailable"]
    for group, limit_name, usage_name, prefix in _control_groups(directory):
        limit, usage = (_number(group / name) for name in (limit_name, usage_name))
        if limit is not None and usage is not None:
            # Cached files give way.
            stat = _numbers(group / "memory.stat")
            files = sum(stat.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
            total, free = min(total, limit), min(free, limit - usage + files)
    return total + meminfo.get("SwapTotal", 0), max(free, 0)


def _control_groups(root: pathlib.Path) -> list[tuple[pathlib.Path, str, str, str]]:
    """(directory, its files of limit and usage, prefix in memory.stat) of each that limits us."""
    groups = []
    listed = root / "proc/self/cgroup"
    for line in listed.read_text().splitlines() if listed.exists() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        # Limits of the groups above hold too. In a container the path may be that of the host.
        own = mount / path.lstrip("/")
        above = [own, *own.parents]
        groups += [(group, *names) for group in above[: above.index(mount) + 1]]
    return groups


def _number(path: pathlib.Path) -> int | None:
    """The number in a file; None if there is no file, or "max"."""
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text.isdecimal() else None


def _numbers(path: pathlib.Path, unit: int = 1) -> dict[str, int]:
    """Name -> number, of a file with one of each in a line, times a unit."""
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {row[0].rstrip(":"): unit * int(row[1]) for row in rows if len(row) > 1}


def gigabytes(number: float) -> str:
    """A number of bytes in print."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
