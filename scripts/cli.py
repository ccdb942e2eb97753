"""What all scripts share: parsing flags, --help, errors in one line, a quiet TensorFlow.

Exit codes:
  0    done
  1    a mistake in the command or in a file, an error of the system, which are one line on standard
       error, or a bug, which shows its traceback; --debug shows the traceback of every error
  129  the terminal was closed (SIGHUP)
  130  Ctrl-C (SIGINT)
  141  the reader of the output is gone (SIGPIPE), as in `| head`
  143  asked to end (SIGTERM)
"""

from __future__ import annotations

import multiprocessing
import os
import re
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from absl import flags, logging

from deeplab_tf.recipe import flags as recipe_flags

_DEBUG = flags.DEFINE_bool(
    "debug", False, "show where in the code an error came from", module_name="general"
)


_PARTS: dict[str, object] = {}  # of a recipe, that this script has flags for


def define_parts(parts: recipe_flags.Parts) -> None:
    """Defines the flags of these parts of a recipe, and shows them in --help."""
    recipe_flags.define(parts)
    _PARTS.update(parts)


class _Help(flags.BooleanFlag):
    """--help: the script's docstring and all flags, those of the modules it uses included."""

    def __init__(self):
        super().__init__("help", False, "show this help", short_name="h")

    def parse(self, argument: str) -> None:
        """Prints the help and ends the program."""
        if hasattr(signal, "SIGPIPE"):  # so that `--help | head` ends without a traceback
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(sys.modules["__main__"].__doc__)
        by_module = flags.FLAGS.flags_by_module_dict()
        # absl's own, on logging, are accepted and not listed.
        others = ("general", recipe_flags.MODULE, "absl.logging")
        for module in [*sorted(by_module.keys() - set(others)), "general"]:
            print(flags.FLAGS.module_help(module).strip("\n") + "\n")
        if _PARTS:
            print("Parts of a recipe. A flag that is not given leaves the recipe's value as it is.")
            print(recipe_flags.help_text(_PARTS))
        sys.exit(0)


def _unknown(error: flags.UnrecognizedFlagError) -> str:
    """The message, which names the flags whose last part is the unknown one's."""
    last = error.flagname.rpartition(".")[2]
    same = [f"--{name}" for name in flags.FLAGS if name.rpartition(".")[2] == last]
    if not same:
        return str(error)
    return f"Unknown command line flag '{error.flagname}'. Did you mean {' or '.join(same)}?"


