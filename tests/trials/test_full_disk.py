"""A disk that is full: one line, nothing half-written, and the same command completes."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # processes that import TensorFlow

_FLAGS = (
    "--recipe=quickstart_shapes", "--dataset.num_examples=16", "--augment.random_crop.size=65",
    "--model.backbone=mobilenet_v2_tiny", "--train.batch_size=4", "--train.steps=12",
    "--train.save_every=3", "--train.eval_every=6", "--train.log_every=1",
)  # fmt: skip


def _on_small_disk(root, mount, kilobytes, filled, *command):
    """(status, output, what is left) of a command whose `mount` is a disk of its own.

    Args:
      root: of the checkout.
      mount: an empty directory.
      kilobytes: size of the disk.
      filled: kilobytes of it that are in use when the command starts.
      *command: its arguments; a copy of the disk's content is left in `mount`.copy.
    """
    copy = f"{mount}.copy"
    script = (
        f"mount -t tmpfs -o size={kilobytes}k none {mount} &&"
        f" {{ [ -d {copy} ] && cp -r {copy}/. {mount}; "
        f" head -c {filled}K /dev/zero > {mount}/ballast;"
        f' "$@"; status=$?; rm {mount}/ballast; rm -rf {copy};'
        f" cp -r {mount} {copy}; exit $status; }}"
    )
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "bash", sys.executable, *command],
        cwd=root, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    left = [os.path.join(folder, n) for folder, _, names in os.walk(copy) for n in names]
    return done.returncode, done.stdout + done.stderr, left


@pytest.fixture
def mount(tmp_path):
    """An empty directory to mount a disk at."""
    probe = tmp_path / "probe"
    probe.mkdir()
    if shutil.which("unshare") is None or subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(probe)],
        capture_output=True, check=False,
    ).returncode:  # fmt: skip
        pytest.skip("needs unshare and the right to mount a disk of its own")
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture(scope="module")
def data_dir(root, tmp_path_factory):
    """The drawn shapes."""
    directory = tmp_path_factory.mktemp("data")
    subprocess.run(
        [sys.executable, "scripts/prepare_dataset.py", "--dataset=shapes",
         "--dataset.num_examples=16", f"--data_dir={directory}"],
        cwd=root, check=True, capture_output=True,
    )  # fmt: skip
    return directory


def _check_one_line(status, output, left):
    assert status == 1, output[-2000:]
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output[-2000:]
    assert "No space left on device" in errors[0] or "space" in errors[0], errors
    assert not [path for path in left if ".tmp" in path or "partial-" in path or "/lock" in path]


@pytest.mark.parametrize("room", [4, 60, 200, 300, 420, 500])
def test_a_training_on_a_full_disk_ends_in_one_line_and_resumes(root, mount, data_dir, room):
    flags = ("scripts/train.py", *_FLAGS, f"--data_dir={data_dir}", f"--workdir={mount}/run")
    size = 20_000
    status, output, left = _on_small_disk(root, mount, size, size - room, *flags)
    if status == 0:
        pytest.skip(f"{room} kB are enough")
    _check_one_line(status, output, left)
    status, output, left = _on_small_disk(root, mount, size, 0, *flags)
    assert status == 0, output[-2000:]
    assert f"{mount}.copy/run/checkpoints/ckpt-12.index" in left
    rows = pathlib.Path(f"{mount}.copy/run/metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [*"1234566789", "10", "11", "12", "12"]


def test_a_preparation_on_a_full_disk_leaves_nothing(root, mount):
    command = ("scripts/prepare_dataset.py", "--dataset=shapes", "--dataset.num_examples=40",
               f"--data_dir={mount}/data")  # fmt: skip
    status, output, left = _on_small_disk(root, mount, 5_000, 4_500, *command)
    _check_one_line(status, output, left)
    assert not [path for path in left if "/data/" in path], left


def _trained(root, mount, data_dir):
    """The workdir of two steps, beside the disk."""
    run = mount.parent / "run"
    flags = [*_FLAGS[:-4], "--train.steps=2", f"--data_dir={data_dir}", f"--workdir={run}"]
    subprocess.run([sys.executable, "scripts/train.py", *flags], cwd=root, check=True,
                   capture_output=True)  # fmt: skip
    return run


def test_predictions_on_a_full_disk_end_in_one_line_and_resume(root, mount, data_dir):
    random = np.random.default_rng(0)
    images = mount.parent / "in"
    images.mkdir()
    for i in range(12):
        pixels = random.integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{i:02d}.png")
    command = ("scripts/predict.py", f"--model={_trained(root, mount, data_dir)}",
               f"--images={images}", f"--output={mount}/out")  # fmt: skip
    status, output, left = _on_small_disk(root, mount, 1_000, 900, *command)
    _check_one_line(status, output, left)
    assert 0 < len([path for path in left if path.endswith("_overlay.png")]) < 12
    status, output, left = _on_small_disk(root, mount, 1_000, 0, *command)
    assert status == 0, output[-2000:]
    assert "of 12 images are predicted already" in output
    assert len([path for path in left if path.endswith("_overlay.png")]) == 12


def test_an_export_on_a_full_disk_leaves_nothing(root, mount, data_dir):
    run = _trained(root, mount, data_dir)
    for room in (8, 400):
        status, output, left = _on_small_disk(
            root, mount, 5_000, 5_000 - room,
            "scripts/export.py", f"--workdir={run}", f"--output={mount}/model",
        )  # fmt: skip
        _check_one_line(status, output, left)
        assert not [path for path in left if "model" in path], left
