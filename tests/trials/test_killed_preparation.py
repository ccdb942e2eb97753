"""Preparations that are killed: the same command completes, and nothing is left behind."""

import io
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # commands that import TensorFlow

_KILLS = {"shapes": 20, "voc2012": 10}


def _files(*directories):
    """Path -> content of all files."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for directory in directories
        for path in directory.rglob("*")
        if path.is_file()
    }


def _voc_archive(path):
    """Photos and labels in the layout of PASCAL VOC 2012."""
    noise = np.random.default_rng(0)
    base = "VOCdevkit/VOC2012"
    names = [f"2007_{i:06}" for i in range(48)]
    with tarfile.open(path, "w") as archive:

        def add(name, content):
            member = tarfile.TarInfo(f"{base}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        for name in names:
            for place, kind, picture in (
                (f"JPEGImages/{name}.jpg", "JPEG", noise.integers(0, 256, (300, 400, 3), np.uint8)),
                (
                    f"SegmentationClass/{name}.png",
                    "PNG",
                    noise.integers(0, 21, (300, 400), np.uint8),
                ),
            ):
                buffer = io.BytesIO()
                Image.fromarray(picture).save(buffer, kind)
                add(place, buffer.getvalue())
        for split, part in {"train": names[:32], "val": names[32:]}.items():
            add(f"ImageSets/Segmentation/{split}.txt", "\n".join(part).encode())


def _flags(kind, place):
    """Flags that prepare below a directory, which is made."""
    (place / "raw").mkdir(parents=True)
    flags = [f"--data_dir={place / 'data'}"]
    if kind == "shapes":
        return [*flags, "--dataset=shapes", "--dataset.num_examples=40"]
    _voc_archive(place / "raw/VOCtrainval_11-May-2012.tar")
    release = ["--dataset=release", "--dataset.name=voc2012", "--allow_subset"]
    return [*flags, *release, f"--raw_dir={place / 'raw'}"]


@pytest.mark.parametrize("kind", _KILLS)
def test_kills_at_random_moments_change_nothing(scripts, tmp_path, kind):
    for name in ("first", "whole"):  # the first one also starts the process that runs them
        flags = _flags(kind, tmp_path / name)
        start = time.monotonic()
        done = scripts.run("prepare_dataset", *flags)
        seconds = time.monotonic() - start
        assert done.code == 0, done.stderr
    whole = _files(tmp_path / "whole")
    assert _files(tmp_path / "first") == whole

    place = tmp_path / "killed"
    flags = _flags(kind, place)
    moments = random.Random(0)
    unfinished = 0
    for _ in range(_KILLS[kind]):
        done = scripts.run("prepare_dataset", *flags, timeout=moments.uniform(0.1, 1) * seconds)
        assert done.code in (None, 0), done.stderr
        left = list(place.rglob("incomplete.*"))
        assert len(left) <= 1  # not one for each kill
        unfinished += len(left)
        if done.code == 0:  # the kill came too late
            assert _files(place) == whole
            shutil.rmtree(place / "data")
    assert unfinished, seconds  # some of the kills came while it wrote
    done = scripts.run("prepare_dataset", *flags)
    assert done.code == 0, done.stderr
    assert _files(place) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_at_once_and_leaves_nothing(root, tmp_path, number):
    flags = _flags("shapes", tmp_path)
    flags.append("--dataset.num_examples=5000")  # as long as it takes
    process = subprocess.Popen(
        [sys.executable, str(root / "scripts/prepare_dataset.py"), *flags],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: (
            signal.signal(number, signal.default_int_handler)
            if number == signal.SIGINT
            else signal.signal(number, signal.SIG_DFL)
        ),
    )
    try:
        while not list(tmp_path.rglob("incomplete.*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        time.sleep(random.Random(number).uniform(0, 0.5))
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "stopped; incomplete splits are not kept" in told and "Traceback" not in told
    assert _files(tmp_path) == {}
