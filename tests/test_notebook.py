import json
import pathlib

import numpy as np
import pytest

NOTEBOOKS = pathlib.Path(__file__).parent.parent / "notebooks"


def code_cells(name: str) -> list[dict]:
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def run(name: str, **settings) -> dict:
    """Runs a notebook, whose first code cell holds its settings; returns its variables."""
    variables = {}
    for i, cell in enumerate(code_cells(name)):
        exec(compile("".join(cell["source"]), f"{name}, cell {i}", "exec"), variables)
        if i == 0:
            assert settings.keys() <= variables.keys()
            variables.update(settings)
    return variables


@pytest.mark.parametrize(
    "network",
    ["deeplabv3plus", pytest.param("fastfcn", marks=pytest.mark.slow)],  # builds ResNet-50
)
def test_predict_runs_without_weights(network, capsys):
    variables = run("predict.ipynb", NETWORK=network)
    assert "random weights" in capsys.readouterr().out
    assert variables["model"].name == network
    assert variables["overlay"].shape == variables["image"].shape == (240, 320, 3)
    assert variables["overlay"].dtype == np.uint8


def test_predict_finds_the_dog_with_released_weights(shared_dir, capsys):
    weights = shared_dir / "weights" / "deeplabv3_mnv2_dm05_voc.npz"
    photo = shared_dir / "data" / "photos" / "dog.jpg"
    run("predict.ipynb", WEIGHTS=str(weights), PHOTO=str(photo))
    lines = capsys.readouterr().out.splitlines()
    found = {line.split(":")[0] for line in lines if line.endswith("of the pixels")}
    assert found == {"background", "dog"}


@pytest.mark.slow  # compiles a training step
def test_training_on_photos_scores_them_and_predict_opens_the_workdir(tmp_path, capsys):
    variables = run(
        "train_on_your_photos.ipynb", CROP_SIZE=64, STEPS=2, NUM_DRAWN=10, OUTPUT=str(tmp_path)
    )
    assert variables["result"].num_examples == len(variables["dataset"].source("val"))
    assert variables["overlay"].shape == variables["image"].shape
    capsys.readouterr()
    run("predict.ipynb", WORKDIR=str(tmp_path / "run"))
    assert "background: " in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_notebooks_are_stored_without_outputs(name):
    cells = code_cells(name)
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
