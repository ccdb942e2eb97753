"""The files that the test server of a benchmark wants: writing, checking and packing them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from deeplab_tf.data.picture_files import open_picture
from deeplab_tf.recipe.dataset_spec import Color
from deeplab_tf.recipe.files import write_bytes
from deeplab_tf.recipe.messages import shortened

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip file
_READABLE = 0o644  # permissions of the files in an archive
_CHUNK = 2**20  # bytes that are read at a time
# ours: of a file that is checked; the largest gray PNG that Pillow opens has 90 MB
_MOST_BYTES = 2**27


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerFormat:
    """What the test server of a benchmark wants: a PNG of one channel for each image.

    Attributes:
      values: class -> value of its pixels.
      palette: color of each value, for a PNG with a palette; None: a gray PNG.
      archive: what the files are packed into.
      folder: of the files in the archive, with {split} and {competition}; "": at its root.
      competitions: name -> what its networks may be trained on; the first is the default. Empty:
        the server has one competition.
    """

    values: tuple[int, ...]
    palette: tuple[Color, ...] | None
    archive: Literal["tgz", "zip"]
    folder: str = ""
    competitions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def competition(self, name: str | None) -> str | None:
        """The competition of this name; of None, the first one, or None where there is only one.

        Raises:
          ValueError: there is no such competition.
        """
        if name is None:
            return next(iter(self.competitions), None)
        if name not in self.competitions:
            known = [f"{key} ({what})" for key, what in self.competitions.items()]
            raise ValueError(
                f"--competition must be {' or '.join(known) or 'left out for this dataset'};"
                f" got {name!r}."
            )
        return name

    def paths(
        self, names: Sequence[str], split: str, competition: str | None = None
    ) -> dict[str, str]:
        """Where the files belong.

        Args:
          names: of the images of the split.
          split: its name.
          competition: see `competition`.

        Returns:
          Name of an image -> path of its file in the archive, with slashes.

        Raises:
          ValueError: there is no such competition, or two images have the same name.
        """
        folder = self.folder.format(split=split, competition=self.competition(competition))
        repeated = [name for name, number in collections.Counter(names).items() if number > 1]
        if repeated:
            raise ValueError(
                f"the images of {split!r} must have different names, one for each file; more than"
                f" one is called {shortened(repeated)}."
            )
        return {name: f"{folder}/{name}.png" if folder else f"{name}.png" for name in names}

    def encode(self, label_map: np.ndarray) -> bytes:
        """The PNG file of a prediction.

        Args:
          label_map: int [H, W], classes.
        """
        values = np.asarray(self.values, np.uint8)[label_map]
        picture = Image.fromarray(values)
        if self.palette is not None:
            picture.putpalette([channel for color in self.palette for channel in color])
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    def pack(self, directory: str, paths: Sequence[str], archive: str) -> None:
        """Packs files; the same files always give the same archive.

        Args:
          directory: that the paths start from.
          paths: of the files, with slashes.
          archive: to write.

        Raises:
          OSError: a file cannot be read, or the archive cannot be written.
        """
        packed = io.BytesIO()
        add = _pack_tgz if self.archive == "tgz" else _pack_zip
        add(packed, [(path, os.path.join(directory, *path.split("/"))) for path in sorted(paths)])
        write_bytes(archive, packed.getvalue())


def faults(
    where: str,
    server: ServerFormat,
    sizes: Mapping[str, tuple[int, int]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """What a server would refuse, or score as wrong, in files for it.

    Args:
      where: a directory, of which all PNG files count, or an archive.
      server: what the server wants.
      sizes: path of each file that it wants, from `ServerFormat.paths` -> (H, W) of its image.
      progress: called after each file with (files done, files in all).

    Returns:
      A line for each fault; none if there is none.

    Raises:
      FileNotFoundError: there is no such directory or file.
      ValueError: the file is not an archive, is damaged, or is none in the server's format.
    """
    found = []
    with _opened(where, server) as (names, read):
        there = set(names)
        missing, others = sorted(sizes.keys() - there), sorted(there - sizes.keys())
        repeated = [name for name, number in collections.Counter(names).items() if number > 1]
        if missing:
            found.append(
                f"{len(missing)} of {len(sizes)} files are missing: {shortened(missing, most=5)}"
            )
        if others:
            found.append(f"{len(others)} files are not of this split: {shortened(others, most=5)}")
        if repeated:
            found.append(f"{len(repeated)} files are there twice: {shortened(repeated, most=5)}")
        present = [path for path in sizes if path in there]
        for done, path in enumerate(present, start=1):
            fault = _fault(read(path), server, sizes[path])
            if fault is not None:
                found.append(f"{path} {fault}")
            if progress is not None:
                progress(done, len(present))
    return found


def _fault(content: bytes, server: ServerFormat, size: tuple[int, int]) -> str | None:
    """What is wrong with one file, after its name; None: nothing."""
    try:
        with open_picture(io.BytesIO(content), formats=("PNG",)) as picture:
            mode, values = picture.mode, np.asarray(picture)
    except ValueError as error:
        return f"is {error}"
    wanted = "L" if server.palette is None else "P"
    if mode != wanted:
        kinds = {"L": "gray, 8 bits", "P": "palette, 8 bits"}
        return f"must be {kinds[wanted]} (Pillow's mode {wanted}); it has mode {mode}"
    if values.shape != size:
        return (
            f"must have its image's {size[0]}x{size[1]} pixels (height x width); it has"
            f" {values.shape[0]}x{values.shape[1]}"
        )
    wrong = sorted(set(np.unique(values).tolist()) - set(server.values))
    if wrong:
        return (
            f"has the values {shortened(wrong, most=5)}, which are no class; those of classes are"
            f" {_ranges(server.values)}"
        )
    return None


def _ranges(values: Sequence[int]) -> str:
    """Sorted integers as text, e.g. "1..3, 7"."""
    ranges: list[list[int]] = []
    for value in sorted(values):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1][1] = value
        else:
            ranges.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in ranges)


_Opened = tuple[list[str], Callable[[str], bytes]]


@contextlib.contextmanager
def _opened(where: str, server: ServerFormat) -> Iterator[_Opened]:
    """(paths of the files, path -> content) of a directory or an archive."""
    if os.path.isdir(where):
        paths = {
            os.path.relpath(os.path.join(folder, name), where).replace(os.sep, "/"): os.path.join(
                folder, name
            )
            for folder, _, names in os.walk(where)
            for name in names
            if name.lower().endswith(".png") and os.path.isfile(os.path.join(folder, name))
        }
        yield list(paths), lambda path: _content_of(open(paths[path], "rb"))
        return
    if not os.path.exists(where):
        raise FileNotFoundError(f"there is no directory or archive {where}.")
    try:
        with _archive(where, server) as opened:
            yield opened
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError,
        RuntimeError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{where} must be an archive in the server's format, {server.archive}, and undamaged:"
            f" {error}"
        ) from error


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def _archive(where: str, server: ServerFormat) -> Iterator[_Opened]:
    if server.archive == "zip":
        with zipfile.ZipFile(where) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            yield names, lambda path: _content_of(archive.open(path))
        return
    with gzip.open(where) as file:  # tarfile does not read up to the checksum at the end
        while file.read(_CHUNK):
            pass
    with tarfile.open(where, "r:gz") as archive:
        # As `tar czf FILE ./results` names them.
        members = [(m.name.removeprefix("./"), m) for m in archive if m.isreg()]
        by_name = dict(members)
        yield (
            [name for name, _ in members],
            lambda path: _content_of(archive.extractfile(by_name[path])),
        )


def _content_of(file: BinaryIO) -> bytes:
    with file:
        return file.read(_MOST_BYTES)  # a small archive can hold a file of any size


def _pack_zip(packed: BinaryIO, files: Sequence[tuple[str, str]]) -> None:
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # a PNG is compressed
        for name, path in files:
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.create_system, info.external_attr = 3, _READABLE << 16  # 3: Unix
            archive.writestr(info, _content(path))


def _pack_tgz(packed: BinaryIO, files: Sequence[tuple[str, str]]) -> None:
    with (
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, path in files:
            content = _content(path)
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), _READABLE
            archive.addfile(info, io.BytesIO(content))
