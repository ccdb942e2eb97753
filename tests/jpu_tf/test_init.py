import ast
import pathlib
import subprocess
import sys

import pytest

import jpu_tf


@pytest.mark.parametrize("name", jpu_tf.__all__)
def test_every_public_name_loads(name):
    assert getattr(jpu_tf, name) is not None


def test_completion_shows_the_public_names_alone():
    assert dir(jpu_tf) == jpu_tf.__all__


def test_editors_find_every_public_name_where_it_is_loaded_from():
    tree = ast.parse(pathlib.Path(jpu_tf.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    found = {name.asname: node.module for node in block.body for name in node.names}
    assert found == jpu_tf._MODULES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'JPUU'"):
        jpu_tf.JPUU  # noqa: B018


@pytest.mark.parametrize(
    ("names", "heavy"),
    [
        ("", {"numpy", "keras", "tensorflow"}),
        ("jpu_tf.RECIPES, jpu_tf.FastFCN, jpu_tf.SlidingWindow", {"keras", "tensorflow"}),
    ],
)
def test_options_and_recipes_load_without_keras(names, heavy):
    code = f"import sys, jpu_tf; ({names}); sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_importing_it_is_enough_to_open_a_keras_file():
    code = (
        "import jpu_tf, keras;"
        " assert keras.saving.get_registered_object('jpu_tf>Encoding') is not None"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
