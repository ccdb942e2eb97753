"""What the rows of a table need, whether it is there, and the commands that fill them."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reproduce_cost import Inference
from reproduce_report import stored

from deeplab_tf import zoo
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.parts import Dataset, ModelConfig, Recipe
from deeplab_tf.released import RELEASED
from deeplab_tf.tables import Row, Table
from jpu_tf.recipes import IMAGENET_FILES

_SCRIPTS = os.path.dirname(os.path.abspath(__file__))
_TRAINING = 3.0  # ours: passes that a training step costs, forward and twice that backward


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
      runs: workdirs by recipe, and results by table.
      data_dir: prepared datasets; None: TFDS' default place.
      weights_dir: released weights, each under its name.
    """

    runs: str
    data_dir: str | None
    weights_dir: str

    def workdir(self, name: str) -> str:
        """Of a recipe or a released checkpoint."""
        return os.path.join(self.runs, name)

    def scores(self, table: str, row: Row) -> str:
        """The file with the scores of a row."""
        return os.path.join(self.runs, table, f"{row.name}.json")

    def weights(self, name: str) -> str:
        """Released weights, a file or a directory."""
        return os.path.join(self.weights_dir, name)


class Work(NamedTuple):
    """How long a command takes."""

    model: ModelConfig
    num_classes: int  # outputs of the network
    size: tuple[int, int]  # of the images that the network sees, pixels
    images: float  # number of them at scale 1; a training pass counts as three


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A command.

    Attributes:
      arguments: script and flags.
      work: what it does; opens the dataset, which draws one that is drawn. None: it takes seconds.
    """

    arguments: tuple[str, ...]
    work: Callable[[], Work] | None = dataclasses.field(default=None, compare=False)

    @property
    def command(self) -> list[str]:
        """What to run, from any directory."""
        script, *arguments = self.arguments
        return [sys.executable, os.path.join(_SCRIPTS, script), *arguments]

    def __str__(self) -> str:
        return shlex.join(["python", f"scripts/{self.arguments[0]}", *self.arguments[1:]])


def inference_of(row: Row) -> Inference:
    """How the network of a row is run when it is scored."""
    if row.recipe is None:
        return Inference(row.model)
    recipe = zoo.RECIPES[row.recipe]
    predict = recipe.predict.replace(**row.predict)
    model = recipe.model
    if predict.output_stride is not None:
        model = model.at_output_stride(predict.output_stride)
    return Inference(model, getattr(predict, "scales", (1.0,)), getattr(predict, "flip", False))


def lacks(table: Table, row: Row, places: Places) -> list[str]:
    """What a row's result needs and is not there, a line each; empty if it can be run."""
    if row.missing:
        return [row.missing]
    if row.recipe is None or table.result == "none":
        return []
    recipe = zoo.RECIPES[row.recipe]
    if table.result == "pictures":
        return [
            f"pictures: python scripts/predict.py --workdir={places.workdir(row.recipe)}"
            " --images=FOLDER --output=FOLDER"
        ]
    split = "test" if table.result == "server_files" else recipe.eval.split
    found = _data_lacks(recipe.dataset, split, places)
    if not _is_released(row, places) and (lacking := _training_lacks(row.recipe, places)):
        found += lacking
        if row.released is not None:
            found.append(f"or {places.weights(row.released)}, the released network")
    return list(dict.fromkeys(found))


def _training_lacks(name: str, places: Places) -> list[str]:
    recipe = zoo.RECIPES[name]
    found = _data_lacks(recipe.dataset, recipe.train.split, places)
    if os.path.isfile(os.path.join(places.workdir(name), "recipe.json")):
        return found  # it has started, with its weights
    start = zoo.STARTS.get(name) or imagenet_weights(recipe)
    if start in zoo.RECIPES:
        return [*found, *_training_lacks(start, places)]
    if start is not None and not os.path.exists(places.weights(start)):
        found.append(f"no {places.weights(start)}")
    return found


