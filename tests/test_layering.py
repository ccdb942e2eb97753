"""The structure that docs/CONTRIBUTING.md promises: imports point down, and a few more rules."""

import ast
import dataclasses
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Lowest layer first. A module imports modules of its own column and of lower layers; where a
# layer has several columns, none imports another. A room stands for all modules in it, unless
# they have rows of their own.
LAYERS: list[dict[str, set[str]]] = [
    {
        "contracts": {
            "deeplab_tf.recipe",
            "deeplab_tf.layers.names",
            "deeplab_tf.layers_registration",
        },
    },
    {
        "network": {"deeplab_tf.layers", "deeplab_tf.backbones", "deeplab_tf.inference"},
        "data": {"deeplab_tf.data"},
        "weights": {"deeplab_tf.weights"},
        "pictures": {"deeplab_tf.pictures"},
    },
    {
        "evaluation": {"deeplab_tf.evaluation"},
        "export": {"deeplab_tf.export"},
    },
    {"training": {"deeplab_tf.training"}, "pages": {"deeplab_tf.pages"}},
    {
        "deeplab": {
            "deeplab_tf.aspp",
            "deeplab_tf.camvid_recipes",
            "deeplab_tf.classifier",
            "deeplab_tf.decoder",
            "deeplab_tf.imagenet_recipes",
            "deeplab_tf.model",
            "deeplab_tf.recipes",
            "deeplab_tf.released",
            "deeplab_tf.small_tables",
            "deeplab_tf.tables",
        },
    },
    {
        "fastfcn": {
            "jpu_tf.augment",
            "jpu_tf.camvid_recipes",
            "jpu_tf.heads",
            "jpu_tf.layers",
            "jpu_tf.losses",
            "jpu_tf.model",
            "jpu_tf.recipes",
            "jpu_tf.sliding_window",
            "jpu_tf.tables",
            "jpu_tf.upsamplers",
            "jpu_tf.weights",
        },
    },
    # The packages' own files name what is public, and import it when it is used.
    {"everything": {"deeplab_tf.zoo", "deeplab_tf", "jpu_tf"}},
    {"scripts": {"scripts"}},
]
PACKAGES = ("deeplab_tf", "jpu_tf")  # as rows, their own files alone

