"""What describes a workdir: recipe.json, what is trained, and dataset.json, its classes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

from deeplab_tf.recipe.as_json import differences, from_tree, to_json, upgraded
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import check_local, write_text
from deeplab_tf.recipe.flags import Parts
from deeplab_tf.recipe.json_files import checked, read_json
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.training.report.run_log import has_rows
from deeplab_tf.training.workdir.checkpoints import has_best, has_checkpoints, has_weights

T = TypeVar("T")

# What `resume_from` may change: it affects the steps to come, and fits the state of before.
_OF_STEPS_TO_COME = (
    "augment", "loss", "optimizer.", "schedule", "train.accumulation_steps", "train.batch_size",
    "train.epochs", "train.loss_normalization", "train.scale_lr", "train.seed", "train.steps",
)  # fmt: skip


def check_recipe(workdir: str, recipe: Recipe, *, resume_from: int | None = None) -> None:
    """Checks that a workdir with anything of a run in it holds a run of this recipe.

    Args:
      workdir: of the run.
      recipe: to train.
      resume_from: the step from which the recipe applies, if the run goes back; augmentation,
        loss, schedule and the options of the optimizer may differ then.

    Raises:
      ValueError: it holds a run with other settings, files of a run without its recipe.json or
        dataset.json, or one of these is damaged.
    """
    found = _left_by_run(workdir)
    if not found:
        return
    for name, content in (("recipe.json", "recipe"), ("dataset.json", "classes")):
        if not os.path.exists(os.path.join(workdir, name)):
            raise ValueError(
                f"{workdir} holds {', '.join(found)} of a run, but no {name} with its {content};"
                " put that file back, or use another workdir."
            )
    differing = differences(_read(workdir, "recipe.json", upgraded), recipe)
    if resume_from is not None:
        differing = [line for line in differing if not line.startswith(_OF_STEPS_TO_COME)]
    if differing:
        way_back = (
            " train.py --resume_from=STEP continues from an earlier checkpoint with other settings"
            " of augment, loss, optimizer and schedule."
        )
        raise ValueError(
            f"{workdir} holds a run of another recipe:\n  "
            + "\n  ".join(differing)
            + "\nuse another workdir, or the settings that the run was started with."
            + (way_back if resume_from is None and has_weights(workdir) else "")
        )


def _left_by_run(workdir: str) -> list[str]:
    """What a workdir has that only a training writes, in words."""
    pictures = os.path.join(workdir, "pictures")
    rows = {
        "checkpoints": has_checkpoints(workdir),
        "best weights": has_best(workdir),
        "metrics.csv": has_rows(workdir),
        "pictures": os.path.isdir(pictures) and bool(os.listdir(pictures)),
    }
    return [what for what, is_there in rows.items() if is_there]


def keep_recipe_until(workdir: str, step: int) -> None:
    """Keeps recipe.json as recipe-until-<step>.json, for a run that continues with another one.

    The recipe that trained the steps up to there stays, if the run goes back to a step again. A
    workdir without a run has none to keep.

    Raises:
      OSError: the workdir cannot be written.
    """
    current, path = os.path.join(workdir, "recipe.json"), _recipe_until(workdir, step)
    if os.path.exists(current) and not os.path.exists(path):
        with open(current, encoding="utf-8") as file:
            write_text(path, file.read())


def has_gone_back(workdir: str, step: int, recipe: Recipe) -> bool:
    """Whether the run has continued from `step` with this recipe before."""
    if not os.path.exists(_recipe_until(workdir, step)):
        return False
    return not differences(_read(workdir, "recipe.json", upgraded), recipe)


def _recipe_until(workdir: str, step: int) -> str:
    return os.path.join(workdir, f"recipe-until-{step}.json")


def save_recipe(workdir: str, recipe: Recipe) -> None:
    """Writes recipe.json. Call `check_recipe` first.

    Raises:
      OSError: the workdir cannot be written.
    """
    try:
        write_text(os.path.join(workdir, "recipe.json"), to_json(recipe))
    except OSError as error:
        raise OSError(
            f"the workdir {workdir} cannot be written: {error}; choose one that can."
        ) from error


def load_recipe(workdir: str, parts: Parts) -> Recipe:
    """Reads recipe.json.

    Args:
      workdir: of a run.
      parts: the kinds of every part, as `zoo.PARTS`.

    Raises:
      FileNotFoundError: the workdir is not one of a run.
      ValueError: the file is not a recipe; the message names the file and the key.
    """
    return _read(workdir, "recipe.json", lambda tree: from_tree(tree, parts))


def save_spec(workdir: str, spec: DatasetSpec) -> None:
    """Writes dataset.json; once there are checkpoints, only if its classes are the same.

    Raises:
      ValueError: the workdir was trained on other classes.
      OSError: the workdir cannot be written.
    """
    if os.path.exists(os.path.join(workdir, "dataset.json")) and has_weights(workdir):
        old = load_spec(workdir)
        if (old.class_names, old.ignore_label) != (spec.class_names, spec.ignore_label):
            raise ValueError(
                f"{workdir} was trained on the classes {', '.join(old.class_names)} with"
                f" ignore_label {old.ignore_label}; the dataset now has"
                f" {', '.join(spec.class_names)} with {spec.ignore_label}. Use another workdir, or"
                " change the dataset back."
            )
    write_text(os.path.join(workdir, "dataset.json"), spec.to_json())


def load_spec(workdir: str) -> DatasetSpec:
    """Reads dataset.json.

    Raises:
      FileNotFoundError: the workdir is not one of a run.
      ValueError: the file is not a dataset's spec; the message names the file and the key.
    """
    return _read(workdir, "dataset.json", DatasetSpec.from_tree)


def save_source(workdir: str, file: str, network: str) -> None:
    """Writes source.json, of weights that were not trained in this workdir.

    Args:
      workdir: of the converted weights.
      file: name of the file that they are from.
      network: what was recognized in it.

    Raises:
      OSError: the workdir cannot be written.
    """
    text = json.dumps({"file": file, "network": network}, indent=2) + "\n"
    write_text(os.path.join(workdir, "source.json"), text)


def load_source(workdir: str) -> dict[str, str] | None:
    """What `save_source` wrote, {"file", "network"}; None: the weights were trained in the workdir.

    Raises:
      ValueError: source.json is damaged; the message names the file and the key.
    """
    if not os.path.exists(os.path.join(workdir, "source.json")):
        return None
    types = {"file": str, "network": str}
    return _read(workdir, "source.json", lambda tree: checked(tree, types))


def _read(workdir: str, name: str, convert: Callable[[dict[str, Any]], T]) -> T:
    check_local(workdir)
    path = os.path.join(workdir, name)
    if os.path.isfile(workdir):
        raise FileNotFoundError(
            f"{workdir} is a file, not a workdir; scripts/convert_weights.py makes a workdir of a"
            " file of weights."
        )
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"no {name} in {workdir}; it must be the --workdir of a training run or of"
            " convert_weights.py."
        )
    return read_json(path, convert)