def _data_lacks(dataset: Dataset, split: str, places: Places) -> list[str]:
    if dataset.kind not in ("release", "tfds_classes"):
        return []  # drawn when it is opened
    opened = _opened(dataset, places.data_dir)
    if opened is None:
        return [f"{dataset.name} is not prepared"]
    return [] if split in opened.sources else [f"split {split!r} of {dataset.name} is not prepared"]


@functools.cache
def _opened(dataset: Dataset, data_dir: str | None) -> OpenDataset | None:
    """The dataset, or nothing if it is not prepared, which is no error here."""
    try:
        return dataset.open(data_dir)
    except FileNotFoundError:
        return None


def imagenet_weights(recipe: Recipe) -> str | None:
    """The name of the ImageNet weights that a recipe starts from; None: it starts from random ones.

    For a backbone of DeepLab's model zoo it is a name in `RELEASED`, for one of FastFCN a file.
    """
    if recipe.model.kind == "classifier" or recipe.dataset.kind != "release":
        return None
    backbone = recipe.model.backbone
    if backbone in IMAGENET_FILES:
        return IMAGENET_FILES[backbone]
    (name,) = (
        name
        for name, released in RELEASED.items()
        if name.endswith("_imagenet") and released.model.backbone == backbone
    )
    return name


def steps(
    key: str, rows: Sequence[Row], places: Places, train_flags: Sequence[str]
) -> tuple[list[Step], dict[str, list[str]]]:
    """The commands that fill the rows of a table, in order, and what keeps the other rows empty.

    Args:
      key: of the table in `zoo.TABLES`.
      rows: those to fill.
      places: where things are.
      train_flags: more flags of train.py.

    Returns:
      The commands, each once; row -> what it lacks.
    """
    table, found, reasons, workdirs = zoo.TABLES[key], [], {}, {}
    for row in rows:
        if table.result == "none" or os.path.exists(places.scores(key, row)):
            continue
        lacking = lacks(table, row, places)
        if lacking:
            reasons[row.name] = lacking
            continue
        workdir = places.workdir(row.released if _is_released(row, places) else row.recipe)
        found += _model_steps(row, places, train_flags)
        if table.result == "trimap":
            workdirs[" ".join(row.cells)] = workdir
        else:
            found.append(_result_step(key, table, row, workdir, places))
    if table.result == "trimap":
        curves = stored(os.path.join(places.runs, key, "trimap.json")).get("models", {})
        if set(workdirs) <= set(curves):
            return [], reasons
        found.append(_trimap_step(key, workdirs, places))
    return list(dict.fromkeys(found)), reasons


def _is_released(row: Row, places: Places) -> bool:
    """Whether a released checkpoint gives the row, and the recipe was not trained."""
    started = os.path.isfile(os.path.join(places.workdir(row.recipe), "recipe.json"))
    if row.released is None or started:
        return False
    return os.path.exists(places.weights(row.released))


def _model_steps(row: Row, places: Places, train_flags: Sequence[str]) -> Iterator[Step]:
    if not _is_released(row, places):
        yield from _training_steps(row.recipe, places, train_flags)
        return
    yield from _conversion_steps(row.released, places)


def _conversion_steps(released: str, places: Places) -> Iterator[Step]:
    output = places.workdir(released)
    if not os.path.isdir(output):
        yield Step(
            arguments=(
                "convert_weights.py",
                f"--released={released}",
                f"--input={places.weights(released)}",
                f"--output={output}",
            )
        )


