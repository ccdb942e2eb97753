import subprocess
import sys

import pytest

import deeplab_tf


@pytest.mark.parametrize("name", deeplab_tf.__all__)
def test_every_public_name_loads(name):
    assert getattr(deeplab_tf, name) is not None
    assert name in dir(deeplab_tf)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'DeepLab'"):
        deeplab_tf.DeepLab  # noqa: B018


def test_importing_it_imports_nothing_heavy():
    code = "import sys, deeplab_tf; sys.exit('numpy' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
