"""convert_weights.py, as a user starts it, and the workdir that it leaves."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from deeplab_tf.training import checkpoints
from deeplab_tf.data import RAW_DATASETS
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.released import RELEASED
from deeplab_tf.weights import deeplab_tf1, weights_by_name

ROOT = pathlib.Path(__file__).parent.parent.parent
ADE20K = "mobilenetv2_ade20k_train"
pytestmark = pytest.mark.slow  # processes that import TensorFlow


def convert(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "convert_weights.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def released_name(name: str) -> str:
    layer, kind = name.split("/")
    scope = deeplab_tf1._scope(layer.removesuffix("_bn")).replace("@", "MobilenetV2")
    if layer.endswith("_bn"):
        return f"{scope}/BatchNorm/{kind}"
    if kind == "bias":
        return f"{scope}/biases"
    return f"{scope}/{'depthwise_weights' if 'depthwise' in layer else 'weights'}"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> tuple[str, dict[str, np.ndarray]]:
    """A file as the model zoo's MobileNetV2 for ADE20K, and its weights by our names."""
    model = RELEASED[ADE20K].model.build(RELEASED[ADE20K].num_classes)
    arrays = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
    path = tmp_path_factory.mktemp("released") / "ade20k.npz"
    np.savez(path, **{released_name(name): array for name, array in arrays.items()})
    return f"--input={path}", arrays


def test_a_released_checkpoint_is_ready_to_be_evaluated(file, tmp_path):
    flag, arrays = file
    done = convert(
        flag, "--source=deeplab_tf1_npz", f"--released={ADE20K}", f"--output={tmp_path}/run"
    )
    assert done.returncode == 0, done.stderr
    assert "the logit of class 0" in done.stdout
    spec = checkpoints.load_spec(f"{tmp_path}/run")
    assert spec.class_names == RAW_DATASETS["ade20k"].class_names
    recipe = checkpoints.load_recipe(f"{tmp_path}/run", {DeepLabV3Plus.kind: DeepLabV3Plus})
    assert recipe.data.dataset == "ade20k" and recipe.eval.output_stride == 16
    assert recipe.expected_mean_iou == 32.04
    model = checkpoints.load_model(f"{tmp_path}/run", {DeepLabV3Plus.kind: DeepLabV3Plus})
    for name, weight in weights_by_name(model).items():
        expected = arrays[name][..., 1:] if name.startswith("logits/") else arrays[name]
        np.testing.assert_array_equal(weight.numpy(), expected)


def test_another_checkpoint_than_it_says_is_refused_and_nothing_written(file, tmp_path):
    flags = [file[0], "--source=deeplab_tf1_npz", f"--output={tmp_path}/run"]
    wrong = convert(*flags, "--released=xception65_ade20k_train")
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    assert "must be xception65_ade20k_train: backbone='xception65'" in wrong.stderr
    assert "it has backbone='mobilenet_v2'" in wrong.stderr
    classes = convert(*flags, "--dataset=voc2012")
    assert "voc2012 has 21 classes; the network has 151" in classes.stderr
    assert not os.path.exists(f"{tmp_path}/run")


def test_fastfcns_checkpoint_keeps_what_trains_it(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch, which writes the file, is not installed")
    from jpu_tf.model import FastFCN
    from jpu_tf.weights import released_name as fastfcn_name

    model = FastFCN(head="psp").build(59, auxiliary=True)
    state_dict = {}
    for name, weight in weights_by_name(model).items():
        array = weight.numpy()
        if name.endswith("/kernel"):
            array = array.transpose((2, 3, 0, 1) if "_depthwise/" in name else (3, 2, 0, 1))
        state_dict[f"module.{fastfcn_name(name, 'psp')}"] = torch.tensor(array.copy())
    torch.save({"epoch": 1, "state_dict": state_dict}, tmp_path / "best.pth.tar")
    done = convert(
        "--source=fastfcn", f"--input={tmp_path}/best.pth.tar", f"--output={tmp_path}/run"
    )
    assert done.returncode == 0, done.stderr
    assert "head='psp'" in done.stdout and "taken for those of pascal_context" in done.stdout
    tree = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert tree["eval"]["protocol"] == "sliding_window"
    found = checkpoints.load_model(f"{tmp_path}/run", {FastFCN.kind: FastFCN})
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3)).astype(np.float32)
    expected = model(image, training=False)["logits"]
    np.testing.assert_array_equal(found(image, training=False), expected)
    assert tree["model"]["aux_weight"] > 0
