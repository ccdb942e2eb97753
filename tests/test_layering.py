"""The structure that docs/CONTRIBUTING.md promises: imports point down, and a few more rules."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Lowest layer first. A module imports modules of its own column and of lower layers; where a
# layer has several columns, none imports another. A package stands for all modules in it, unless
# they have rows of their own.
LAYERS: list[dict[str, set[str]]] = [
    {
        "contracts": {
            "deeplab_tf.recipe.options",
            "deeplab_tf.recipe.flags",
            "deeplab_tf.recipe.as_json",
            "deeplab_tf.recipe.dataset_spec",
            "deeplab_tf.recipe.files",
        },
    },
    {
        "network": {
            "deeplab_tf.layers.atrous",
            "deeplab_tf.backbones",
            "deeplab_tf.layers",
            "deeplab_tf.layers.normalization",
        },
        "data": {"deeplab_tf.data", "deeplab_tf.data.photos", "deeplab_tf.data.picture_files"},
        "losses": {"deeplab_tf.training.losses"},
        "metrics": {"deeplab_tf.evaluation.metrics"},
        "optimization": {"deeplab_tf.training.optimizers"},
        "pictures": {"deeplab_tf.pictures.chart", "deeplab_tf.pictures.visualization"},
        "weights": {"deeplab_tf.weights"},
    },
    {
        "engine": {
            "deeplab_tf.training.checkpoints",
            "deeplab_tf.evaluation.evaluate",
            "deeplab_tf.export",
            "deeplab_tf.evaluation.whole_image",
            "deeplab_tf.layers.multiply_adds",
            "deeplab_tf.training.run_log",
            "jpu_tf.sliding_window",
            "deeplab_tf.training.loop",
        },
    },
    {
        "deeplab": {
            "deeplab_tf",
            "deeplab_tf.aspp",
            "deeplab_tf.decoder",
            "deeplab_tf.model",
            "deeplab_tf.pretrained",
            "deeplab_tf.recipes",
            "deeplab_tf.released",
        },
    },
    {"fastfcn": {"jpu_tf"}},
    {"scripts": {"scripts"}},
]

# Imports against the rule: (importing module, imported module) -> why.
EXCEPTIONS = {
    ("deeplab_tf.weights.deeplab_tf1", "deeplab_tf.backbones.mobilenet_v2"): (
        "a file of weights is recognised by comparing it with the backbone's variants"
    ),
}

NO_TENSORFLOW = {
    "deeplab_tf",
    "deeplab_tf.recipes",
    "jpu_tf",
    "jpu_tf.recipes",
    *LAYERS[0]["contracts"],
}
LOADED_FOR_HELP = NO_TENSORFLOW - {"deeplab_tf.recipe.dataset_spec"}  # its package loads the datasets
NO_TENSORFLOW_AT_TOP = {
    *LAYERS[1]["network"],
    "deeplab_tf.aspp",
    "deeplab_tf.decoder",
    "deeplab_tf.model",
    "jpu_tf.heads",
    "jpu_tf.layers",
    "jpu_tf.model",
    "jpu_tf.upsamplers",
}
# "google" is protobuf, which TensorFlow requires.
INSTALLED = {"PIL", "absl", "google", "keras", "numpy", "tensorflow", "tensorflow_datasets"}
# Extras, imported where they are used: the speed of a network on Keras' other backends.
EXTRAS = {"scripts.benchmark_fps": {"jax", "torch"}}
TOP = {
    "LICENSE",
    "README.md",
    "deeplab_tf",
    "docs",
    "jpu_tf",
    "notebooks",
    "pyproject.toml",
    "scripts",
    "setup.py",
    "tests",
}


def python_files() -> dict[str, pathlib.Path]:
    """Module name -> file, of the packages and the scripts."""
    found = {}
    for folder in ("deeplab_tf", "jpu_tf", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = python_files()
# Parsed before any test runs: Python 3.11 now and then fails to when TensorFlow does so meanwhile.
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES.values()}


def place(module: str) -> tuple[int, str] | None:
    """(layer, column) of the longest row that the module is or is in."""
    found = {
        row: (layer, column)
        for layer, columns in enumerate(LAYERS)
        for column, rows in columns.items()
        for row in rows
        # "deeplab_tf" is the package's own file alone: its modules each need a row.
        if module == row or (row != "deeplab_tf" and module.startswith(f"{row}."))
    }
    return found[max(found, key=len)] if found else None


def imports(path: pathlib.Path, *, top_only: bool = False) -> set[str]:
    """Full names of everything a file imports, ours as modules; nested imports included."""
    tree = TREES[path] if path in TREES else ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {our_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write relative imports in full"
            found |= {our_module(f"{node.module}.{alias.name}") for alias in node.names}
    return found


def our_module(name: str) -> str:
    """The module in which an imported name lives; scripts import each other without a package."""
    for candidate in (name, name.rpartition(".")[0]):
        for module in (candidate, f"scripts.{candidate}"):
            if module in FILES:
                return module
    return name


def is_of(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module):
    ours = imports(FILES[module]) & FILES.keys()
    unplaced = [name for name in (module, *ours) if place(name) is None]
    assert not unplaced, f"add {unplaced} to LAYERS in {__file__}"
    layer, column = place(module)
    for imported in ours:
        other_layer, other_column = place(imported)
        assert (
            other_layer < layer
            or (other_layer, other_column) == (layer, column)
            or (module, imported) in EXCEPTIONS
        ), (
            f"{module} (layer {layer}, {column}) imports {imported} (layer {other_layer},"
            f" {other_column}); imports point down, see docs/CONTRIBUTING.md"
        )


def test_an_arrow_up_or_across_would_be_found(tmp_path):
    file = tmp_path / "losses.py"
    file.write_text("def f():\n    from deeplab_tf import training\n    import deeplab_tf.data.photos\n")
    assert imports(file) == {"deeplab_tf.training.loop", "deeplab_tf.data.photos"}
    assert place("deeplab_tf.training.losses") < place("deeplab_tf.training.loop")
    assert place("deeplab_tf.training.losses") != place("deeplab_tf.data.photos")
    assert place("deeplab_tf.backbones.new") == (1, "network")
    assert place("deeplab_tf.new") is None


def test_every_exception_is_still_needed():
    for module, imported in EXCEPTIONS:
        assert imported in imports(FILES[module]), f"remove ({module}, {imported})"


@pytest.mark.parametrize("module", FILES)
def test_only_what_setup_installs_is_imported(module):
    ours = {"deeplab_tf", "jpu_tf", "scripts"}
    known = sys.stdlib_module_names | INSTALLED | ours | EXTRAS.get(module, set())
    assert {name.partition(".")[0] for name in imports(FILES[module])} <= known


def test_the_contracts_do_not_import_tensorflow():
    for module in NO_TENSORFLOW:
        found = imports(FILES[module], top_only=True)
        assert not [name for name in found if is_of(name, "tensorflow", "keras")], module
    code = f"import sys, {', '.join(LOADED_FOR_HELP)}; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", [m for m in FILES if is_of(m, *NO_TENSORFLOW_AT_TOP)])
def test_networks_are_built_with_keras_alone(module):
    found = imports(FILES[module], top_only=True)
    assert not [name for name in found if is_of(name, "tensorflow")]


@pytest.mark.parametrize("module", FILES)
def test_files_are_named_and_short(module):
    assert FILES[module].name != "utils.py", "if it has no home, its module is missing"
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{lines} lines; split it"


@pytest.mark.parametrize("module", FILES)
def test_flags_are_for_scripts(module):
    if not is_of(module, "scripts", "deeplab_tf.recipe.flags"):
        assert not [name for name in imports(FILES[module]) if is_of(name, "absl.flags", "absl")]


def test_nothing_else_is_at_the_top():
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listing.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP
