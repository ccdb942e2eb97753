"""Commands as users start them, many to a process; a workdir and data to try them on."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from deeplab_tf import zoo
from deeplab_tf.data.datasets.shapes import Shapes
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.training.state import RunState
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.contents import save_recipe, save_spec
from deeplab_tf.weights import weights_by_name

_MEMORY = 16 * 2**30  # bytes of addresses a script may reserve; TensorFlow alone reserves some


@dataclasses.dataclass(frozen=True)
class Done:
    """A script that has ended.

    Attributes:
      code: its exit code; None: it did not end in its time.
      stdout: what it printed.
      stderr: what it printed on standard error.
      peak_bytes: memory that it held at once.
    """

    code: int | None
    stdout: str
    stderr: str
    peak_bytes: int


class Scripts:
    """Runs scripts by way of script_server.py."""

    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        self._server = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name("script_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *flags: str, timeout: float = 60, **environment: str) -> Done:
        """Runs scripts/<script>.py with these flags and variables besides ours."""
        outputs = {name: self._directory / name for name in ("stdout", "stderr")}
        for path in outputs.values():
            path.write_bytes(b"")
        request = {
            "script": script,
            "flags": flags,
            "timeout": timeout,
            "memory": _MEMORY,
            "environment": {**os.environ, **environment},
            **{name: str(path) for name, path in outputs.items()},
        }
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        texts = {name: path.read_text(errors="replace") for name, path in outputs.items()}
        return Done(**answer, **texts)

    def close(self) -> None:
        """Ends the server."""
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()


@pytest.fixture(scope="session")
def scripts(tmp_path_factory):
    server = Scripts(tmp_path_factory.mktemp("scripts"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def recipe_flags():
    """The flags with which train.py trains what `trained` was trained with."""
    return [
        "--recipe=quickstart_shapes",
        "--dataset.num_examples=8",
        "--train.steps=4",
        "--train.batch_size=2",
        "--model.atrous_rates=1",
        "--model.aspp_channels=8",
        "--model.decoder=false",
    ]


def _recipe() -> Recipe:
    """The same."""
    recipe = zoo.RECIPES["quickstart_shapes"]
    return dataclasses.replace(
        recipe,
        model=recipe.model.replace(atrous_rates=(1,), aspp_channels=8, decoder=False),
        dataset=Shapes(num_examples=8),
        train=recipe.train.replace(steps=4, batch_size=2),
    )


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where shapes are prepared: eight to train on, two to score."""
    place = tmp_path_factory.mktemp("data")
    Shapes(num_examples=8).open(str(place))
    return place


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir):
    """A workdir with the checkpoints of steps 1 and 2, and the best weights, of step 1."""
    place = tmp_path_factory.mktemp("trained") / "run"
    recipe = _recipe()
    spec = recipe.dataset.open(str(data_dir)).spec
    save_recipe(str(place), recipe)
    save_spec(str(place), spec)
    model = recipe.model.build(spec.num_classes, auxiliary=True)
    state = RunState(weights_by_name(model), scale_loss=False, ema_decay=None)
    checkpointer = Checkpointer(str(place), model, recipe.optimizer.build(model), state)
    checkpointer.save(1)
    checkpointer.save_best(1, 0.5)
    checkpointer.save(2)
    Image.new("RGB", (33, 33)).save(place / "val.png")  # for commands that need a photo
    return place


@pytest.fixture
def run_copy(trained, tmp_path):
    """A copy of the workdir, to be damaged."""
    return pathlib.Path(shutil.copytree(trained, tmp_path / "run"))
