"""Which of the variables in a TensorFlow checkpoint are the weights."""

from __future__ import annotations

import os
import re

import numpy as np

from deeplab_tf.weights.tensorflow_files.checkpoint_file import read_values, variables
from deeplab_tf.weights.tensorflow_files.table_file import TABLE_END

PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")  # endings of a checkpoint's files
_AVERAGE = "ExponentialMovingAverage"


def checkpoint_prefix(path: str) -> str | None:
    """The prefix that the files .index and .data-... of a checkpoint share.

    Args:
      path: the prefix, one of these files, or a directory with one checkpoint or with the file
        'checkpoint' that names the last one.

    Returns:
      The prefix; None: there is no checkpoint.
    """
    if not os.path.isdir(path):
        prefix = PART.sub("", path)
        if os.path.exists(prefix + ".index"):
            return prefix
        return path if _is_table(path) else None
    indices = [name for name in sorted(os.listdir(path)) if name.endswith(".index")]
    if len(indices) == 1:  # even if the file 'checkpoint' names one in another directory
        return os.path.join(path, indices[0].removesuffix(".index"))
    state = os.path.join(path, "checkpoint")
    if os.path.isfile(state):
        with open(state, encoding="utf-8", errors="replace") as file:
            named = re.search(r'^model_checkpoint_path: "(.*)"', file.read(1 << 20), re.MULTILINE)
        if named and f"{os.path.basename(named[1])}.index" in indices:
            return os.path.join(path, os.path.basename(named[1]))
    return None


def _is_table(path: str) -> bool:
    """Whether a file is a table, as checkpoints of TensorFlow 0.x are, which have no .index."""
    if not os.path.isfile(path) or os.path.getsize(path) < len(TABLE_END):
        return False
    with open(path, "rb") as file:
        file.seek(-len(TABLE_END), os.SEEK_END)
        return file.read() == TABLE_END


def read_checkpoint(path: str) -> dict[str, np.ndarray]:
    """The variables of a checkpoint, or their moving averages if all that train have one.

    A few averages among plain values would be a network that nobody trained, so they are left out.
    Optimizer slots and scalars are left out too.

    Args:
      path: as in `checkpoint_prefix`.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: it is damaged, claims more than it holds, has arrays that are not of floats, or
        is not a checkpoint.
    """
    prefix = checkpoint_prefix(path)
    if prefix is None:
        raise FileNotFoundError(f"there is no checkpoint {path} (no file {path}.index).")
    try:
        found = variables(prefix)
        # A slot has its variable's name in front of its own.
        names = [n for n, v in found.items() if v.shape and n.rpartition("/")[0] not in found]
        averages = {name: f"{name}/{_AVERAGE}" for name in names}
        all_averaged = all(averages[name] in found for name in names if "/moving_" not in name)
        chosen = {
            name: average if all_averaged and average in found else name
            for name, average in averages.items()
        }
        values = read_values(prefix, {source: found[source] for source in chosen.values()})
        return {name: values[source] for name, source in chosen.items()}
    except (OSError, ValueError) as error:
        raise ValueError(f"{prefix} is not a readable checkpoint: {error}.") from error
