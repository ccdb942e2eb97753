"""Checks that this machine's devices train as one does, and measures how fast they are.

python scripts/selfcheck.py --recipe=quickstart_shapes
python scripts/selfcheck.py --recipe=quickstart_shapes --logical_cpus=2

It takes the recipe's flags, as train.py does. It makes a few training steps on all devices, and on
the first one alone, there also with the examples of each batch in reverse order.
Then it times the step and the input pipeline.
"""

from __future__ import annotations

import dataclasses

import cli
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.parts import Recipe

_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_LOGICAL_CPUS = flags.DEFINE_integer(
    "logical_cpus",
    None,
    "check with so many parts of the CPU in place of devices",
    lower_bound=2,
    upper_bound=64,  # ours: a replica each, built one after another
)
_STEPS = flags.DEFINE_integer(
    "steps", 3, "training steps to compare", lower_bound=1, upper_bound=1000
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "timed rounds, about a second each", lower_bound=1, upper_bound=2**20
)
recipe_flags.define_recipe()
cli.define_parts(zoo.PARTS)


def main(argv: list[str]) -> None:
    """Compares, prints and times; fails if the devices do not train as one does."""
    cli.no_arguments(argv)
    recipe = recipe_flags.recipe_from_flags(zoo.RECIPES, zoo.PARTS)
    devices = recipe.train.devices
    if _LOGICAL_CPUS.value:
        devices = tuple(f"CPU:{i}" for i in range(_LOGICAL_CPUS.value))
    cli.import_tensorflow(logical_cpus=_LOGICAL_CPUS.value or 1)
    from deeplab_tf.training.devices.strategy import check_batch_size, make_strategy

    together = make_strategy("mirrored", devices)
    check_batch_size(recipe.train.batch_size, together, recipe.train.accumulation_steps)
    names = [name.rpartition("device:")[2] for name in together.extended.worker_devices]
    alone = make_strategy("one_device", (names[0],))
    dataset = recipe.dataset.open(_DATA_DIR.value)
    print(
        f"{flags.FLAGS.recipe}: batch {recipe.train.batch_size}, {recipe.train.precision}, on"
        f" {len(names)} replica(s): {', '.join(names)}\n",
        flush=True,
    )
    if len(names) > 1:
        _compare(recipe, dataset, together, alone)
    _time(recipe, dataset, together, alone)


def _compare(recipe: Recipe, dataset: OpenDataset, together, alone) -> None:
    from deeplab_tf.training.devices.selfcheck import differences, reordered, train_steps

    replicas, steps = together.num_replicas_in_sync, _STEPS.value
    print(f"training {steps} steps on one device, in reverse order, and on all", flush=True)
    one = train_steps(recipe, dataset, alone, steps)
    other_order = reordered(recipe, dataset, alone, steps)
    found = differences(train_steps(recipe, dataset, together, steps), one)
    print(
        f"{replicas} replicas against one, and in brackets one with the examples of each batch in"
        " reverse order.\nLoss: relative. Weights, moving statistics: relative to how far they have"
        " moved.\n"
    )
    heads = ("loss", "weights", "moving statistics")
    print(f"{'step':>4}" + "".join(f"{head:>24}" for head in heads))
    for step, (mine, other) in enumerate(zip(found, other_order, strict=True), start=1):
        pairs = (
            (mine.loss, other.loss),
            (mine.weights, other.weights),
            (mine.statistics, other.statistics),
        )
        cells = (f"{a:.1e} ({b:.1e})" for a, b in pairs)
        print(f"{step:>4}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
    rounding = all(
        mine.is_rounding(other, recipe.train.precision)
        for mine, other in zip(found, other_order, strict=True)
    )
    if not rounding:
        raise ValueError(
            f"{replicas} replicas must train as one does, but for rounding; the differences above"
            " are larger. If no option asks for it (batch_norm=per_replica,"
            " train.loss_normalization=replica, loss.top_k_percent_pixels), do not trust these"
            " devices together: update the driver, or train with --train.strategy=one_device."
        )
    print(f"\nThe differences are rounding: {replicas} replicas train as one does.\n")


def _time(recipe: Recipe, dataset: OpenDataset, together, alone) -> None:
    from deeplab_tf.training.devices.selfcheck import pipeline_speed, step_speed

    replicas, rounds = together.num_replicas_in_sync, _ROUNDS.value
    print("measuring the speed of the step and of the input pipeline", flush=True)
    speed = step_speed(recipe, dataset, together, rounds)
    lines = {f"step on {replicas} replica(s)": f"{speed:.4g} images/s"}
    if replicas > 1:
        share = recipe.train.batch_size // replicas
        train = recipe.train.replace(batch_size=share)
        single = step_speed(dataclasses.replace(recipe, train=train), dataset, alone, rounds)
        lines["of each replica"] = f"{speed / replicas:.4g} images/s"
        lines[f"step on one, batch {share}"] = f"{single:.4g} images/s"
        lines["scaling efficiency"] = f"{speed / replicas / single:.0%}"
    ready = pipeline_speed(recipe, dataset, together, rounds)
    lines["input pipeline alone"] = f"{ready:.4g} images/s, {ready / speed:.2g} times the step's"
    for head, cell in lines.items():
        print(f"{head:<28}{cell}")
    if ready < speed:
        print("The input pipeline is slower than the step: training waits for data.")


if __name__ == "__main__":
    cli.run(main, less_memory="Lower --train.batch_size, or the size of the crops.")
