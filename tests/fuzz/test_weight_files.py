"""Damaged files of weights: each is read as it was or refused, in little time and memory.

DEEPLAB_TF_FUZZ is the number of mutants of a format whose files are read within milliseconds, by
default 100; formats that Keras or TensorFlow read have a tenth.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import weight_files

from deeplab_tf.export.saved_model import write_saved_model
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

ROOT = pathlib.Path(__file__).parents[2]
NUMBER = int(os.environ.get("DEEPLAB_TF_FUZZ", "100"))
SPEC = DatasetSpec(
    name="shapes", class_names=("a", "b", "c"), ignore_label=255, palette=bit_palette(3), splits={}
)
ARRAYS = {
    "MobilenetV2/Conv/weights": np.cos(np.arange(54, dtype=np.float32)).reshape(3, 3, 3, 2),
    "MobilenetV2/Conv/BatchNorm/moving_variance": np.ones(2, np.float32),
    "MobilenetV2/Conv/BatchNorm/gamma": np.ones(2, np.float64),
    "logits/semantic/weights": np.linspace(-1, 1, 600, dtype=np.float32).reshape(1, 1, 200, 3),
    "logits/semantic/biases": np.arange(3, dtype=np.float16),
}
# TensorFlow keeps 17 MB of every SavedModel of 1.3 MB that it loads until the process ends.
BATCH = 25
GROWTH = 1 << 30  # bytes


def _mutants():
    import importlib.util

    path = ROOT / "tests" / "fuzz" / "mutants.py"
    spec = importlib.util.spec_from_file_location("mutants", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = _mutants().KINDS


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """One small file of each format."""
    directory = tmp_path_factory.mktemp("originals")
    singles = {name: array.astype(np.float32) for name, array in ARRAYS.items()}
    weight_files.write_npz(directory / "a.npz", ARRAYS)
    with open(directory / "b.npz", "wb") as file:
        np.savez_compressed(file, **ARRAYS)
    weight_files.write_frozen_graph(directory / "a.pb", ARRAYS)
    weight_files.write_torch(directory / "a.pth", singles)
    weight_files.write_torch(directory / "old.pth", singles, legacy=True)
    weight_files.write_checkpoint(directory, {**ARRAYS, "global_step": np.int64(7)})
    tf.raw_ops.Save(
        filename=str(directory / "one.ckpt"),
        tensor_names=list(singles),
        data=list(singles.values()),
    )
    network = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False)
    model = network.build(3)
    model.save(directory / "a.keras")
    write_saved_model(model, SPEC, str(directory / "model"))
    shutil.copytree(directory / "model", directory / "foreign")
    os.remove(directory / "foreign" / "assets.extra" / "sha256.txt")
    return directory


@pytest.mark.slow  # thousands of files
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_as_it_was_or_refused(originals, kind):
    slow = kind.startswith(("keras", "SavedModel"))
    number = max(NUMBER // 10, 1) if slow else NUMBER
    for first in range(0, number, BATCH if slow else number):
        _check_mutants(kind, originals, min(BATCH, number - first) if slow else number, first)


def _check_mutants(kind, originals, number, first):
    script = ROOT / "tests" / "fuzz" / "mutants.py"
    done = subprocess.run(
        [sys.executable, str(script), kind, str(originals), str(number), str(first)],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"},
    )  # fmt: skip
    assert done.returncode == 0, f"{kind} ended with {done.returncode}: {done.stderr[-3000:]}"
    ended = json.loads(done.stdout.splitlines()[-1])
    assert not ended["wrong"], "\n".join(ended["wrong"])
    assert ended["read"] + ended["refused"] == number
    assert ended["grown"] < GROWTH
