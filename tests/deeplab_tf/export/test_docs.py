"""The code of docs/export.md runs as it is printed, and predicts what the network predicts."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import deeplab_tf
from deeplab_tf.data.datasets.shapes import draw
from deeplab_tf.export import EXPORTERS
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

ROOT = pathlib.Path(deeplab_tf.__file__).parent.parent
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
BLOCKS = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
}
# Block -> the format that it opens, and the packages that it needs besides the project's.
NEEDS = {
    "saved_model": ("saved_model", ()),
    "serving": ("saved_model", ()),
    "tfsm_layer": ("saved_model", ()),
    "litert": ("litert", ()),
    "ai_edge_litert": ("litert", ("ai_edge_litert",)),
    "onnx": ("onnx", ("onnx", "onnxruntime", "tf2onnx")),
    "keras": ("keras", ()),
}
SPEC = DatasetSpec(
    name="shapes",
    class_names=("background", "disc", "box"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={},
)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = deeplab_tf.DeepLabV3Plus(
        num_classes=3, backbone="xception_tiny", aspp_channels=8, separable=True
    )
    random = np.random.default_rng(0)
    for weight in model.weights:
        if "kernel" in weight.path:
            weight.assign(random.normal(0, 0.3, weight.shape))
    return model


def test_every_block_of_the_page_is_run():
    assert BLOCKS.keys() == NEEDS.keys()


@pytest.mark.slow  # an export and a process that imports TensorFlow
@pytest.mark.parametrize("name", NEEDS)
def test_a_block_of_the_page_runs_without_this_project(name, network, tmp_path):
    kind, packages = NEEDS[name]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    options = {"height": 65, "width": 97} if kind == "litert" else {}
    directory = tmp_path / ("models/photos/1" if name == "serving" else "model")
    directory.parent.mkdir(parents=True, exist_ok=True)
    EXPORTERS[kind](network, SPEC, str(directory), **options)
    # A picture that every decoder reads alike, under the page's name.
    image = draw("val", 3)[0][:65, :97]
    Image.fromarray(image).save(tmp_path / "photo.png")
    os.rename(tmp_path / "photo.png", tmp_path / "photo.jpg")
    expected = np.unique(network(image[None].astype(np.float32)).numpy().argmax(-1))
    assert len(expected) > 1

    # -I: neither the current directory nor PYTHONPATH is searched, but an editable installation is.
    paths = [path for path in sys.path if "site-packages" in path]
    absent = dict.fromkeys(("deeplab_tf", "jpu_tf"))
    begin = f"import sys; sys.path += {paths!r}\n"
    begin += f"sys.path.insert(0, {str(ROOT)!r})" if kind == "keras" else f"sys.modules |= {absent}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-I", "-c", f"{begin}\n{BLOCKS[name]}"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = [SPEC.class_names[i] for i in expected]
    printed = done.stdout.splitlines()[-1]
    if printed.startswith("{"):
        assert eval(printed) == set(names)
    else:
        assert printed == str(expected)
