import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def run_main(directory: pathlib.Path, body: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a script whose `main` has this body."""
    script = directory / "script.py"
    script.write_text(
        f'"""A script."""\nimport cli\n\ndef main(argv):\n    {body}\n\ncli.run(main)\n'
    )
    path = os.pathsep.join([str(directory), str(ROOT / "scripts")])
    env = {name: v for name, v in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**env, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('crop_size must be positive.')", "error: crop_size must be positive."),
        ("open('missing.txt')", "error: [Errno 2] No such file or directory: 'missing.txt'"),
        ("open('/')", "error: [Errno 21] Is a directory: '/'"),
        ("raise FloatingPointError('loss is not finite')", "error: loss is not finite"),
        (
            "cli.require(output=None, input=1)",
            "error: --output must be given and not empty; see --help.",
        ),
    ],
)
def test_a_mistake_of_the_users_is_one_line(tmp_path, body, line):
    done = run_main(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{line}\n")


def test_debug_shows_where_it_came_from(tmp_path):
    done = run_main(tmp_path, "raise ValueError('bad')", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and done.stderr.endswith("ValueError: bad\n")


def test_a_mistake_of_ours_keeps_its_traceback(tmp_path):
    done = run_main(tmp_path, "{}['key']")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "KeyError: 'key'" in done.stderr


def test_ctrl_c_exits_with_130(tmp_path):
    done = run_main(tmp_path, "raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "\nstopped\n")


def test_what_is_no_flag_is_refused(tmp_path):
    done = run_main(tmp_path, "cli.no_arguments(argv)", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("error: unexpected argument 'true'; flags are written --name=")


def test_an_unknown_flag_suggests_the_closest(tmp_path):
    done = run_main(tmp_path, "pass", "--debgu")
    assert done.returncode == 1
    assert "Unknown command line flag 'debgu'. Did you mean: debug ?" in done.stderr


def test_messages_of_an_import_that_fails_are_shown(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'libfoo.so is missing\\n')\nraise ImportError('broken')\n"
    )
    done = run_main(tmp_path, "cli.import_tensorflow()")
    assert done.returncode == 1
    assert "libfoo.so is missing" in done.stderr and "ImportError: broken" in done.stderr


@pytest.mark.slow  # imports TensorFlow in a process of its own
def test_tensorflow_starts_without_a_message(tmp_path):
    body = (
        "cli.import_tensorflow(); import tensorflow as tf;"
        " print(int(tf.transpose(tf.ones([1, 1], tf.uint8))[0, 0]))"
    )
    done = run_main(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
