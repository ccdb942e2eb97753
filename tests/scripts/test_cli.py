import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def write_script(directory: pathlib.Path, body: str) -> tuple[pathlib.Path, dict[str, str]]:
    """(A script whose `main` has this body, the environment that it runs in)."""
    script = directory / "script.py"
    script.write_text(
        f'"""A script."""\nimport cli\n\ndef main(argv):\n    {body}\n\ncli.run(main)\n'
    )
    path = os.pathsep.join([str(directory), str(ROOT / "scripts")])
    env = {name: v for name, v in os.environ.items() if not name.startswith("TF_")}
    return script, {**env, "PYTHONPATH": path}


def run_main(
    directory: pathlib.Path, body: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess:
    """Runs a script whose `main` has this body."""
    script, env = write_script(directory, body)
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**env, **environment},
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
        ("raise MemoryError", "error: out of memory. Use smaller images or fewer at a time."),
        (
            "import numpy as np; np.empty(10**15)",
            "error: out of memory (Unable to allocate 7.11 PiB for an array with shape"
            " (1000000000000000,) and data type float64). Use smaller images or fewer at a time.",
        ),
        ("raise ValueError", "error: ValueError"),
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


def test_an_error_that_hides_one_of_the_system_is_that_one(tmp_path):
    body = (
        "try:\n        open('missing.txt')\n    except OSError:\n        raise RuntimeError('odd')"
    )
    done = run_main(tmp_path, body)
    assert done.stderr == "error: [Errno 2] No such file or directory: 'missing.txt'\n"
    body = "try:\n        int('x')\n    except ValueError:\n        raise RuntimeError('a bug')"
    assert "RuntimeError: a bug" in run_main(tmp_path, body).stderr


def test_options_are_called_by_their_flags_and_keys_of_files_are_not(tmp_path):
    text = (
        "train.steps must be below train.epochs; train.stepps, a.train.steps, runs/train.steps,"
        " 'train.steps' and r/recipe.json: train.steps are something else; --train.steps stays"
    )
    body = f"raise ValueError({text!r})"
    script, _ = write_script(tmp_path, body)
    script.write_text(
        "from deeplab_tf import zoo\n"
        + script.read_text().replace(
            "cli.run(main)", "cli.define_parts({'train': zoo.PARTS['train']})\ncli.run(main)"
        )
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "scripts")])}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True)
    assert (
        done.stderr
        == "error: "
        + text.replace(
            "train.steps must be below train.epochs", "--train.steps must be below --train.epochs"
        )
        + "\n"
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_cleans_up_and_exits_with_its_code(tmp_path, name):
    marker = tmp_path / "cleaned"
    body = (
        f"try:\n        print('ready', flush=True); import time; time.sleep(60)\n"
        f"    finally:\n        open({str(marker)!r}, 'w').close()"
    )
    script, env = write_script(tmp_path, body)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], env=env, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + getattr(signal, name), "\nstopped\n")
    assert marker.exists()


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    body = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    script, env = write_script(tmp_path, body)
    command = ["nohup", sys.executable, str(script)]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout) == (0, "alive\n")


@pytest.mark.parametrize("lines", [1, 10**5])
def test_output_that_nobody_reads_ends_the_program_without_a_word(tmp_path, lines):
    script, env = write_script(tmp_path, f"print('line\\n' * {lines})")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], env=env, **pipes) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path):
    script, env = write_script(tmp_path, "print('text')")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(script)], env=env, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode != 0
    assert done.stderr.startswith("error: [Errno 28] No space left on device")
    assert "Traceback" not in done.stderr


def test_a_name_that_the_terminal_lacks_is_printed_in_ascii(tmp_path):
    body = "print('gr\\xf6\\xdfer \\udcff'); raise ValueError('B\\xe4ume')"
    done = run_main(tmp_path, body, PYTHONIOENCODING="ascii")
    assert done.stdout == "gr\\xf6\\xdfer \\udcff\n"
    assert done.stderr == "error: B\\xe4ume\n"


def test_another_backend_of_keras_is_refused_by_name(tmp_path):
    done = run_main(tmp_path, "cli.import_tensorflow()", KERAS_BACKEND="jax")
    assert done.stderr == "error: KERAS_BACKEND must be tensorflow, or not set; got 'jax'.\n"


@pytest.mark.slow  # imports TensorFlow in a process of its own
def test_errors_of_tensorflow_are_one_line_unless_they_are_bugs(tmp_path):
    body = (
        "cli.import_tensorflow()\n"
        "    import tensorflow as tf\n"
        "    errors = tf.errors\n"
        "    def line(of, text='what happened\\n\\t [[{{node a/b}}]]'):\n"
        "        print(cli.error_line(of(None, None, text), 'LESS'))\n"
        "    line(errors.NotFoundError)\n"
        "    line(errors.PermissionDeniedError)\n"
        "    line(errors.UnavailableError)\n"
        "    line(errors.ResourceExhaustedError, 'metrics/events; No space left on device')\n"
        "    line(errors.InvalidArgumentError)\n"
        "    tf.zeros([10**6, 10**6, 10**3])"
    )
    done = run_main(tmp_path, body)
    assert done.stdout.splitlines() == [
        "loading TensorFlow",
        "TensorFlow: what happened. --debug shows where.",
        "TensorFlow: what happened. --debug shows where.",
        "TensorFlow: what happened. --debug shows where.",
        "TensorFlow: metrics/events; No space left on device. --debug shows where.",
        "None",
    ]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: out of memory (OOM when allocating tensor with shape[1000000,")
    assert line.endswith("float). Use smaller images or fewer at a time.")
    assert done.returncode == 1 and "Traceback" not in done.stderr


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
def test_tensorflow_starts_without_a_message_of_its_own(tmp_path):
    body = (
        "cli.import_tensorflow(); import tensorflow as tf;"
        " print(int(tf.transpose(tf.ones([1, 1], tf.uint8))[0, 0]))"
    )
    done = run_main(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (
        0, "loading TensorFlow\n1\n", "",
    )  # fmt: skip
