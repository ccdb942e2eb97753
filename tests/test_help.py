"""--help of every script: complete, readable, and without TensorFlow."""

import ast
import functools
import os
import pathlib
import re
import subprocess
import sys

import pytest

from deeplab_tf import zoo
from deeplab_tf.recipe import flags as recipe_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("scripts/*.py")}
SCRIPTS = sorted(name for name, source in SOURCES.items() if 'if __name__ == "__main__"' in source)
PARTS_FOLLOW = "\nParts of a recipe."


@functools.cache
def help_of(script: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "importtime", f"scripts/{script}", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def own_flags(name: str) -> set[str]:
    """The flags that a file in scripts/ defines, and those of the scripts that it imports."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[name])):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("flags.DEFINE_"):
            found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        for script in {f"{module}.py" for module in modules} & SOURCES.keys():
            found |= own_flags(script)
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_tensorflow(script):
    done = help_of(script)
    assert done.returncode == 0, done.stderr[-1000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "absl.flags" in imported
    assert not {"tensorflow", "keras", "tensorflow_datasets"} & imported


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_begins_with_what_the_script_does_and_a_command(script):
    text = help_of(script).stdout
    assert text.startswith(ast.get_docstring(ast.parse(SOURCES[script])))
    assert f"\npython scripts/{script} --" in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_has_every_flag_of_the_script(script):
    lines = [line.strip() for line in help_of(script).stdout.splitlines()]
    for flag in own_flags(script) | {"help"}:
        assert [line for line in lines if f"--{flag}:" in line or f"--[no]{flag}:" in line], flag


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_has_the_parts_in_their_order_with_a_line_for_each_kind(script):
    assert (PARTS_FOLLOW in help_of(script).stdout) == ("cli.define_parts(" in SOURCES[script])
    text = help_of(script).stdout.partition(PARTS_FOLLOW)[2].partition("\n")[2].rstrip("\n")
    heads = [line for line in text.splitlines() if line.startswith("--")]
    names = [re.match(r"--(\w+)", head)[1] for head in heads]
    assert names == [name for name in zoo.PARTS if name in names]
    assert text == recipe_flags.help_text({name: zoo.PARTS[name] for name in names})


def test_training_has_flags_for_every_part():
    assert help_of("train.py").stdout.endswith(recipe_flags.help_text(zoo.PARTS) + "\n")