HEAVY = {"tensorflow": "tf", "keras": "keras", "tensorflow_datasets": "tfds"}  # names in `lazy`
# These build on every backend of Keras; what TensorFlow alone can do is imported lazily.
NETWORKS = {
    *LAYERS[1]["network"],
    "deeplab_tf.aspp",
    "deeplab_tf.classifier",
    "deeplab_tf.decoder",
    "deeplab_tf.model",
    "jpu_tf.heads",
    "jpu_tf.layers",
    "jpu_tf.model",
    "jpu_tf.upsamplers",
}
# "google" is protobuf, which TensorFlow requires; Keras requires h5py.
INSTALLED = {"PIL", "absl", "google", "h5py", "keras", "numpy", "tensorflow", "tensorflow_datasets"}
# Extras, imported where they are used: the speed of a network on Keras' other backends.
EXTRAS = {
    "deeplab_tf.export.onnx_file": {"onnx", "onnxruntime", "tf2onnx"},
    "scripts.benchmark_engines": {"onnx", "onnxruntime", "torch"},
    "scripts.reproduce_speed": {"jax", "torch"},
}
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
    for folder in (*PACKAGES, "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
      name: in full, e.g. "deeplab_tf.recipe.lazy.tf".
      for_types: it is below `if TYPE_CHECKING:`, so nothing is imported at run time.
    """

    name: str
    for_types: bool

    @property
    def module(self) -> str:
        """Our module that the name is in, or the name itself. Scripts are not in a package."""
        for candidate in (self.name, self.name.rpartition(".")[0]):
            for module in (candidate, f"scripts.{candidate}"):
                if module in FILES:
                    return module
        return self.name


def imports(path: pathlib.Path) -> list[Import]:
    """Everything that a file imports, in functions too."""
    tree = TREES[path] if path in TREES else ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node in for_types) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write relative imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [Import(name, node in for_types) for name in names]
    return found


FILES = python_files()
# Parsed before any test runs: Python 3.11 now and then fails to when TensorFlow does so meanwhile.
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES.values()}
IMPORTS = {module: imports(path) for module, path in FILES.items()}


def place(module: str) -> tuple[int, str] | None:
    """(layer, column) of the longest row that the module is or is in."""
    found = {
        row: (layer, column)
        for layer, columns in enumerate(LAYERS)
        for column, rows in columns.items()
        for row in rows
        if module == row or (row not in PACKAGES and module.startswith(f"{row}."))
    }
    return found[max(found, key=len)] if found else None


def is_of(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def allowed(module: str, imported: str) -> bool:
    layer, column = place(module)
    other_layer, other_column = place(imported)
    return other_layer < layer or (other_layer, other_column) == (layer, column)


# Imports for types count: a module that names a type of another module depends on it.
@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module):
    ours = {each.module for each in IMPORTS[module]} & FILES.keys()
    unplaced = [name for name in (module, *ours) if place(name) is None]
    assert not unplaced, f"add {unplaced} to LAYERS in {__file__}"
    wrong = [f"{name}, {place(name)}" for name in ours if not allowed(module, name)]
    assert not wrong, (
        f"{module}, {place(module)}, imports {wrong}; imports point down, see docs/CONTRIBUTING.md"
    )


def test_an_arrow_up_or_across_would_be_found(tmp_path):
    file = tmp_path / "pipeline.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import keras\n    from deeplab_tf import model\n"
        "def f():\n    from deeplab_tf.pictures.chart import draw\n    import deeplab_tf.zoo\n"
    )
    found = {each.module: each.for_types for each in imports(file)}
    assert found == {
        "typing.TYPE_CHECKING": False,
        "keras": True,
        "deeplab_tf.model": True,
        "deeplab_tf.pictures.chart": False,
        "deeplab_tf.zoo": False,
    }
    for imported in ("deeplab_tf.model", "deeplab_tf.pictures.chart", "deeplab_tf.zoo"):
        assert not allowed("deeplab_tf.data.pipeline", imported)
    assert allowed("deeplab_tf.data.pipeline", "deeplab_tf.data.sources")
    assert allowed("deeplab_tf.data.pipeline", "deeplab_tf.recipe.parts")
    assert place("deeplab_tf.backbones.new") == (1, "network")
    assert place("deeplab_tf.new") is None


def test_every_row_is_a_module():
    rows = {row for columns in LAYERS for rows in columns.values() for row in rows}
    assert rows - {"scripts"} <= FILES.keys()


@pytest.mark.parametrize("module", FILES)
def test_only_what_setup_installs_is_imported(module):
    ours = {*PACKAGES, "scripts"}
    known = sys.stdlib_module_names | INSTALLED | ours | EXTRAS.get(module, set())
    assert {each.module.partition(".")[0] for each in IMPORTS[module]} <= known


def test_all_recipes_load_without_tensorflow():
    code = "import sys, deeplab_tf.zoo; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "deeplab_tf.recipes" in loaded and "jpu_tf.recipes" in loaded, done.stderr
    assert not HEAVY.keys() & set(loaded)


@pytest.mark.parametrize("module", FILES)
def test_what_is_imported_lazily_is_not_imported_otherwise(module):
    names = {each.name for each in IMPORTS[module] if not each.for_types}
    for heavy, lazy in HEAVY.items():
        if f"deeplab_tf.recipe.lazy.{lazy}" in names:
            assert not [name for name in names if is_of(name, heavy)]


@pytest.mark.parametrize("module", [m for m in FILES if is_of(m, *NETWORKS)])
def test_networks_are_built_with_keras_alone(module):
    names = {each.name for each in IMPORTS[module] if not each.for_types}
    assert not [name for name in names if is_of(name, "tensorflow")]


@pytest.mark.parametrize("module", FILES)
def test_files_are_named_and_short(module):
    assert FILES[module].name != "utils.py", "if it has no home, its module is missing"
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{lines} lines; split it"


# Rooms that grow by a file for each row of a table, and so have no limit.
GROW = {
    "deeplab_tf.backbones",
    "deeplab_tf.data.augment",
    "deeplab_tf.data.datasets",
    "deeplab_tf.weights",
    "jpu_tf.heads",
    "jpu_tf.upsamplers",
}


# deeplab_tf/ itself is the paper's modules and the rooms; LAYERS lists them.
@pytest.mark.parametrize(
    "room",
    [
        m
        for m, path in FILES.items()
        if path.name == "__init__.py" and m not in {"deeplab_tf", *GROW}
    ],
)
def test_a_room_shows_a_dozen_names_at_a_glance(room):
    files = FILES[room].parent.iterdir()
    names = sorted(p.name for p in files if not p.name.startswith("_") and p.name != "py.typed")
    assert len(names) <= 12, f"{names}; make another room"


@pytest.mark.parametrize("module", FILES)
def test_flags_are_for_scripts(module):
    if not is_of(module, "scripts", "deeplab_tf.recipe.flags"):
        assert not [each for each in IMPORTS[module] if is_of(each.name, "absl")]


def test_nothing_else_is_at_the_top():
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listing.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP
