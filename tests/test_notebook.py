import json
import pathlib

import numpy as np

NOTEBOOK = pathlib.Path(__file__).parent.parent / "notebooks" / "predict.ipynb"


def code_cells() -> list[dict]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs_from_top_to_bottom_without_weights(capsys):
    names = {}
    for cell in code_cells():
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert "random weights" in capsys.readouterr().out
    assert names["logits"].shape == (1, 240, 320, 21)
    assert names["overlay"].shape == names["image"].shape == (240, 320, 3)
    assert names["overlay"].dtype == np.uint8


def test_the_notebook_is_stored_without_outputs():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells())
