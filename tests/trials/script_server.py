"""Runs scripts, each in a fork of this process, which has imported TensorFlow and done no more.

A fork is what a fresh process is after its imports, which take most of the time of a command that
fails. It has its own flags, environment, signals and devices.

Reads requests from standard input, a JSON object per line, and answers with one. `Scripts` in
conftest.py is the other side.
"""

import json
import os
import pathlib
import resource
import runpy
import signal
import sys
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main() -> None:
    """Imports what scripts import, then serves until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing but answers goes there
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # as cli.py sets it
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
    os.chdir(ROOT)
    import keras  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    import deeplab_tf.export.saved_model
    import deeplab_tf.training.loop
    import deeplab_tf.weights
    import deeplab_tf.zoo  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)


def serve(request: dict) -> dict:
    """Runs one script to its end, or until its time is over."""
    child = os.fork()
    if not child:
        run(request)
    deadline = time.monotonic() + request["timeout"]
    hangs = False
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline and not hangs:
            hangs = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    code = None if hangs else os.waitstatus_to_exitcode(status)
    return {"code": code, "peak_bytes": 1024 * used.ru_maxrss}


def run(request: dict) -> None:
    """In the fork: the script, as `python script flags` would run it."""
    os.setsid()
    limit = request["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number, (path, mode) in enumerate(
        [
            (os.devnull, os.O_RDONLY),
            (request["stdout"], os.O_WRONLY),
            (request["stderr"], os.O_WRONLY),
        ]
    ):
        os.dup2(os.open(path, mode | os.O_CREAT * (number > 0)), number)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [f"scripts/{request['script']}.py", *request["flags"]]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ending:
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
