"""Files of official releases, as archives or as folders extracted from them."""

from __future__ import annotations

import collections
import dataclasses
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO

from deeplab_tf.recipe.files import read_lines
from deeplab_tf.recipe.lock import locked
from deeplab_tf.recipe.messages import shortened

# (what is in progress, how much is done, how much there is)
Progress = Callable[[str, int, int], None]

_MOST_NAMES = 20  # ours: names listed in a message before the number of all others
_COPY_BYTES = 1 << 20
# ours: no official archive unpacks to ten times its size; a bomb unpacks to a thousand times.
_MOST_GROWTH = 200
# What the standard library raises for a damaged or incomplete archive. RuntimeError stands for
# what a zip file needs and nobody gave, such as a password.
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archive:
    """An official archive, and how to tell that its contents are there."""

    file: str  # its name
    base: str  # the folder in it that the dataset reads
    holds: str  # a file or folder below `base`
    source: str  # where to download it, and its size

    def __str__(self) -> str:
        """What a user without it needs to know."""
        folder = os.path.join(self.base, self.holds)
        return f"{self.file} (or {folder} extracted from it): {self.source}"


class ReleaseFiles:
    """A user's directory with the archives of a dataset, or with their contents."""

    def __init__(self, raw_dir: str, progress: Progress | None = None):
        """Reads nothing yet.

        Args:
          raw_dir: the directory.
          progress: called during the extraction of archives, with bytes.

        Raises:
          FileNotFoundError: there is no such directory.
        """
        if not os.path.isdir(raw_dir):
            raise FileNotFoundError(f"there is no directory {raw_dir}; --raw_dir must name one.")
        self.raw_dir = raw_dir
        self._progress = progress

    def find(self, archive: Archive) -> str | None:
        """The folder `archive.base`, or None if there is neither folder nor archive.

        For the base a/b, the folder may be a/b, b, or the directory itself. If there is only the
        archive, it is extracted to <raw_dir>/extracted/<its name>.

        Raises:
          ValueError: the archive is damaged or unsafe.
        """
        extracted = os.path.join(self.raw_dir, "extracted", archive.file)
        found = _folder(self.raw_dir, archive) or _folder(extracted, archive)
        path, lock = os.path.join(self.raw_dir, archive.file), f"{extracted}.lock"
        packed = found is None and os.path.isfile(path)
        # A process may have been killed after the extraction, and have left the lock alone.
        if packed or os.access(lock, os.W_OK):
            with locked(lock, f"the archive {path}", wait=True):
                # Another process may have extracted it while this one waited.
                found = found or _folder(extracted, archive)
                if packed and found is None and not os.path.isdir(extracted):
                    extract(path, extracted, self._progress)
                    found = _folder(extracted, archive)
                    if found is None:  # make room for the right archive
                        shutil.rmtree(extracted)
            if packed and found is None:
                raise ValueError(
                    f"{path} must contain {os.path.join(archive.base, archive.holds)}, and does"
                    f" not; is it the official archive? See {archive.source}. If you replaced it,"
                    f" remove {extracted} too."
                )
        return found

    def folder(self, archive: Archive) -> str:
        """The folder `archive.base`, as `find` finds it.

        Raises:
          FileNotFoundError: there is neither folder nor archive.
          ValueError: the archive is damaged or unsafe.
        """
        found = self.find(archive)
        if found is None:
            raise FileNotFoundError(f"{self.raw_dir} lacks {archive}.")
        return found


def _folder(root: str, archive: Archive) -> str | None:
    parts = archive.base.split("/") if archive.base else []
    for first in range(len(parts) + 1):
        folder = os.path.join(root, *parts[first:])
        if os.path.exists(os.path.join(folder, archive.holds)):
            return folder
    return None


