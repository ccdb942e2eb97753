"""The record of a directory of predictions: what made them, and of which images.

predictions.jsonl has a JSON object per line: first the model and its options, then one for each
image whose predictions are complete. A line is added once the files that it names are there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import sys
import typing
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from deeplab_tf.data import photos
from deeplab_tf.recipe.files import remove_leftovers, write_text
from deeplab_tf.recipe.json_files import checked, parse, require
from deeplab_tf.recipe.lock import NoLocksError, locked
from deeplab_tf.recipe.messages import shortened


class FileState(NamedTuple):
    """What tells that an image file is still the one that was predicted.

    Attributes:
      num_bytes: its size.
      modified: when it was, microseconds since 1970.
    """

    num_bytes: int
    modified: int


def state_of(path: str) -> FileState:
    """The state of a file as it is now.

    Raises:
      OSError: there is no such file.
    """
    found = os.stat(path)
    return FileState(found.st_size, found.st_mtime_ns // 1000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicted:
    """An image whose predictions are complete.

    Attributes:
      name: of `photos.named_photos`.
      source: absolute path of the image file; empty in records of earlier versions.
      state: of the image file.
      height: of the image, pixels.
      width: the same.
      written: kinds of files that are there, keys of `photos.ENDINGS`.
      shares: class name -> share of the pixels, 0..1, of the classes that occur.
    """

    name: str
    source: str
    state: FileState
    height: int
    width: int
    written: tuple[str, ...]
    shares: Mapping[str, float]

    def files(self) -> dict[str, str]:
        """Kind -> path of the file in the directory of the predictions."""
        return {kind: file for kind, file in _files(self.name).items() if kind in self.written}

    def line(self) -> str:
        """Its line; paths of any bytes are quoted as in an address."""
        name, source = (
            urllib.parse.quote(path, errors="surrogateescape") for path in (self.name, self.source)
        )
        return json.dumps({**vars(self), "name": name, "source": source}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Predicted:
        """What `line` wrote.

        Raises:
          ValueError: it did not write this.
        """
        fields = checked({"source": "", **parse(line)}, _TYPES)
        name, source = (
            urllib.parse.unquote(fields[key], errors="surrogateescape")
            for key in ("name", "source")
        )
        # A path that leads out of the directory would have --overwrite remove files elsewhere.
        inside = bool(name) and not {"", ".", ".."} & {*name.split(os.sep)} and "\0" not in name
        require(inside, "name", "a path inside a folder", name)
        for side in ("height", "width"):
            require(fields[side] > 0, side, "at least 1", fields[side])
        kinds = photos.endings_of(name)
        require(
            {*fields["written"]} <= {*kinds},
            "written",
            f"some of {', '.join(kinds)}",
            fields["written"],
        )
        state = FileState(*fields["state"])
        return cls(**{**fields, "name": name, "source": source, "state": state})


def _files(name: str) -> dict[str, str]:
    """Kind -> path of the file, in the directory of the predictions, that it has for an image."""
    stem = os.path.splitext(name)[0]
    return {kind: f"{stem}{ending}" for kind, ending in photos.endings_of(name).items()}


def check_output(stems: Mapping[str, str], directory: str, *, overwrite: bool) -> None:
    """Checks, before a model is loaded, that predictions take the place of nothing else.

    Args:
      stems: of `photos.output_stems`.
      directory: of the predictions.
      overwrite: whether they may.

    Raises:
      FileExistsError: the directory has no record, and a file where a prediction belongs.
    """
    fresh = not os.path.isdir(directory) or not os.listdir(directory)
    if overwrite or fresh or os.path.exists(os.path.join(directory, photos.RECORD)):
        return
    paths = [os.path.join(directory, name) for name in (photos.LEGEND, photos.PAGE)]
    for path, stem in stems.items():
        paths += [f"{stem}{ending}" for ending in photos.endings_of(path).values()]
    found = [photos.printable(path) for path in paths if os.path.lexists(path)]
    if found:
        raise FileExistsError(
            f"{shortened(found, most=3)} would be overwritten, and {directory} has no"
            f" {photos.RECORD}. Choose another --output, or give --overwrite."
        )


_TYPES = typing.get_type_hints(Predicted) | {"state": tuple[int, int], "shares": dict[str, float]}


class Record:
    """The images of a directory that are done. Use `opened`.

    Attributes:
      made_by: what makes the predictions: "model", a path, "sha256" and "options".
      done: name -> image.
    """

    def __init__(self, directory: str, made_by: Mapping[str, Any], done: dict[str, Predicted]):
        """Keeps what was read."""
        self.done = done
        self.made_by, self._directory = made_by, directory
        self._path = os.path.join(directory, photos.RECORD)

    def check_names(self, names: Mapping[str, str]) -> None:
        """Checks that predictions of these images take the place of those of no others.

        Args:
          names: of `photos.named_photos`.

        Raises:
          ValueError: another image's predictions have a name that one of them needs.
        """
        owners = {file: each for each in self.done.values() for file in _files(each.name).values()}
        for path, name in names.items():
            for file in _files(name).values():
                owner = owners.get(file)
                if owner and (owner.name != name or _is_another(owner.source, path)):
                    raise ValueError(
                        f"{photos.printable(os.path.join(self._directory, file))} is for"
                        f" {photos.printable(owner.source or owner.name)}, and would be overwritten"
                        f" by that of {photos.printable(path)}. Choose another --output."
                    )

    def complete(self, name: str, path: str, kinds: Collection[str]) -> Predicted | None:
        """The entry of an image that needs not be predicted again.

        Predictions of an image file that has changed since, or was elsewhere, are removed.

        Args:
          name: of the image.
          path: of its file.
          kinds: of files that are wanted.
        """
        entry = self.done.get(name)
        if entry is None or not os.path.exists(path):
            return None
        if state_of(path) != entry.state or not os.path.exists(entry.source):
            self._remove(entry)
            return None
        return entry if set(kinds) <= set(entry.written) else None

    def add(self, entry: Predicted) -> None:
        """Notes an image whose files are complete."""
        before = self.done.get(entry.name)
        if before is not None and before.state == entry.state:
            entry = dataclasses.replace(entry, written=tuple({*before.written, *entry.written}))
        entry = dataclasses.replace(entry, written=tuple(sorted(entry.written)))
        self.done[entry.name] = entry
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(entry.line())

    def finish(self) -> None:
        """Writes all lines again, sorted: a run that was stopped in between leaves the same."""
        lines = [self.done[name].line() for name in sorted(self.done)]
        write_text(self._path, "".join([json.dumps(self.made_by) + "\n", *lines]))

    def remove_all(self) -> None:
        """Removes all predictions."""
        for entry in [*self.done.values()]:
            self._remove(entry)

    def _remove(self, entry: Predicted) -> None:
        for path in entry.files().values():
            with contextlib.suppress(FileNotFoundError):  # a user may have deleted it
                os.remove(os.path.join(self._directory, path))
        del self.done[entry.name]


def _is_another(source: str, path: str) -> bool:
    """Whether the image of an entry is there, and is not that of the path."""
    return (
        source != os.path.abspath(path)
        and os.path.exists(source)
        and os.path.exists(path)
        and not os.path.samefile(source, path)
    )


@contextlib.contextmanager
def opened(
    directory: str, made_by: Mapping[str, Any], names: Collection[str] = (), *, overwrite: bool
) -> Iterator[Record]:
    """The record of a directory, which no other process may use meanwhile.

    What a run that was killed left of these images, or of those of the record, is removed.

    Args:
      directory: of the predictions; made if it is not there.
      made_by: what makes the predictions, a JSON object.
      names: of the images to predict.
      overwrite: remove predictions that something else made.

    Raises:
      BlockingIOError: another process uses it.
      ValueError: something else made the predictions that are there, or the record is damaged.
      OSError: it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_resumable())
        try:
            lock = locked(os.path.join(directory, photos.LOCK), f"the directory {directory}")
            stack.enter_context(lock)
        except NoLocksError as error:
            print(f"warning: {error} Until then, do not start a second run in it.", file=sys.stderr)
        yield _read(directory, made_by, names, overwrite=overwrite)


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """Says what to do when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(f"{error}. The same command resumes when there is room.") from error


def _read(
    directory: str, made_by: Mapping[str, Any], names: Collection[str], *, overwrite: bool
) -> Record:
    """What is in the directory, with a file to which lines can be added."""
    path = os.path.join(directory, photos.RECORD)
    try:
        before, done, whole = _parsed(path) if os.path.exists(path) else (made_by, {}, False)
    except ValueError as error:
        if not overwrite:
            raise ValueError(
                f"{path}: {error} Choose another --output, or give --overwrite to predict all"
                " again."
            ) from None
        before, done, whole = made_by, {}, False
    changes = _changes(before, made_by)
    if overwrite:
        Record(directory, made_by, {**done}).remove_all()
    elif changes:
        raise ValueError(
            f"the predictions in {directory} were made in another way: {'; '.join(changes)}. Choose"
            " another --output, or give --overwrite to remove them and predict all again."
        )
    _remove_leftovers(directory, {*names, *done})
    # What a user has deleted is predicted again.
    there = {
        name: entry
        for name, entry in done.items()
        if all(os.path.isfile(os.path.join(directory, file)) for file in entry.files().values())
    }
    record = Record(directory, made_by, {} if overwrite else there)
    if not whole or before != made_by or len(record.done) < len(done):
        record.finish()
    return record


def _remove_leftovers(directory: str, names: Collection[str]) -> None:
    """Removes temporary files of these images and of the record; others may be a user's."""
    files = {"": {photos.LEGEND, photos.PAGE, photos.RECORD}}
    for name in names:
        for file in _files(name).values():
            folder, base = os.path.split(file)
            files.setdefault(folder, set()).add(base)
    for folder, bases in files.items():
        remove_leftovers(os.path.join(directory, folder), bases)


def _parsed(path: str) -> tuple[dict[str, Any], dict[str, Predicted], bool]:
    """What made the predictions, the images, and whether the last line is whole."""
    try:
        with open(path, encoding="utf-8") as file:
            *lines, cut_off = file.read().split("\n")  # by a kill, or empty
    except UnicodeDecodeError as error:
        raise ValueError(f"it must be text in UTF-8 ({error}).") from error
    if not lines:
        raise ValueError("it must have a line with the model.")
    done = {}
    for number, line in enumerate(lines, start=1):
        try:
            if number == 1:
                made_by = parse(line)
            else:
                entry = Predicted.from_line(line)
                done[entry.name] = entry
        except ValueError as error:
            raise ValueError(f"line {number} is damaged ({error.args[0].rstrip('.')}).") from None
    return made_by, done, not cut_off


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs in the values that decide, as text."""
    if before.get("sha256") != now["sha256"]:
        return [f"by the model of {before.get('model')}, which has other weights or classes"]
    was, options = before.get("options"), now["options"]
    was = was if isinstance(was, dict) else {}
    return [
        f"{key} was {json.dumps(was.get(key))} and is {json.dumps(options.get(key))}"
        for key in {**was, **options}
        if was.get(key) != options.get(key)
    ]
