import io
import pathlib
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data import pipeline
from deeplab_tf.data.datasets import release as releases
from deeplab_tf.recipe.dataset_spec import OpenDataset

SIZE = (6, 8)  # height, width of tiny pictures


class Release:
    """Tiny files in the layout of an official release."""

    def __init__(self, directory: pathlib.Path):
        self.raw_dir = directory / "raw"
        self.data_dir = directory / "data"
        self.raw_dir.mkdir()

    def write(self, path: str, content: bytes | str) -> pathlib.Path:
        file = self.raw_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def image(self, path: str, size=SIZE, **options) -> None:
        """A picture that depends on its name alone, in the format of its ending."""
        rng = np.random.default_rng(sum(path.encode()))
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        self._save(path, picture, **options)

    def label(self, path: str, numbers, palette=None) -> None:
        picture = Image.fromarray(np.asarray(numbers))
        if palette is not None:
            picture.putpalette([channel for color in palette for channel in color])
        self._save(path, picture)

    def _save(self, path: str, picture: Image.Image, **options) -> None:
        buffer = io.BytesIO()
        kind = "PNG" if path.endswith(".png") else "JPEG"
        picture.save(buffer, kind, **options)
        self.write(path, buffer.getvalue())

    def pack(self, archive: str, *members: str) -> pathlib.Path:
        """Moves members into an archive; its ending determines the kind."""
        path = self.raw_dir / archive
        files = [
            file
            for member in members
            for file in sorted([self.raw_dir / member, *(self.raw_dir / member).rglob("*")])
            if file.is_file()
        ]
        if archive.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as packed:
                for file in files:
                    packed.write(file, file.relative_to(self.raw_dir))
        else:
            with tarfile.open(path, "w:gz" if archive.endswith("gz") else "w") as packed:
                for file in files:
                    packed.add(file, str(file.relative_to(self.raw_dir)))
        for file in files:
            file.unlink()
        for folder in sorted(self.raw_dir.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        return path

    def prepare(self, name: str, *, allow_subset: bool = True, **options) -> OpenDataset:
        return releases.Release(name=name).prepare(
            str(self.data_dir), raw_dir=str(self.raw_dir), allow_subset=allow_subset, **options
        )

    def open(self, name: str) -> OpenDataset:
        return releases.Release(name=name).open(str(self.data_dir))

    def prepared(self) -> list[str]:
        """Paths of all files in the directory of prepared datasets."""
        files = (path for path in self.data_dir.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.data_dir)) for path in files)


@pytest.fixture
def release(tmp_path) -> Release:
    return Release(tmp_path)


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def _matrix(name: str, kind: int, shape, *rest: bytes) -> bytes:
    header = _element(6, struct.pack("<II", kind, 0))
    header += _element(5, struct.pack(f"<{len(shape)}i", *shape)) + _element(1, name.encode())
    return _element(14, header + b"".join(rest))


def _array(name: str, array: np.ndarray) -> bytes:
    kind, stored = {"u1": (9, 2), "u2": (11, 4), "f8": (6, 9)}[array.dtype.str[1:]]
    return _matrix(name, kind, array.shape, _element(stored, array.tobytes(order="F")))


@pytest.fixture
def mat_file():
    """Writes MATLAB files of level 5: arrays, and dicts of arrays as structs."""

    def write(compressed: bool = True, **variables) -> bytes:
        elements = []
        for name, value in variables.items():
            if isinstance(value, dict):
                names = b"".join(key.encode().ljust(32, b"\0") for key in value)
                length = struct.pack("<HHi", 5, 4, 32)  # the short form of an element
                fields = [_array("", array) for array in value.values()]
                element = _matrix(name, 2, (1, 1), length, _element(1, names), *fields)
            else:
                element = _array(name, value)
            if compressed:
                packed = zlib.compress(element)
                element = struct.pack("<II", 15, len(packed)) + packed
            elements.append(element)
        return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements)

    return write


@pytest.fixture
def labels():
    """Name -> label array of all examples of a split."""

    def read(dataset: OpenDataset, split: str) -> dict[str, np.ndarray]:
        return {
            example["name"].numpy().decode(): example["label"].numpy()
            for example in pipeline.eval_examples(dataset.source(split))
        }

    return read