def _start(
    name: str, places: Places, train_flags: Sequence[str]
) -> tuple[str | None, Iterable[Step]]:
    """The workdir whose weights a training starts from, and the commands that make it."""
    source = zoo.STARTS.get(name) or imagenet_weights(zoo.RECIPES[name])
    if source is None:
        return None, []
    if source in zoo.RECIPES:
        return places.workdir(source), _training_steps(source, places, train_flags)
    if name in zoo.STARTS:
        return places.workdir(source), _conversion_steps(source, places)
    classes = _opened(zoo.RECIPES[name].dataset, places.data_dir).spec.num_classes
    converted = places.workdir(f"{os.path.splitext(source)[0]}_{classes}_classes")
    if os.path.isdir(converted):
        return converted, []
    command = (
        "convert_weights.py",
        f"--input={places.weights(source)}",
        f"--num_classes={classes}",
        f"--output={converted}",
    )
    return converted, [Step(arguments=command)]


def _training_steps(name: str, places: Places, train_flags: Sequence[str]) -> Iterator[Step]:
    from deeplab_tf.training.workdir.checkpoints import saved_step

    recipe, workdir = zoo.RECIPES[name], places.workdir(name)
    start, first = _start(name, places, train_flags)
    if not os.path.isfile(os.path.join(workdir, "recipe.json")):
        yield from first
    if start is not None and not os.path.isdir(start) and saved_step(workdir):
        start = None  # a workdir from elsewhere: it resumes from its own checkpoint

    def work() -> Work:
        dataset = _opened(recipe.dataset, places.data_dir)
        steps = recipe.train.total_steps(len(dataset.sources[recipe.train.split]))
        images = _TRAINING * max(0, steps - saved_step(workdir)) * recipe.train.batch_size
        return Work(recipe.model, dataset.spec.num_classes, _crop_size(recipe), images)

    yield Step(
        arguments=(
            "train.py",
            f"--recipe={name}",
            f"--workdir={workdir}",
            *_data_flag(places),
            *(() if start is None else (f"--init_weights={start}",)),
            *train_flags,
        ),
        work=work,
    )


def _result_step(key: str, table: Table, row: Row, workdir: str, places: Places) -> Step:
    recipe = zoo.RECIPES[row.recipe]
    flags, split = _predict_flags(row.predict), recipe.eval.split
    if table.result == "server_files":
        split, folder = "test", os.path.join(places.runs, key, row.name)
        arguments = ("server_files.py", f"--eval.split={split}", f"--output={folder}")
    else:
        arguments = ("evaluate.py", f"--output={places.scores(key, row)}")
    script, *others = arguments

    def work() -> Work:
        inference, dataset = inference_of(row), _opened(recipe.dataset, places.data_dir)
        size = getattr(recipe.predict, "pad_size", None) or _crop_size(recipe)
        images = passes(inference) * len(dataset.sources[split])
        return Work(inference.model, dataset.spec.num_classes, size, images)

    return Step(
        arguments=(script, f"--workdir={workdir}", *_data_flag(places), *flags, *others), work=work
    )


def passes(inference: Inference) -> float:
    """How many images of scale 1 have as many pixels as the network sees of one image."""
    return sum(scale**2 for scale in inference.scales) * (2 if inference.flip else 1)


def _trimap_step(key: str, workdirs: Mapping[str, str], places: Places) -> Step:
    """One picture with a curve for each name and workdir."""
    return Step(
        arguments=(
            "trimap.py",
            f"--workdirs={_list_flag(workdirs.values())}",
            f"--names={_list_flag(workdirs)}",
            *_data_flag(places),
            f"--output={os.path.join(places.runs, key)}",
        ),
    )


def _list_flag(values: Iterable[str]) -> str:
    """The value of a flag that is a list; a path may have commas."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _data_flag(places: Places) -> tuple[str, ...]:
    return (f"--data_dir={places.data_dir}",) if places.data_dir else ()


def _predict_flags(predict: Mapping[str, Any]) -> list[str]:
    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        return str(value).lower() if isinstance(value, bool) else str(value)

    return [f"--predict.{name}={text(value)}" for name, value in predict.items()]


def _crop_size(recipe: Recipe) -> tuple[int, int]:
    """Height and width of the training crops, pixels."""
    (crop,) = (part for part in recipe.augment if "crop" in part.kind)
    return crop.size, getattr(crop, "width", None) or crop.size
