"""The scripts for datasets, as a user starts them."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def run(script: str, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture
def folder(tmp_path) -> list[str]:
    """Flags that name three photos with labels."""
    for i in range(3):
        for kind, picture in {
            "images": np.full((6, 8, 3), 90, np.uint8),
            "labels": np.arange(48, dtype=np.uint8).reshape(6, 8) % 2,
        }.items():
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / kind / f"{i}.png")
    (tmp_path / "classes.txt").write_text("ground\ntree\n")
    return [
        "--dataset=folder",
        f"--dataset.images_dir={tmp_path / 'images'}",
        f"--dataset.labels_dir={tmp_path / 'labels'}",
        f"--dataset.class_names_file={tmp_path / 'classes.txt'}",
    ]


@pytest.mark.parametrize("script", ["check_dataset", "prepare_dataset"])
def test_a_dataset_must_be_chosen(script):
    done = run(script, "--data_dir=data")
    assert done.returncode == 1
    known = "folder, shapes, release, tfds, image_classes, tfds_classes, drawn_classes"
    assert done.stderr == f"error: --dataset is missing; it must be one of {known}.\n"


@pytest.mark.parametrize("script", ["check_dataset", "prepare_dataset"])
def test_help_lists_the_kinds_and_their_options(script):
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert re.search("release +A dataset from an official release", done.stdout)
    assert "--dataset.images_dir=text or none" in done.stdout


def test_wrong_flags_are_one_line():
    for flags, message in {
        ("--dataset=shapes", "--dataset.name=x"): "--dataset.name does not apply to dataset shapes",
        ("--dataset=release", "--dataset.name=voc"): "--dataset.name must be one of ade20k, camvid",
        ("--dataset=shapes", "--dataset.num_examples=3"): "--dataset.num_examples must be at least",
    }.items():
        done = run("check_dataset", *flags)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["data_dir", "raw_dir", "samples"])
def test_an_empty_directory_as_of_an_unset_variable_is_refused(flag):
    done = run("prepare_dataset", "--dataset=shapes", f"--{flag}=")
    assert done.returncode == 1
    assert done.stderr == f"error: --{flag} must be given and not empty; see --help.\n"


@pytest.mark.slow  # a process that imports TensorFlow
def test_samples_that_cannot_be_written_are_refused_before_anything_is_prepared(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(
        "prepare_dataset",
        "--dataset=shapes",
        f"--data_dir={tmp_path / 'data'}",
        f"--samples={tmp_path / 'file'}",
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert str(tmp_path / "file") in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.slow  # processes that import TensorFlow
def test_check_passes_a_good_folder_and_fails_a_bad_one(folder, tmp_path):
    good = run("check_dataset", *folder)
    assert good.returncode == 0, good.stderr
    assert "tree" in good.stdout and good.stdout.endswith("no faults\n")

    Image.fromarray(np.full((6, 8), 7, np.uint8)).save(tmp_path / "labels" / "1.png")
    bad = run("check_dataset", *folder)
    assert bad.returncode == 1
    assert "labels/1.png: label values must be 0..1 or 255 (void); got 7 (48 p" in bad.stdout
    assert bad.stderr.endswith("error: 1 faulty examples; all faults are listed above.\n")
    assert "Traceback" not in bad.stderr


@pytest.mark.slow  # processes that import TensorFlow
def test_missing_folder_is_one_line(folder, tmp_path):
    done = run("check_dataset", *folder, f"--dataset.images_dir={tmp_path / 'none'}")
    assert done.returncode == 1
    assert done.stderr == f"error: there is no directory {tmp_path / 'none'}.\n"


@pytest.mark.slow  # processes that import TensorFlow
def test_prepare_writes_the_dataset_and_samples_once(tmp_path):
    flags = ["--dataset=shapes", "--dataset.num_examples=8", f"--data_dir={tmp_path / 'data'}"]
    first = run("prepare_dataset", *flags, f"--samples={tmp_path / 'samples'}", "--num_samples=1")
    assert first.returncode == 0, first.stderr
    assert "shapes is ready: train 8, val 2; background, ellipse" in first.stdout
    (sample,) = (tmp_path / "samples").iterdir()
    with Image.open(sample) as picture:
        assert picture.mode == "RGB"
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.json")}
    assert files
    again = run("prepare_dataset", *flags)
    assert again.returncode == 0 and "shapes is ready" in again.stdout
    assert files == {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.slow  # processes that import TensorFlow
def test_prepare_shows_progress_and_what_is_still_missing(tmp_path):
    for split in ("train", "val"):
        for folder, picture in {
            split: np.full((6, 8, 3), 90, np.uint8),
            f"{split}annot": np.full((6, 8), 3, np.uint8),
        }.items():
            (tmp_path / "raw" / folder).mkdir(parents=True)
            Image.fromarray(picture).save(tmp_path / "raw" / folder / "a.png")
    flags = [
        "--dataset=release",
        "--dataset.name=camvid",
        f"--raw_dir={tmp_path / 'raw'}",
        f"--data_dir={tmp_path / 'data'}",
    ]
    refused = run("prepare_dataset", *flags)
    assert refused.returncode == 1
    assert "error: camvid has 367 examples in 'train'; " in refused.stderr
    assert "Traceback" not in refused.stderr

    done = run("prepare_dataset", *flags, "--allow_subset")
    assert done.returncode == 0, done.stderr
    assert "preparing camvid train" in done.stderr
    assert "camvid is ready: train 1, val 1, trainval 2; sky, building" in done.stdout
    assert "without 'test': it is not prepared. Download these files" in done.stdout


@pytest.mark.slow  # processes that import TensorFlow
def test_prepare_says_how_many_examples_were_kept_and_says_it_again(tmp_path):
    voc = tmp_path / "raw" / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for split, number in {"train": 9, "val": 1}.items():  # chairs, airplanes
        Image.new("RGB", (8, 6)).save(voc / "JPEGImages" / f"{split}.jpg")
        label = Image.fromarray(np.full((6, 8), number, np.uint8))
        label.save(voc / "SegmentationClass" / f"{split}.png")
        (voc / "ImageSets/Segmentation" / f"{split}.txt").write_text(f"{split}\n")
    flags = [
        "--dataset=release",
        "--dataset.name=voc2012",
        f"--raw_dir={tmp_path / 'raw'}",
        f"--data_dir={tmp_path / 'data'}",
        "--allow_subset",
    ]
    for _ in range(2):
        done = run("prepare_dataset", *flags)
        assert done.returncode == 0, done.stderr
        assert "\nhard: kept 1 of 2; DeepLabv3, Sec. 4.3, states no number\n" in done.stdout