def run(
    main: Callable[[list[str]], None],
    *,
    interrupted: str = "stopped",
    less_memory: str = "Use smaller images or fewer at a time.",
) -> None:
    """Parses the flags, calls `main` and ends the program with the exit codes above.

    Args:
      main: takes the arguments that are not flags, the program's name first.
      interrupted: the message after a signal.
      less_memory: what to do when memory runs out, a sentence that names flags.
    """
    flags.DEFINE_flag(_Help(), module_name="general")
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal lacks is no reason to fail. Lines are seen at once in a log too.
        stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        arguments = flags.FLAGS(sys.argv)
    except flags.UnrecognizedFlagError as error:
        sys.exit(f"error: {_unknown(error)}\nAll flags: python {sys.argv[0]} --help")
    except flags.Error as error:
        text = re.sub(r"\('Non-boolean argument.*\)", "expected true or false", str(error))
        sys.exit(f"error: {text}\nAll flags: python {sys.argv[0]} --help")
    _exit_on_signals()
    try:
        main(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        sys.exit(_SIGNALED + signal.SIGINT)
    except SystemExit as ending:
        if ending.code in _SIGNAL_CODES:
            print(f"\n{interrupted}", file=sys.stderr)
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            sys.exit(_SIGNALED + signal.SIGPIPE)
        line = error_line(error, less_memory)
        if _DEBUG.value or line is None:
            raise
        sys.exit(f"error: {line}")


_SIGNALED = 128  # plus the number of the signal: the exit code that shells expect
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_SIGNAL_CODES = [_SIGNALED + number for number in _ENDING]


def _exit_on_signals() -> None:
    """Makes signals that end the program raise SystemExit, so that `finally` blocks clean up."""

    def end(number, frame):
        raise SystemExit(_SIGNALED + number)

    if threading.current_thread() is threading.main_thread():  # which alone receives signals
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, end)


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads; if so, it is closed in silence."""
    if hasattr(select, "poll"):  # else there is nothing else it can be
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)
        if not any(events & select.POLLERR for _, events in output.poll(0)):
            return False
    # Python writes what is left when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def error_line(error: BaseException, less_memory: str) -> str | None:
    """What to say of an error that users can cause, in a line or a short list.

    Args:
      error: that ended `main`.
      less_memory: what to do when memory runs out.

    Returns:
      The message, in which options of a recipe are flags; None: the error is a bug.
    """
    replaced = error.__context__
    if isinstance(error, RuntimeError) and not isinstance(replaced, ValueError | None):
        # Keras and TFDS raise one in place of an error of TensorFlow or of the system.
        return error_line(replaced, less_memory)
    tf = sys.modules.get("tensorflow")
    if tf is not None and isinstance(error, tf.errors.OpError):
        return _tensorflow_line(error, tf.errors, less_memory)
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}. {less_memory}"
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return _with_flags(str(error) or type(error).__name__)
    return None


# TensorFlow's codes for what the program did wrong; the others are the system's.
_BUGS = ("INVALID_ARGUMENT", "OUT_OF_RANGE", "CANCELLED")
_FULL = re.compile(r"No space left|Disk quota|Too many open files|File too large")


def _tensorflow_line(error: Any, errors: Any, less_memory: str) -> str | None:
    from deeplab_tf.data.pipeline import first_line

    # An error of a graph comes with where its nodes were made; what happened stands after that.
    trace = re.compile(r"\s|Graph execution error:|Detected at node|<stack|$")
    said = [line for line in str(error).splitlines() if not trace.match(line)]
    what = first_line(ValueError("\n".join(said) or type(error).__name__))
    line = re.sub(r" on /job:\S+.*", "", what)
    if isinstance(error, errors.ResourceExhaustedError) and not _FULL.search(line):
        return f"out of memory ({line}). {less_memory}"
    if error.error_code in [getattr(errors, name) for name in _BUGS]:
        return None
    return f"TensorFlow: {line}. --debug shows where."


def _with_flags(text: str) -> str:
    """The text with "--" before the names of options, such as train.steps, that are flags here."""

    def as_flag(match: re.Match) -> str:
        return f"--{match[0]}" if match[0] in flags.FLAGS else match[0]

    # Not in paths and quotes, and not where it is a key of a JSON file.
    return re.sub(r"""(?<!\.json: )(?<![\w./'"-])\w+(\.\w+)+(?![\w/'"])""", as_flag, text)


def no_arguments(argv: list[str]) -> None:
    """Checks that only flags were given.

    Raises:
      ValueError: something else was.
    """
    if len(argv) > 1:
        raise ValueError(
            f"unexpected argument {argv[1]!r}; flags are written --name=value, and a pattern like"
            " '*.jpg' goes in quotes."
        )


def require(**values: object) -> None:
    """Checks that flags were given; call it as `require(output=_OUTPUT.value)`.

    Raises:
      ValueError: the value of one or more is None or empty, as of an unset variable.
    """
    missing = [f"--{name}" for name, value in values.items() if not value]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be given and not empty; see --help.")


def import_tensorflow(*, logical_cpus: int = 1) -> None:
    """Imports TensorFlow without its start-up messages.

    They are written from C++ before any setting applies (TensorFlow 2.21: TF_CPP_MIN_LOG_LEVEL=3
    leaves six lines), so standard error is redirected during the import. The messages are shown
    if the import fails or if TensorFlow does not find the GPU's libraries. With
    TF_CPP_MIN_LOG_LEVEL set, nothing is redirected.

    With TF_CONFIG set, the devices are left alone: several workers must be connected before
    TensorFlow's first operation. TensorFlow is then silent altogether, since it logs a dozen lines
    about a worker that is gone before it raises the error, which becomes one line.

    Args:
      logical_cpus: devices that the CPU counts as, "CPU:0", "CPU:1" and so on.

    Raises:
      ValueError: KERAS_BACKEND names another backend.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise ValueError(f"KERAS_BACKEND must be tensorflow, or not set; got {backend!r}.")
    is_one_of_many = "TF_CONFIG" in os.environ or multiprocessing.parent_process() is not None
    if "tensorflow" not in sys.modules and not is_one_of_many:
        print("loading TensorFlow")  # which takes seconds
    # tensorflow-datasets warns about every dataset that has a config of its own, as ours do.
    logging.set_verbosity(logging.ERROR)
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        _set_up_keras()
        _divide_cpu(logical_cpus)
        return
    several_workers = bool(os.environ.get("TF_CONFIG"))
    # Later messages: from errors on, since a file that cannot be read is a warning with a traceback
    # beside our line; with several workers, only those of a crash.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3" if several_workers else "2"
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        imported = False
        try:
            import tensorflow as tf

            _set_up_keras()
            _divide_cpu(logical_cpus)
            if not several_workers:
                # Initializes the devices and oneDNN, which print the other half of the messages.
                tf.transpose(tf.zeros([1, 1], tf.uint8))
            imported = True
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            messages = caught.read().decode(errors="replace")
            if not imported or "Skipping registering GPU devices" in messages:
                print(messages, end="", file=sys.stderr)


def _set_up_keras() -> None:
    """Undoes what ~/.keras/keras.json may change."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")


def _divide_cpu(logical_cpus: int) -> None:
    import tensorflow as tf

    if logical_cpus > 1:  # only possible before the devices are initialized
        parts = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
