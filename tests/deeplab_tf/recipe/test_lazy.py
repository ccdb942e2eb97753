"""What --help, flags and JSON load: no TensorFlow, no Keras, no TFDS."""

import os
import subprocess
import sys

import pytest

import deeplab_tf.recipe
from deeplab_tf.recipe import lazy

_RECIPE_MODULES = sorted(
    f"deeplab_tf.recipe.{name.removesuffix('.py')}"
    for name in os.listdir(os.path.dirname(deeplab_tf.recipe.__file__))
    if name.endswith(".py") and name != "__init__.py"
)


def run(root, script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    ["deeplab_tf", "deeplab_tf.recipes", "deeplab_tf.zoo", "jpu_tf.recipes", *_RECIPE_MODULES],
)
def test_a_module_loads_without_the_slow_packages(root, module):
    script = (
        f"import sys, {module}\n"
        "print({'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules))"
    )
    assert run(root, script) == "set()\n"


def test_json_and_help_of_all_parts_load_none_of_the_slow_packages(root):
    script = (
        "import sys\n"
        "from deeplab_tf import zoo\n"
        "from deeplab_tf.recipe import as_json, flags\n"
        "for recipe in zoo.RECIPES.values():\n"
        "    assert as_json.from_json(as_json.to_json(recipe), zoo.PARTS) == recipe\n"
        "assert flags.help_text(zoo.PARTS)\n"
        "print({'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules))"
    )
    assert run(root, script) == "set()\n"


def test_a_lazy_name_is_the_module():
    import keras
    import tensorflow as tf
    import tensorflow_datasets as tfds

    assert lazy.keras.Model is keras.Model
    assert lazy.tf.constant is tf.constant
    assert lazy.tfds.features is tfds.features
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        lazy.tf.no_such_name  # noqa: B018
