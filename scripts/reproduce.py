"""Runs what the papers' tables and figures report, and prints our figures beside theirs.

--list shows all rows: what each needs, what is there, the paper's figures and ours. --table runs
those rows of a table whose data and weights are there, after a plan with the time it takes:
training, evaluation and measurement. The same command resumes. Results are in --runs: workdirs by
recipe, and a folder per table with table.txt, table.csv and table.md.

python scripts/reproduce.py --list
python scripts/reproduce.py --table=deeplab3
python scripts/reproduce.py --table=deeplab3 --row=train16_eval8_decoder --data_dir=data
python scripts/reproduce.py --table=fastfcn2 --rounds=100
python scripts/reproduce.py --table=shapes -- --train.batch_size=4

Flags after -- go to train.py.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import cli
import reproduce_report as report
from absl import flags
from reproduce_cost import multiply_adds_of
from reproduce_plan import Places, Step, inference_of, lacks, steps
from reproduce_speed import compiled, speeds_of

from deeplab_tf import zoo
from deeplab_tf.recipe.files import check_writable, write_text
from deeplab_tf.recipe.options import lookup
from deeplab_tf.recipe.parts import ModelConfig
from deeplab_tf.tables import Row, Table

_LIST = flags.DEFINE_bool("list", False, "print all rows, or those of --table, and run nothing")
_TABLE = flags.DEFINE_enum("table", None, list(zoo.TABLES), "the table or figure to run")
_ROW = flags.DEFINE_list("row", None, "rows to train, score or time, by name; default: all")
_RUNS = flags.DEFINE_string("runs", "runs/reproduce", "where workdirs and results are")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir",
    "weights",
    "where released weights are: DIR/NAME with NAME as --list shows it, a file or the unpacked"
    " archive",
)
_PLAN_ONLY = flags.DEFINE_bool("plan_only", False, "print the plan and stop")
_ROUNDS = flags.DEFINE_integer(
    "rounds",
    5,
    "timed calls of each network in a table of speeds; the released code's 100",
    lower_bound=1,
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 1, "images per timed call", lower_bound=1, upper_bound=2**20
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "mixed_bfloat16", "mixed_float16"],
    "Keras' dtype policy for the timed calls",
)


# What the commands are given anyway.
_SET_HERE = ("--recipe", "--workdir", "--data_dir", "--init_weights", "--dry_run")


def main(argv: list[str]) -> None:
    """Lists the rows, or runs a table."""
    train_flags = argv[1:]
    cli.no_arguments([argv[0], *(flag for flag in train_flags if not flag.startswith("--"))])
    set_here = [flag for flag in train_flags if flag.partition("=")[0] in _SET_HERE]
    if set_here:
        raise ValueError(f"flags after -- must be other ones of train.py; got {set_here[0]}.")
    if _TABLE.value is None and not _LIST.value:
        raise ValueError("give --list, or one of the tables with --table; see --help.")
    if _ROW.present and (_TABLE.value is None or _LIST.value):
        raise ValueError("--row chooses what --table runs; give both, without --list.")
    cli.require(runs=_RUNS.value, weights_dir=_WEIGHTS_DIR.value)
    places = Places(_RUNS.value, _DATA_DIR.value, _WEIGHTS_DIR.value)
    if _LIST.value:
        _print_list([_TABLE.value] if _TABLE.value else list(zoo.TABLES), places)
        return
    key, table = _TABLE.value, zoo.TABLES[_TABLE.value]
    rows = _chosen(table)
    # Now: what follows takes long.
    _scores(key, places)
    if not _PLAN_ONLY.value:
        try:
            check_writable(os.path.join(places.runs, key, "table.txt"))
        except OSError as error:
            raise OSError(f"{error} Name another directory with --runs.") from error
    if table.cost != "speed" or os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        cli.import_tensorflow()
    todo, reasons = steps(key, rows, places, train_flags)
    _print_plan(table, rows, todo, reasons)
    if _PLAN_ONLY.value:
        return
    ours = _costs(key, table, rows, places)
    _write(key, ours, places)
    for i, step in enumerate(todo, start=1):
        print(f"\nstep {i} of {len(todo)}: {step}", flush=True)
        _run(step)
        _write(key, ours, places)
    text = _write(key, ours, places)
    print(f"\n{text}" if table.measures else "")
    print(f"written to {os.path.join(places.runs, key)}")


def _chosen(table: Table) -> list[Row]:
    """The rows that --row names."""
    by_name = {row.name: row for row in table.rows}
    if _ROW.value is None:
        return list(table.rows)
    cli.require(row=_ROW.value)
    return [lookup(by_name, name, "row") for name in dict.fromkeys(_ROW.value)]


def _print_list(keys: Sequence[str], places: Places) -> None:
    cli.import_tensorflow()
    for key in keys:
        table = zoo.TABLES[key]
        heading, *rows = report.cells_of(table, table.rows, _scores(key, places))
        cells = [[*heading, "recipe"]]
        cells += [[*line, row.recipe or "-"] for row, line in zip(table.rows, rows, strict=True)]
        lacking = {row.name: lacks(table, row, places) for row in table.rows}
        reasons = {name: each for name, each in lacking.items() if each}
        lines = _lacking_lines(reasons, table.rows)
        print(report.as_text(f"--table={key}: {table.title}", cells, lines))


def _scores(key: str, places: Places) -> dict[str, dict[str, float]]:
    """Row -> measure -> our figure, of the rows that are scored."""
    rows = zoo.TABLES[key].rows
    return {row.name: report.figures_of(places.scores(key, row)) for row in rows}


def _print_plan(
    table: Table, rows: Sequence[Row], todo: Sequence[Step], reasons: dict[str, list[str]]
) -> None:
    print(f"{table.title}\n")
    if table.cost != "none":
        print(f"measured here: {table.cost.replace('_', '-')} of each network")
    seconds: dict[Any, float] = {}
    for step in todo:
        estimate = "seconds"
        if step.work is not None:
            *network, images = step.work()
            key = tuple(network)
            if images:
                if key not in seconds:
                    seconds[key] = _seconds_per_image(*network)
                estimate = f"about {_duration(seconds[key] * images)}"
        print(f"{estimate:>16}  {step}", flush=True)
    if seconds:
        print("Times are rough: of one image at a time on this machine; training counts as three.")
    print("\n".join(_lacking_lines(reasons, rows)))


def _lacking_lines(reasons: dict[str, list[str]], rows: Sequence[Row]) -> list[str]:
    """What rows lack, a line for those that lack the same."""
    grouped: dict[str, list[str]] = {}
    for name, lacking in reasons.items():
        grouped.setdefault("; ".join(lacking), []).append(name)
    return [
        f"not run: {'all rows' if len(names) == len(rows) else ', '.join(names)}: {reason}."
        for reason, names in grouped.items()
    ]


def _seconds_per_image(model: ModelConfig, num_classes: int, size: tuple[int, int]) -> float:
    """How long a network takes for an image, measured by two calls."""
    import tensorflow as tf

    call = compiled(model.build(num_classes), tf.zeros([1, *size, 3]))
    call()
    start = time.perf_counter()
    call()
    call()
    return (time.perf_counter() - start) / 2


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} seconds"


def _costs(
    key: str, table: Table, rows: Sequence[Row], places: Places
) -> dict[str, dict[str, float]]:
    """Row -> measure -> figure, of the networks alone."""
    if table.cost == "multiply_adds":
        return multiply_adds_of(
            {row.name: inference_of(row) for row in table.rows},
            image_size=table.cost_size,
            num_classes=table.cost_classes,
        )
    return _speeds(key, table, rows, places) if table.cost == "speed" else {}


def _speeds(
    key: str, table: Table, rows: Sequence[Row], places: Places
) -> dict[str, dict[str, float]]:
    """Images per second, group by group; what is stored is not measured again."""
    import keras

    keras.config.set_dtype_policy(_PRECISION.value)
    path = os.path.join(places.runs, key, "speed.json")
    settings = {
        "backend": keras.backend.backend(),
        "precision": _PRECISION.value,
        "batch_size": _BATCH_SIZE.value,
        "rounds": _ROUNDS.value,
    }
    kept = report.stored(path)
    measured = kept.get("rows", {}) if kept.get("settings") == settings else {}
    for _, group in itertools.groupby(table.rows, key=lambda row: row.cells[:2]):
        group = list(group)  # of a backbone and head; the ratios are to its first row
        if all(row.name in measured for row in group) or not any(row in rows for row in group):
            continue
        print(f"measuring {', '.join(row.name for row in group)}", flush=True)
        speeds = speeds_of(
            [row.model for row in group],
            image_size=table.cost_size,
            num_classes=table.cost_classes,
            batch_size=_BATCH_SIZE.value,
            rounds=_ROUNDS.value,
        )
        measured |= {row.name: speed for row, speed in zip(group, speeds, strict=True)}
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_text(path, json.dumps({"settings": settings, "rows": measured}, indent=2) + "\n")
    return measured


def _write(key: str, costs: dict[str, dict[str, float]], places: Places) -> str:
    """Writes the table as it is now, all of its rows; returns it as text."""
    table, scores = zoo.TABLES[key], _scores(key, places)
    ours = {row.name: {**costs.get(row.name, {}), **scores[row.name]} for row in table.rows}
    cells = report.cells_of(table, table.rows, ours)
    notes = report.notes_of(table, table.rows, ours)
    text = report.as_text(table.title, cells, notes)
    folder = os.path.join(places.runs, key)
    os.makedirs(folder, exist_ok=True)
    for ending, content in (
        ("txt", text),
        ("csv", report.as_csv(cells)),
        ("md", report.as_markdown(table.title, cells, notes)),
    ):
        write_text(os.path.join(folder, f"table.{ending}"), content)
    return text


# As it was at the start: what importing TensorFlow changes is not for the commands.
_ENVIRONMENT = dict(os.environ)


def _run(step: Step) -> None:
    """Runs a command to its end.

    Raises:
      ValueError: it failed; it has printed why.
    """
    # Outside the terminal's process group: Ctrl-C reaches the command once, through this process.
    # A training saves its state at the first signal, and a second one ends it at once.
    with subprocess.Popen(step.command, env=_ENVIRONMENT, process_group=0) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait()
            except BaseException:
                process.terminate()
                raise
            raise
    if code != 0:
        raise ValueError(f"the command failed with exit code {code}: {step}")


if __name__ == "__main__":
    cli.run(main, interrupted="stopped; the same command resumes")
