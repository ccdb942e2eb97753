"""Arrays by name in an .npz file."""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from deeplab_tf.weights.limits import check_zip


def read_npz(path: str) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file. Nothing is unpickled.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not an .npz file of plain arrays, or is damaged.
    """
    with open(path, "rb") as file:
        try:
            check_zip(file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (
            zipfile.BadZipFile, zlib.error, AttributeError, EOFError, KeyError, MemoryError,
            NotImplementedError, OSError, RuntimeError, ValueError,
        ) as error:  # fmt: skip
            raise ValueError(f"{path} is not a readable .npz file of arrays: {error}") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # np.load gives the bytes of other files
            raise ValueError(
                f"{path} is not a readable .npz file of arrays: {name} is not an array."
            )
    return arrays
