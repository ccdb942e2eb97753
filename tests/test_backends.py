"""The builders give the same logits on Keras' other backends, and need no TensorFlow there."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import deeplab_tf
import jpu_tf
from deeplab_tf.weights import weights_by_name

_NETWORKS = {
    "mobilenet_v2": (
        deeplab_tf.DeepLabV3Plus,
        {"backbone": "mobilenet_v2_tiny", "output_stride": 8},
    ),
    "resnet": (deeplab_tf.DeepLabV3Plus, {"backbone": "resnet_tiny", "separable": False}),
    "xception": (deeplab_tf.DeepLabV3Plus, {"backbone": "xception_tiny", "output_stride": 32}),
    "encoding": (jpu_tf.FastFCN, {"backbone": "resnet_deep_stem_tiny"}),
    "psp": (jpu_tf.FastFCN, {"backbone": "resnet_tiny", "upsampler": "fpn", "head": "psp"}),
    "aspp": (jpu_tf.FastFCN, {"backbone": "xception_tiny", "upsampler": "jpu_x", "head": "aspp"}),
    "deeplab": (jpu_tf.FastFCN, {"backbone": "mobilenet_v2_tiny", "head": "deeplab"}),
}

# Fills the network with the arrays of one file and writes its logits to another.
_ELSEWHERE = """
import sys
import numpy as np
from {module} import {function}
from deeplab_tf.weights import weights_by_name
model = {function}(5, **{options})
arrays = np.load(sys.argv[1])
for name, weight in weights_by_name(model).items():
    weight.assign(arrays[name])
logits = model.predict(arrays["image"], verbose=0)
assert "tensorflow" not in sys.modules
np.save(sys.argv[2], np.asarray(logits))
"""


@pytest.mark.slow  # imports a second framework and compiles seven networks on it
@pytest.mark.parametrize("network", sorted(_NETWORKS))
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_logits_are_those_of_tensorflow(backend, network, tmp_path, root):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; pip install -e .[backends]")
    build, options = _NETWORKS[network]
    model = build(5, **options)
    rng = np.random.default_rng(0)
    arrays = {}
    for name, weight in weights_by_name(model).items():
        noise = rng.uniform(0.5, 1.5, weight.shape)  # batch normalization must not be trivial
        kept = not name.endswith(("gamma", "beta", "moving_mean", "moving_variance"))
        arrays[name] = np.asarray(weight.numpy() if kept else noise, np.float32)
        weight.assign(arrays[name])
    arrays["image"] = rng.uniform(0, 255, (2, 49, 66, 3)).astype(np.float32)
    np.savez(tmp_path / "arrays.npz", **arrays)
    expected = model.predict(arrays["image"], verbose=0)
    environment = {**os.environ, "KERAS_BACKEND": backend}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), environment.get("PYTHONPATH", "")])
    program = _ELSEWHERE.format(module=build.__module__, function=build.__name__, options=options)
    paths = [str(tmp_path / name) for name in ("arrays.npz", "logits.npy")]
    command = [sys.executable, "-c", program, *paths]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    difference = np.abs(np.load(paths[1]) - expected).max()
    assert difference <= 1e-4 * expected.std()
