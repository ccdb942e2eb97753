"""What all scripts share: parsing flags, --help, errors in one line, a quiet TensorFlow."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable

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


def run(main: Callable[[list[str]], None], *, interrupted: str = "stopped") -> None:
    """Parses the flags, calls `main` and ends the program.

    A mistake of the user, which is a ValueError, an OSError or a FloatingPointError, becomes one
    line on standard error and exit code 1. Any other exception is a bug and shows its traceback.

    Args:
      main: takes the arguments that are not flags, the program's name first.
      interrupted: the message after Ctrl-C; the exit code is 130.
    """
    flags.DEFINE_flag(_Help(), module_name="general")
    try:
        arguments = flags.FLAGS(sys.argv)
    except flags.UnrecognizedFlagError as error:
        sys.exit(f"error: {_unknown(error)}\nAll flags: python {sys.argv[0]} --help")
    except flags.Error as error:
        sys.exit(f"error: {error}\nAll flags: python {sys.argv[0]} --help")
    try:
        main(arguments)
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells expect
    except (ValueError, OSError, FloatingPointError) as error:
        if _DEBUG.value:
            raise
        sys.exit(f"error: {error}")


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
    """
    # tensorflow-datasets warns about every dataset that has a config of its own, as ours do.
    logging.set_verbosity(logging.ERROR)
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        _divide_cpu(logical_cpus)
        return
    several_workers = bool(os.environ.get("TF_CONFIG"))
    # Later messages: from warnings on; with several workers, only those of a crash.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3" if several_workers else "1"
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        imported = False
        try:
            import tensorflow as tf

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


def _divide_cpu(logical_cpus: int) -> None:
    import tensorflow as tf

    if logical_cpus > 1:  # only possible before the devices are initialized
        parts = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
