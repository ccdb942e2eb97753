"""What README.md and docs/*.md mention exists: flags, links, recipes, names in Python."""

import concurrent.futures
import functools
import itertools
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

import deeplab_tf
import jpu_tf
from deeplab_tf import zoo
from deeplab_tf.recipe import flags as recipe_flags

ROOT = pathlib.Path(__file__).parent.parent
DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCS]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = [path.name for path in (ROOT / "scripts").glob("*.py") if "cli.run(" in path.read_text()]
OF_PYTEST = {"slow", "accept"}  # bash scripts/test.sh


def text_of(name: str) -> str:
    """The text with one command per line, without what is gone or made up."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    if name == "docs/CHANGELOG.md":  # the first column has old names
        text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.MULTILINE)
    if name == "docs/CONTRIBUTING.md":  # test_contributing.py runs the examples
        text = text.split("## Example: a schedule")[0] + text.split("## How it is written")[1]
    return text


def flags_of(script: str) -> set[str]:
    command = [sys.executable, ROOT / "scripts" / script, "--help"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"--(?:\[no\])?([\w.]+)", printed))


@pytest.fixture(scope="module")
def flags_of_scripts() -> dict[str, set[str]]:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(SCRIPTS, pool.map(flags_of, SCRIPTS), strict=True))


@functools.cache
def flag_values() -> flags.FlagValues:
    values = flags.FlagValues()
    recipe_flags.define_recipe(values)
    recipe_flags.define(zoo.PARTS, values)
    return values


@pytest.mark.parametrize("name", NAMES)
def test_commands_use_flags_of_their_script(name, flags_of_scripts):
    for line in text_of(name).splitlines():
        command = re.match(r"python scripts/(\w+\.py) ([^#]*)", line)
        if command:
            # reproduce.py hands what follows -- to train.py; compare.py keeps it.
            after = "train.py" if command[1] == "reproduce.py" else command[1]
            for script, part in zip((command[1], after), command[2].split(" -- "), strict=False):
                unknown = set(re.findall(r"--([\w.]+)", part)) - flags_of_scripts[script]
                assert not unknown, line


@pytest.mark.parametrize("name", NAMES)
def test_flags_exist_and_take_the_values_shown(name, flags_of_scripts):
    values = flag_values()
    of_scripts = OF_PYTEST.union(*flags_of_scripts.values())
    # The model of a recipe is a kind; that of predict.py is a path.
    text = re.sub(r"predict\.py --model=\S+", "predict.py", text_of(name))
    text = re.sub(r"^tensorflow_model_server .+$", "", text, flags=re.MULTILINE)
    for flag, value in re.findall(r"--([a-z][\w.]*\w)(?:=([^\s`]+))?", text):
        if flag in values and value and not re.search(r"\.\.\.|NAME", value):
            values[flag].parser.parse(value)
        assert flag in values or flag in of_scripts, flag


def test_the_flags_shown_for_recipes_apply_to_a_recipe():
    section = README.split("## Recipes")[1].split("| recipe |")[0]
    lines = [line for line in section.splitlines() if line.startswith("--")]
    assert lines
    for line in lines:
        values = flags.FlagValues()
        recipe_flags.define_recipe(values)
        recipe_flags.define(zoo.PARTS, values)
        values(["train.py", "--recipe=deeplabv3plus_mobilenet_v2_finetune", *line.split()])
        changed = recipe_flags.recipe_from_flags(zoo.RECIPES, zoo.PARTS, values)
        assert changed != zoo.RECIPES["deeplabv3plus_mobilenet_v2_finetune"]


def anchors(path: pathlib.Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings(name):
    text = re.sub(r"```python.+?```", "", text_of(name), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def spelled_out(text: str) -> list[str]:
    """a_{b,c} -> a_b, a_c."""
    pieces = [piece.split(",") for piece in re.split(r"[{}]", text)]
    return list(map("".join, itertools.product(*pieces)))


def test_the_tables_list_every_recipe_with_its_expected_mean_iou():
    tables = README + text_of("docs/reproduce.md") + text_of("docs/results.md")
    listed = {}
    for names, cells in re.findall(r"^\| `(\w[\w{},]+)` \|(.+)\|$", tables, re.MULTILINE):
        numbers = re.findall(r"\d+\.\d+", cells) if cells.count("|") == 0 else []
        for recipe, number in itertools.zip_longest(spelled_out(names), numbers):
            listed[recipe] = None if number is None else float(number)
    assert listed == {name: recipe.expected_mean_iou for name, recipe in zoo.RECIPES.items()}


@pytest.mark.parametrize("name", NAMES)
def test_names_in_python_exist(name):
    for package, attribute in re.findall(r"\b(deeplab_tf|jpu_tf)\.([A-Za-z]\w*)", text_of(name)):
        known = {"deeplab_tf": deeplab_tf, "jpu_tf": jpu_tf}[package].__all__
        is_module = (ROOT / package / f"{attribute}.py").exists() or (
            ROOT / package / attribute
        ).is_dir()
        assert attribute in known or is_module, f"{package}.{attribute}"


@pytest.mark.slow  # compiles a training step
def test_the_example_of_compile_and_fit_runs():
    (example,) = re.findall(r"```python\n(model\.compile.+?)```", README, re.DOTALL)
    model = deeplab_tf.DeepLabV3Plus(num_classes=21, backbone="mobilenet_v2_tiny")
    labels = np.tile(np.array([3, 255]), (2, 65, 33))[:, :, :65]
    images = np.random.default_rng(0).integers(0, 256, (2, 65, 65, 3)).astype(np.uint8)
    exec(example, {"deeplab_tf": deeplab_tf, "model": model, "images": images, "labels": labels})
    assert 0 <= model.history.history["mean_iou"][0] <= 1
