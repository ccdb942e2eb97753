import os
import pathlib

import keras
import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Two replicas without a GPU; only possible before TensorFlow touches its devices.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
# GPUs round the factors of convolutions to 10 bits unless told otherwise; tests compare 13 or more.
tf.config.experimental.enable_tensor_float_32_execution(False)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption(
        "--accept", action="store_true", help="write the files under tests/expected again"
    )


def pytest_collection_modifyitems(config, items):
    skips = {}
    if not config.getoption("slow"):
        skips["slow"] = "slow: runs with --slow"
    if not tf.config.list_physical_devices("GPU"):
        skips["gpu"] = "needs a GPU"
    for item in items:
        for marker, reason in skips.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup(item):
    # JAX and tf2onnx set it when they are imported. Processes that tests start would inherit it.
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)


@pytest.fixture(scope="module")
def forget_networks():
    """For tests that build networks in `StatelessScope(initialize_variables=False)`.

    Keras would initialize their weights later, in whichever test builds the next network.
    """
    yield
    keras.utils.clear_session()


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Real weights and photos, which are not part of the checkout."""
    directory = pathlib.Path(os.environ.get("DEEPLAB_TF_SHARED", ROOT.parent / "shared"))
    if not directory.is_dir():
        pytest.skip(f"no {directory}; DEEPLAB_TF_SHARED names the directory of real test data")
    return directory
