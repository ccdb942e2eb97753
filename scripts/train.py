"""Trains a recipe; the same command resumes an interrupted run.

python scripts/train.py --recipe=quickstart_shapes --workdir=runs/shapes
"""

from __future__ import annotations

import cli
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe import flags as recipe_flags

_WORKDIR = flags.DEFINE_string("workdir", None, "where checkpoints, metrics and pictures go")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_INIT_WEIGHTS = flags.DEFINE_string(
    "init_weights",
    None,
    "start from the weights of this workdir, of a run or of convert_weights.py; what does not fit"
    " (other classes, other head) is randomly initialized",
)
_CHECK_DATA = flags.DEFINE_bool("check_data", True, "read every example before step 0")
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "equal runs give equal bits on GPUs too, where that is slower"
)
_RESUME_FROM = flags.DEFINE_integer(
    "resume_from",
    None,
    "go back to the checkpoint of this step, or with 0 to the start, and continue with the given"
    " --augment, --loss, --optimizer and --schedule; later checkpoints are removed",
    lower_bound=0,
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the resolved recipe as JSON and stop")
recipe_flags.define_recipe()
cli.define_parts(zoo.PARTS)


def main(argv: list[str]) -> None:
    """Resolves the recipe and trains it."""
    cli.no_arguments(argv)
    recipe = recipe_flags.recipe_from_flags(zoo.RECIPES, zoo.PARTS)
    if _DRY_RUN.value:
        print(as_json.to_json(recipe), end="")
        return
    cli.require(workdir=_WORKDIR.value)
    if _INIT_WEIGHTS.value is not None:
        cli.require(init_weights=_INIT_WEIGHTS.value)
    cli.import_tensorflow()
    from deeplab_tf.training.devices.strategy import is_chief, make_strategy
    from deeplab_tf.training.loop import train

    # First: several workers must be connected before TensorFlow runs an operation.
    strategy = make_strategy(recipe.train.strategy, recipe.train.devices)
    if _DETERMINISTIC.value:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()

    init_model = None
    if _INIT_WEIGHTS.value is not None:
        print(f"reading the weights of {_INIT_WEIGHTS.value}")
        init_model = zoo.load_model(_INIT_WEIGHTS.value, auxiliary=True)
    train(
        recipe,
        workdir=_WORKDIR.value,
        data_dir=_DATA_DIR.value,
        init_model=init_model,
        strategy=strategy,
        check_data=_CHECK_DATA.value,
        resume_from=_RESUME_FROM.value,
    )
    if is_chief(strategy):
        print(f"done; results are in {_WORKDIR.value}")


if __name__ == "__main__":
    cli.run(main, interrupted="stopped; the same command resumes from the last checkpoint")
