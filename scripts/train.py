"""Trains a recipe; the same command goes on where an interrupted run was.

python scripts/train.py --recipe=quickstart_shapes --workdir=runs/shapes
"""

from __future__ import annotations

import cli
import zoo
from absl import flags

from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe import as_json as recipe_json

_WORKDIR = flags.DEFINE_string("workdir", None, "where checkpoints, metrics and pictures go")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_INIT_WEIGHTS = flags.DEFINE_string(
    "init_weights",
    None,
    "start from the weights of this workdir, of a run or of convert_weights.py; what does not fit"
    " (other classes, other head) starts anew",
)
_CHECK_DATA = flags.DEFINE_bool("check_data", True, "read every example before step 0")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the resolved recipe as JSON and stop")
recipe_flags.define(*zoo.MODEL_CONFIGS.values())


def main(argv: list[str]) -> None:
    """Resolves the recipe and trains it."""
    cli.no_arguments(argv)
    recipe = recipe_flags.recipe_from_flags(zoo.RECIPES)
    if _DRY_RUN.value:
        print(recipe_json.to_json(recipe), end="")
        return
    if _WORKDIR.value is None:
        raise ValueError("--workdir is missing: say where checkpoints and metrics shall go.")
    cli.import_tensorflow()
    from deeplab_tf.training import checkpoints
    from deeplab_tf.training import loop as training

    init_model = None
    if _INIT_WEIGHTS.value is not None:
        init_model = checkpoints.load_model(_INIT_WEIGHTS.value, zoo.MODEL_CONFIGS, auxiliary=True)
    training.train(
        recipe,
        workdir=_WORKDIR.value,
        data_dir=_DATA_DIR.value,
        init_model=init_model,
        check_data=_CHECK_DATA.value,
    )
    print(f"done; results are in {_WORKDIR.value}")


if __name__ == "__main__":
    cli.run(main, interrupted="stopped; the same command goes on from the last checkpoint")
