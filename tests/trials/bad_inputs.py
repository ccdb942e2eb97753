"""What a row of bad inputs is, what may be damaged, and what must hold of the command."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable

MOST_BYTES = 2**30  # ours: what a command that fails may hold; TensorFlow's imports take a quarter

Damage = Callable[[pathlib.Path], object]


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
      category: what is bad, such as arguments or checkpoints.
      script: name, without .py.
      flags: of the command, separated by spaces. `{run}` in them is a trained workdir, `{data}` the
        prepared dataset, `{new}` a path where nothing is.
      says: the error contains it, or a fault that is listed above it. A flag that is wrong is named
        in full.
      damage: is called with the workdir `{run}` first.
      environment: variables of the command.
    """

    category: str
    script: str
    flags: str
    says: str
    damage: Damage | None = None
    environment: tuple[tuple[str, str], ...] = ()


def changed(name: str, change: Callable[[dict], object]) -> Damage:
    """A damage: the JSON file's object after `change`."""

    def damage(run: pathlib.Path) -> None:
        tree = json.loads((run / name).read_text())
        change(tree)
        (run / name).write_text(json.dumps(tree, indent=2) + "\n")

    return damage


def content(name: str, data: bytes | str) -> Damage:
    """A damage: the file has this content."""
    data = data if isinstance(data, bytes) else data.encode()

    def damage(run: pathlib.Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(data)

    return damage


def without(*names: str) -> Damage:
    """A damage: files or directories are gone."""

    def damage(run: pathlib.Path) -> None:
        for name in names:
            if (run / name).is_dir():
                shutil.rmtree(run / name)
            else:
                (run / name).unlink()

    return damage


def replaced(name: str, make: Damage) -> Damage:
    """A damage: something else is in the place of a file."""

    def damage(run: pathlib.Path) -> None:
        without(name)(run)
        make(run / name)

    return damage


def bytes_changed(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """A damage: the file's bytes after `change`."""
    return lambda run: (run / name).write_bytes(change((run / name).read_bytes()))


def also(*damages: Damage) -> Damage:
    """Damages, one after the other."""
    return lambda run: [damage(run) for damage in damages]


def contents(place: pathlib.Path) -> dict[str, bytes | None]:
    """All that is in a directory: path -> content; None for what is no file."""
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
    }


def filled(flags: str, run: pathlib.Path, data: pathlib.Path, recipe: list[str]) -> list[str]:
    """The flags of a row, with its places."""
    places = {"run": run, "data": data, "new": run.parent / "new", "recipe": " ".join(recipe)}
    return flags.format(**places).split()


def error_of(stderr: str) -> str:
    """The error in a script's output: from its only line "error: ..." on."""
    assert "Traceback" not in stderr, stderr
    lines = stderr.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    assert len(starts) == 1, stderr
    return "\n".join(lines[starts[0] :])


def check(case: Case, scripts, run: pathlib.Path, data: pathlib.Path, recipe: list[str]) -> None:
    """The script fails in its time with one error that says it, and changes nothing.

    Args:
      case: the row.
      scripts: runs scripts.
      run: a copy of the workdir.
      data: where the dataset is prepared.
      recipe: flags of train.py.
    """
    if case.damage is not None:
        case.damage(run)
    before = contents(run.parent)
    flags = filled(case.flags, run, data, recipe)
    done = scripts.run(case.script, *flags, **dict(case.environment))
    assert done.code is not None, f"it hangs: {done.stderr[-2000:]}"
    assert done.code == 1, done.stdout[-2000:] + done.stderr[-2000:]
    message = error_of(done.stderr)
    faults = [line for line in done.stdout.splitlines() if line.startswith(("fault: ", "hint: "))]
    assert any(case.says in said for said in (message, *faults)), message
    assert len(message.splitlines()) <= 30
    assert done.peak_bytes < MOST_BYTES
    after = contents(run.parent)
    changes = {path for path in before | after if before.get(path, 0) != after.get(path, 0)}
    # A workdir's lock stays, and holds nothing.
    assert not changes - {"run/lock", "new", "new/lock"}
