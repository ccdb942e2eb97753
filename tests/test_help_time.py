import os
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = [
    path.name
    for path in sorted(ROOT.glob("scripts/*.py"))
    if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
]


def help_of(script: str) -> tuple[subprocess.CompletedProcess, float]:
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", f"scripts/{script}", "--help"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return done, time.perf_counter() - start


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_quick_and_needs_no_tensorflow(script):
    done, seconds = help_of(script)
    assert done.returncode == 0
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    assert "tensorflow" not in imported and "keras" not in imported
    # The best of three: a machine that is busy elsewhere is not the script's fault.
    assert min([seconds, *(help_of(script)[1] for _ in range(2) if seconds >= 1)]) < 1


def test_help_shows_the_flags_of_all_modules():
    text = help_of("train.py")[0].stdout
    for flag in (
        "--workdir",
        "--recipe",
        "--data.images_dir",
        "--[no]model.decoder",
        "--[no]debug",
    ):
        assert f"{flag}:" in text
    assert text.startswith("Trains a recipe")
