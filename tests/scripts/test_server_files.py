"""server_files.py, as a user starts it."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image
from random_runs import run, write_run

from deeplab_tf import zoo
from deeplab_tf.data.datasets.cityscapes import CLASSES
from deeplab_tf.data.datasets.release import Release

IMAGES = {"berlin/berlin_000000_000019": (40, 64), "bonn/bonn_000001_000019": (33, 65)}
FILES = ["berlin_000000_000019.png", "bonn_000001_000019.png"]
NUMBERS = np.array([number for number, _ in CLASSES.values()])


server_files = functools.partial(run, "server_files")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Cityscapes with two test images, and two workdirs with random weights."""
    place = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for stem, size in IMAGES.items():
            image = place / f"raw/leftImg8bit/{split}/{stem}_leftImg8bit.png"
            label = place / f"raw/gtFine/{split}/{stem}_gtFine_labelIds.png"
            for path, pixels in {
                image: random.integers(0, 256, (*size, 3), np.uint8),
                label: np.full(size, 7, np.uint8),
            }.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    data_dir = str(place / "data")
    Release(name="cityscapes").prepare(data_dir, raw_dir=str(place / "raw"), allow_subset=True)
    spec = zoo.released_spec("cityscapes")
    for seed, name in enumerate(("run", "other")):
        keras.utils.set_random_seed(seed)
        write_run(place, name, spec, dataset=Release(name="cityscapes"))
    return place


@pytest.fixture(scope="module")
def written(place) -> subprocess.CompletedProcess:
    """The script, run once to `place / "out"`."""
    return server_files(*flags_of(place), f"--output={place}/out")


def flags_of(place: pathlib.Path, run: str = "run") -> list[str]:
    return [f"--workdir={place}/{run}", f"--data_dir={place}/data", "--eval.split=test"]


@pytest.mark.slow  # a process that imports TensorFlow, like those below
def test_the_files_are_the_predictions_as_the_server_wants_them(place, written):
    assert written.returncode == 0, written.stderr
    assert "2 files without faults are in" in written.stdout
    assert "predicting 2/2 (100%)" in written.stderr
    assert sorted(os.listdir(place / "out")) == [*FILES, "cityscapes_test.zip", "made_by.json"]
    model = zoo.load_model(str(place / "run"))
    for file, stem in zip(FILES, IMAGES, strict=True):
        image = np.array(Image.open(place / f"raw/leftImg8bit/test/{stem}_leftImg8bit.png"))
        expected = NUMBERS[model.predict(image[None], verbose=0)[0].argmax(-1)]
        np.testing.assert_array_equal(Image.open(place / "out" / file), expected)
    with zipfile.ZipFile(place / "out" / "cityscapes_test.zip") as archive:
        assert archive.namelist() == FILES
        assert archive.read(FILES[0]) == (place / "out" / FILES[0]).read_bytes()


@pytest.mark.slow
def test_after_an_interruption_files_are_kept_and_the_archive_is_the_same(place, written, tmp_path):
    out = shutil.copytree(place / "out", tmp_path / "out")
    (out / "cityscapes_test.zip").unlink()
    (out / FILES[1]).unlink()
    (out / f"{FILES[1]}.999999999.tmp").write_bytes(b"half a file")
    kept = (out / FILES[0]).stat()
    again = server_files(*flags_of(place), f"--output={out}")
    assert again.returncode == 0, again.stderr
    assert "keeping 1 of 2 files" in again.stdout
    assert (out / FILES[0]).stat().st_mtime_ns == kept.st_mtime_ns
    assert sorted(os.listdir(out)) == sorted(os.listdir(place / "out"))
    for name in ("cityscapes_test.zip", FILES[1]):
        assert (out / name).read_bytes() == (place / "out" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "flag", "differs"),
    [("other", "", "weights"), ("run", "--predict.flip=true", "predict")],
)
def test_predictions_of_two_models_are_never_mixed(place, written, tmp_path, run, flag, differs):
    out = shutil.copytree(place / "out", tmp_path / "out")
    (out / FILES[0]).unlink()
    flags = [*flags_of(place, run), f"--output={out}", *filter(None, [flag])]
    done = server_files(*flags)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"out was begun with a different {differs}; see" in done.stderr
    assert not (out / FILES[0]).exists()


@pytest.mark.slow
def test_a_check_passes_what_was_written_and_lists_the_faults_of_what_was_changed(
    place, written, tmp_path
):
    flags = ["--dataset.name=cityscapes", f"--data_dir={place}/data", "--eval.split=test"]
    passed = server_files(f"--check={place}/out/cityscapes_test.zip", *flags)
    assert passed.returncode == 0, passed.stderr
    assert "no faults in the 2 files of" in passed.stdout
    out = shutil.copytree(place / "out", tmp_path / "out")
    (out / FILES[0]).unlink()
    Image.fromarray(np.full((33, 65), 255, np.uint8)).save(out / FILES[1])
    failed = server_files(f"--check={out}", *flags)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "out has 2 faults:\n" in failed.stderr
    assert f"  1 of 2 files are missing: {FILES[0]}\n" in failed.stderr
    assert f"  {FILES[1]} has the values 255, which are no class" in failed.stderr


@pytest.mark.slow
def test_a_network_with_other_classes_is_refused(place, tmp_path):
    run = shutil.copytree(place / "run", tmp_path / "run")
    tree = json.loads((run / "dataset.json").read_text())
    tree["class_names"] = tree["class_names"][::-1]
    (run / "dataset.json").write_text(json.dumps(tree))
    done = server_files(*flags_of(tmp_path), f"--data_dir={place}/data", f"--output={tmp_path}/out")
    assert done.returncode == 1
    assert "the model must have the 19 classes of cityscapes, in their order" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir={}"], "--eval.split must be given"),
        (["--eval.split=test"], "--workdir must be given"),
        (["--eval.split=test", "--workdir={}"], "--output must be given"),
        (["--eval.split=test", "--workdir={}", "--output={}"], "has no made_by.json"),
        (["--eval.split=test", "--workdir={}/no", "--output={}/out"], "there is no directory"),
        (["--eval.split=test", "--check={}", "--output={}/out"], "leave --workdir and --output"),
        (
            ["--eval.split=test", "--check={}", "--dataset.name=camvid"],
            "--dataset.name=ade20k, cityscapes, pascal_context, pascal_context60, voc2012, whose",
        ),
        (
            ["--eval.split=test", "--check={}", "--dataset=shapes"],
            "whose form is known; got shapes",
        ),
        (["--eval.split=test", "--check={}", "--competition=comp7"], "must be comp6 (trained on"),
        (["--eval.split=test", "--check={}/no"], "there is no directory or archive"),
    ],
)
def test_a_mistake_is_named_before_tensorflow_is_imported(tmp_path, flags, message):
    (tmp_path / "notes.txt").write_text("mine")
    done = server_files(*[flag.format(tmp_path) for flag in flags], options=("-X", "importtime"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert message in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "deeplab_tf.zoo" in imported and not imported & {"tensorflow", "keras"}
    assert os.listdir(tmp_path) == ["notes.txt"]
