"""convert_weights.py, as a user starts it, and the workdir that it leaves."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import weight_files

from deeplab_tf import zoo
from deeplab_tf.data.datasets import Folder, Release
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.evaluation.resized_image import ResizedImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.released import RELEASED
from deeplab_tf.training.workdir.contents import load_source, load_spec
from deeplab_tf.weights import deeplab_tf1, weights_by_name
from jpu_tf.model import FastFCNConfig
from jpu_tf.sliding_window import SlidingWindow

ROOT = pathlib.Path(__file__).parent.parent.parent
ADE20K = "mobilenetv2_ade20k_train"
SMALL = DeepLabV3PlusConfig(
    backbone="mobilenet_v2_dm035", atrous_rates=(), decoder=False, separable=False
)


def convert(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "convert_weights.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture(scope="module")
def ade20k_file(tmp_path_factory):
    """A file as the model zoo's MobileNetV2 for ADE20K, and its weights by our names."""
    model = RELEASED[ADE20K].model.build(RELEASED[ADE20K].num_classes)
    arrays = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
    released = {deeplab_tf1.released_name(n, "MobilenetV2"): a for n, a in arrays.items()}
    path = tmp_path_factory.mktemp("released") / "ade20k.npz"
    return f"--input={weight_files.write_npz(path, released)}", arrays


