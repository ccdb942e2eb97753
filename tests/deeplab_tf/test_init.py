import ast
import inspect
import subprocess
import sys

import pytest

import deeplab_tf


@pytest.mark.parametrize("name", deeplab_tf.__all__)
def test_every_public_name_loads(name):
    assert getattr(deeplab_tf, name) is not None


def test_dir_shows_the_public_names_alone():
    assert dir(deeplab_tf) == sorted(deeplab_tf._MODULES)
    assert not [name for name in dir(deeplab_tf) if name.startswith("_")]


def test_what_editors_read_is_what_loads():
    tree = ast.parse(inspect.getsource(deeplab_tf))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "_typing.TYPE_CHECKING"
    imported = {
        alias.asname: (node.module, alias.name) for node in block.body for alias in node.names
    }
    assert imported == {
        name: (f"deeplab_tf.{module}", name) for name, module in deeplab_tf._MODULES.items()
    }


@pytest.mark.parametrize("package", ["deeplab_tf", "jpu_tf"])
def test_the_marker_of_type_hints_is_packaged(package, root):
    assert (root / package / "py.typed").read_text() == ""
    tree = ast.parse((root / "setup.py").read_text())
    (data,) = (n.value for n in ast.walk(tree) if getattr(n, "arg", None) == "package_data")
    assert "py.typed" in ast.literal_eval(data)[package]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'DeepLab'"):
        deeplab_tf.DeepLab  # noqa: B018


def test_importing_it_imports_nothing_heavy():
    code = "import sys, deeplab_tf; sys.exit('numpy' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
