import subprocess
import sys

import pytest

import jpu_tf


@pytest.mark.parametrize("name", jpu_tf.__all__)
def test_every_public_name_loads(name):
    assert getattr(jpu_tf, name) is not None
    assert name in dir(jpu_tf)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'JPU'"):
        jpu_tf.JPU  # noqa: B018


def test_importing_it_imports_nothing_heavy():
    code = "import sys, jpu_tf; sys.exit('numpy' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
