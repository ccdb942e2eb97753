"""Our layers are registered with Keras, whichever is imported first."""

import os
import pathlib
import subprocess
import sys

import pytest

_SAVE = """
import sys
from deeplab_tf import CrossEntropyLoss, MeanIoU
from deeplab_tf.model import DeepLabV3PlusConfig
from jpu_tf.model import FastFCNConfig
configs = {
    "deeplab": DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny"),
    "fastfcn": FastFCNConfig(backbone="resnet_deep_stem_tiny"),
}
for name, config in configs.items():
    model = config.build(3)
    model.compile("sgd", loss=CrossEntropyLoss(), metrics=[MeanIoU(3)])
    model.save(f"{sys.argv[1]}/{name}.keras")
"""

_LOAD = """
for name in ("deeplab", "fastfcn"):
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    assert type(model).__name__ == "SegmentationModel", type(model)
    assert model.output_shape == (None, None, None, 3)
    assert type(model.loss).__name__ == "CrossEntropyLoss", model.loss
"""


def run(code: str, *arguments: pathlib.Path, root: pathlib.Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, root):
    directory = tmp_path_factory.mktemp("saved")
    run(_SAVE, directory, root=root)
    return directory


@pytest.mark.slow  # each case is a process that imports TensorFlow
@pytest.mark.parametrize(
    "imports",
    [
        "import sys, deeplab_tf; assert 'keras' not in sys.modules; import keras",
        "import sys, keras; import deeplab_tf",
        "import sys, tensorflow, keras; import deeplab_tf",
        "import sys, deeplab_tf, tensorflow, keras",
        "import sys; from deeplab_tf.layers import blocks; import keras",
        "import sys, jpu_tf.layers, keras",
        "import sys, jpu_tf; from jpu_tf.heads import encoding; import keras",
        "import sys, deeplab_tf, importlib.util; importlib.util.find_spec('keras'); import keras",
    ],
)
def test_keras_files_open_whatever_is_imported_first(imports, saved, root):
    run(imports + "\n" + _LOAD, saved, root=root)


def test_importing_the_package_does_not_import_keras(root):
    run("import sys, deeplab_tf, jpu_tf; assert 'keras' not in sys.modules", root=root)


def test_the_spec_of_keras_is_as_without_us(root):
    run(
        """
import importlib.util
plain = importlib.util.find_spec("keras")
import deeplab_tf
found = importlib.util.find_spec("keras")
assert found.origin == plain.origin
assert found.submodule_search_locations == plain.submodule_search_locations
assert found.loader.get_filename("keras") == plain.loader.get_filename("keras")
import keras
assert type(keras.__loader__) is type(plain.loader) is type(keras.__spec__.loader)
assert importlib.util.find_spec("no_such_module") is None
""",
        root=root,
    )