@pytest.mark.slow  # a process that imports TensorFlow, like those below
def test_a_released_checkpoint_is_ready_to_be_evaluated(ade20k_file, tmp_path):
    flag, arrays = ade20k_file
    done = convert(flag, f"--released={ADE20K}", f"--output={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "the logit of class 0" in done.stdout
    spec = load_spec(f"{tmp_path}/run")
    assert spec.class_names == RELEASES["ade20k"].class_names
    source = load_source(f"{tmp_path}/run")
    assert source["file"] == "ade20k.npz" and "mobilenet_v2" in source["network"]
    recipe = zoo.load_recipe(f"{tmp_path}/run")
    assert recipe.dataset == Release(name="ade20k")
    assert recipe.predict == ResizedImage(min_side=257, max_side=257, output_stride=16)
    assert recipe.expected_mean_iou == 32.04
    model = zoo.load_model(f"{tmp_path}/run")
    for name, weight in weights_by_name(model).items():
        expected = arrays[name][..., 1:] if name.startswith("logits/") else arrays[name]
        np.testing.assert_array_equal(weight.numpy(), expected)


@pytest.mark.slow
def test_another_checkpoint_than_named_is_refused_as_what_it_is(ade20k_file, tmp_path):
    flags = [ade20k_file[0], f"--output={tmp_path}/run"]
    wrong = convert(*flags, "--released=xception65_ade20k_train")
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    assert "must be xception65_ade20k_train, deeplabv3plus(backbone='xception65'" in wrong.stderr
    assert "it is deeplabv3plus(backbone='mobilenet_v2'" in wrong.stderr
    assert "It may be mobilenetv2_ade20k_train. Give its own name" in wrong.stderr
    classes = convert(*flags, "--dataset=voc2012")
    assert "voc2012 has 21 classes; the network has 151" in classes.stderr
    assert not os.path.exists(f"{tmp_path}/run")


@pytest.mark.slow
def test_classes_of_ones_own_are_named_by_a_file(tmp_path):
    path = weight_files.write_npz(tmp_path / "own.npz", weight_files.deeplab_arrays(SMALL.build(3)))
    (tmp_path / "names.txt").write_bytes("\ufeffsky\r\n\r\n sea \r\nland\r\n".encode())
    flags = [f"--class_names_file={tmp_path}/names.txt", f"--output={tmp_path}/run"]
    (tmp_path / "run.incomplete").mkdir()  # of a conversion that was killed
    (tmp_path / "run.incomplete" / "recipe.json").write_text("{")
    done = convert(f"--input={path}", *flags)
    assert done.returncode == 0, done.stderr
    assert "recognized deeplabv3plus(backbone='mobilenet_v2_dm035'" in done.stdout
    spec = load_spec(f"{tmp_path}/run")
    assert (spec.name, spec.class_names) == ("own", ("sky", "sea", "land"))
    assert zoo.load_recipe(f"{tmp_path}/run").dataset == Folder()
    assert sorted(os.listdir(tmp_path)) == ["names.txt", "own.npz", "run"]
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = convert(f"--input={path}", *flags)
    assert again.returncode == 1 and "run must be empty or absent" in again.stderr
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.slow
def test_fastfcns_checkpoint_keeps_what_trains_it(tmp_path):
    model = FastFCNConfig(head="psp").build(59, auxiliary=True)
    arrays = weight_files.fastfcn_arrays(model, "psp")
    arrays = {f"module.{name}": array for name, array in arrays.items()}
    path = weight_files.write_torch(tmp_path / "best.pth.tar", arrays)
    done = convert(f"--input={path}", f"--output={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "head=psp" in done.stdout and "classes of pascal_context" in done.stdout
    recipe = zoo.load_recipe(f"{tmp_path}/run")
    assert recipe.predict == SlidingWindow() and recipe.model.aux_weight > 0
    found = zoo.load_model(f"{tmp_path}/run", auxiliary=True)
    for name, weight in weights_by_name(found).items():
        expected = weight_files.small_values(tuple(weight.shape), name)
        np.testing.assert_array_equal(weight.numpy(), expected)


NOT_THERE = "--input=/nowhere/model.ckpt"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--input, --output must be given"),
        ([NOT_THERE, "--output={}/run"], "no checkpoint of that name (no /nowhere/model.ckpt.ind"),
        (
            [NOT_THERE, "--output={}/run", "--released=xception65_cityscapes_trainfine"],
            "download.tensorflow.org/models/deeplabv3_cityscapes_train_2018_02_06.tar.gz; download",
        ),
        (["--input={}/notes.npz", "--output={}/run"], "notes.npz is not a file of weights"),
        (["--input={}/notes.npz", "--output={}"], "must be empty or absent"),
        (["--input={}/notes.npz", "--output={}/twice.txt"], "twice.txt must be empty or absent"),
        (["--input={}/notes.npz", "--output={}/run", "--num_classes=-1"], "num_classes"),
        (["--input={}/notes.npz", "--output={}/run", "--num_classes=1e9"], "num_classes"),
        (
            ["--input={}/notes.npz", "--output={}/run", "--released=xception65_ade20k_trian"],
            "unknown released checkpoint 'xception65_ade20k_trian'",
        ),
        (
            [NOT_THERE, "--output={}/run", "--released=xception71_dpc_cityscapes_trainval"],
            "dense prediction cell (Chen et al. 2018, NeurIPS) in place of ASPP, a network of neit",
        ),
        (
            [NOT_THERE, "--output={}/run", "--released=mobilenetv3_small_cityscapes_trainfine"],
            "a MobileNetV3 backbone (Howard et al. 2019), a network of neither paper, which this",
        ),
        (
            [NOT_THERE, "--output={}/run", "--released=EdgeTPU-DeepLab-slim"],
            "EdgeTPU-DeepLab-slim is DeepLab for the Edge TPU, with a MobileNet-EdgeTPU backbone",
        ),
        (
            ["--input={}/notes.npz", "--output={}/run", "--dataset=voc"],
            "Did you mean 'voc2012'?",
        ),
        (
            ["--input={}/notes.npz", "--output={}/run", "--class_names_file={}/twice.txt"],
            "twice.txt must name two or more different classes, one per line; got sky, sea, sky",
        ),
        (["--input={}/notes.npz", "--output={}/run", "--num_classes=1000000000"], "num_classes"),
    ],
)
def test_a_mistake_is_named_before_tensorflow_is_imported(tmp_path, flags, message):
    (tmp_path / "notes.npz").write_text("my notes")
    (tmp_path / "twice.txt").write_text("sky\nsea\nsky\n")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "scripts" / "convert_weights.py")]
        + [flag.format(tmp_path) for flag in flags],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert message in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "deeplab_tf.weights" in imported and not imported & {"tensorflow", "keras"}
    assert not os.path.exists(tmp_path / "run")