def extract(path: str, directory: str, progress: Progress | None = None) -> None:
    """Extracts a tar or zip archive; the directory appears when the extraction is complete.

    Args:
      path: the archive.
      directory: to be made.
      progress: called with the bytes of the archive that are done.

    Raises:
      ValueError: the archive is damaged or incomplete, unpacks to far more than its size, or has a
        member that would be written elsewhere or is neither file nor folder.
      OSError: it cannot be written, e.g. the disk is full.
    """
    partial = f"{directory}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    os.makedirs(partial)
    try:
        try:
            members = _zip_members if zipfile.is_zipfile(path) else _tar_members
            members(path, partial, progress or (lambda *_: None))
        except _DAMAGED as error:
            raise ValueError(
                f"{path} is damaged or incomplete ({os.path.getsize(path)} bytes,"
                f" {_reason(error)}); download it again."
            ) from error
        except OSError as error:
            raise OSError(f"{path} cannot be extracted to {directory}: {error}") from error
        os.replace(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _reason(error: Exception) -> str:
    # tarfile appends what each kind of compression reports.
    return str(error).partition(":\n")[0] or type(error).__name__


def _zip_members(path: str, directory: str, progress: Progress) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        done, total = 0, sum(member.compress_size for member in members)
        _check_growth(path, sum(member.file_size for member in members))
        for member in members:
            target = _target(path, directory, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _neither(path, member.filename)
            if not member.is_dir():
                with archive.open(member) as source:
                    _copy(source, target)
            done += member.compress_size
            progress(f"extracting {path}", done, total)


def _tar_members(path: str, directory: str, progress: Progress) -> None:
    with open(path, "rb") as file, tarfile.open(fileobj=file) as archive:
        total, unpacked = os.path.getsize(path), 0
        for member in archive:
            target = _target(path, directory, member.name)
            if member.isfile():
                unpacked += member.size
                _check_growth(path, unpacked)
                _copy(archive.extractfile(member), target)
            elif not member.isdir():
                raise _neither(path, member.name)
            progress(f"extracting {path}", file.tell(), total)
        # To tarfile, a file that ends between two members is complete.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends without an end mark")
        while archive.fileobj.read(_COPY_BYTES):  # up to the checksum of a compressed archive
            pass


def _check_growth(path: str, unpacked: int) -> None:
    if unpacked > _MOST_GROWTH * os.path.getsize(path):
        raise ValueError(
            f"{path} would unpack to {unpacked} bytes or more, over {_MOST_GROWTH} times its size;"
            " is it damaged, or not the official archive?"
        )


def _neither(path: str, member: str) -> ValueError:
    return ValueError(
        f"{path} has the member {member!r}, which is neither file nor folder; is it the official"
        " archive?"
    )


def _target(path: str, directory: str, name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise ValueError(
            f"{path} has the member {name!r}, which would be written outside the directory;"
            " nothing was extracted. Is it the official archive?"
        )
    return os.path.join(directory, *parts)


def _copy(source: IO[bytes], target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(source, file, _COPY_BYTES)


def lines(path: str) -> list[str]:
    """The lines of a list of examples, without blank ones.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a text file, or names an example twice.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no {path}, which belongs to the official release.")
    names = read_lines(path)
    twice = sorted({name for name, count in collections.Counter(names).items() if count > 1})
    if twice:
        raise ValueError(f"{path} must name each example once; named twice: {shortened(twice)}.")
    return names


def by_stem(directory: str, ending: str | tuple[str, ...]) -> dict[str, str]:
    """Files below `directory`: path without the ending -> whole path, sorted; not the hidden ones.

    Raises:
      FileNotFoundError: there is no such directory.
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(
            f"there is no directory {directory}, which belongs to the official release."
        )
    found = {}
    endings = (ending,) if isinstance(ending, str) else ending
    for folder, _, names in os.walk(directory):
        for name in names:
            used = next((end for end in endings if name.endswith(end)), None)
            if used is not None and not name.startswith("."):
                path = os.path.join(folder, name)
                found[os.path.relpath(path, directory).removesuffix(used)] = path
    return dict(sorted(found.items()))


def paired(images: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Stem -> (image, label).

    Raises:
      ValueError: an image has no label, or a label no image.
    """
    alone = [f"no label for {images[stem]}" for stem in images if stem not in labels]
    alone += [f"no image for {labels[stem]}" for stem in labels if stem not in images]
    if alone:
        raise ValueError(f"each image needs a label, and each label an image: {shortened(alone)}.")
    return {stem: (path, labels[stem]) for stem, path in images.items()}
