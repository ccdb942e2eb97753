r"""Predicts a split for a benchmark's test server: files in its form, checked and packed.

python scripts/server_files.py --workdir=runs/voc --eval.split=test --output=runs/voc/test
python scripts/server_files.py --check=runs/voc/test --dataset.name=voc2012 --eval.split=test
python scripts/server_files.py --check=cityscapes_test.zip --dataset.name=cityscapes \
    --eval.split=test

The same command resumes after an interruption. An output holds the files of one model.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import cli
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.data.datasets.release import RELEASES, Release
from deeplab_tf.data.release import server_files
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.files import check_writable, remove_leftovers, write_bytes, write_text
from deeplab_tf.recipe.json_files import read_json
from deeplab_tf.recipe.messages import shortened

if TYPE_CHECKING:
    import keras

    from deeplab_tf.data.release.server_files import ServerFormat
    from deeplab_tf.recipe.dataset_spec import ExampleSource, OpenDataset
    from deeplab_tf.recipe.parts import Dataset, Predictor, Recipe

_OUTPUT = flags.DEFINE_string(
    "output", None, "directory for the files and the archive; absent, empty, or to be resumed"
)
_CHECK = flags.DEFINE_string(
    "check", None, "check the files in this directory or archive; predicts nothing"
)
_COMPETITION = flags.DEFINE_string(
    "competition",
    None,
    "of PASCAL VOC: comp6 for a network trained on anything, also on ImageNet alone before; comp5"
    " for one trained on VOC's own train and val alone; default: comp6",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_PARTS = {name: zoo.PARTS[name] for name in ("dataset", "predict", "eval")}
cli.define_parts(_PARTS)

_MADE_BY = "made_by.json"  # in the output: whose predictions it holds


def main(argv: list[str]) -> None:
    """Predicts, checks and packs; or checks alone."""
    cli.no_arguments(argv)
    # Files of another split than was meant would go unnoticed until the server refuses them.
    split = flags.FLAGS["eval.split"].value
    cli.require(**{"eval.split": split})
    if _CHECK.value is not None:
        if trained.WORKDIR.value is not None or _OUTPUT.value is not None:
            raise ValueError("--check predicts nothing; leave --workdir and --output out.")
        dataset = recipe_flags.part_from_flags("dataset", Release(), zoo.PARTS["dataset"])
        server, competition = _server(dataset)
        if not os.path.exists(_CHECK.value):
            raise FileNotFoundError(f"there is no directory or archive {_CHECK.value}.")
        cli.import_tensorflow()
        source = dataset.open(_DATA_DIR.value).source(split)
        paths = server.paths(_names(source), split, competition)
        _refuse_faults(_CHECK.value, server, source, paths)
        print(f"no faults in the {len(paths)} files of {_CHECK.value}")
        return
    cli.require(workdir=trained.workdir(), output=_OUTPUT.value)
    _check_output(_OUTPUT.value)
    cli.import_tensorflow()
    recipe = trained.recipe(_PARTS)
    server, competition = _server(recipe.dataset)
    dataset = recipe.dataset.open(_DATA_DIR.value)
    source = dataset.source(split)
    paths = server.paths(_names(source), split, competition)
    model = trained.model(recipe.predict.output_stride)
    _check_classes(model, dataset)
    recipe.predict.check(dataset.spec, recipe.eval)
    _begin(_OUTPUT.value, _made_by(recipe, model, competition))
    _predict(recipe.predict.predictor(model), server, source, paths)
    _refuse_faults(_OUTPUT.value, server, source, paths)
    name = "_".join(filter(None, (dataset.spec.name, split, competition)))
    archive = os.path.join(_OUTPUT.value, f"{name}.{server.archive}")
    server.pack(_OUTPUT.value, list(paths.values()), archive)
    print(f"{len(paths)} files without faults are in {archive}")


def _server(dataset: Dataset) -> tuple[ServerFormat, str | None]:
    """What the server of a dataset wants, and the competition.

    Raises:
      ValueError: the dataset has no server, or the server has no such competition.
    """
    name = dataset.name if isinstance(dataset, Release) else None
    server = RELEASES[name].server if name else None
    if server is None:
        known = [name for name, release in RELEASES.items() if release.server is not None]
        raise ValueError(
            f"server files are for --dataset.name={', '.join(known)}, whose form is known; got"
            f" {name or dataset.kind}. predict.py writes the label maps of any images."
        )
    return server, server.competition(_COMPETITION.value)


def _names(source: ExampleSource) -> list[str]:
    return [source.name(index) for index in range(len(source))]


def _check_output(output: str) -> None:
    """Refuses a directory that this script has not begun, before what takes long.

    Raises:
      FileExistsError: it holds other files.
      OSError: it cannot be written.
    """
    check_writable(os.path.join(output, _MADE_BY))
    remove_leftovers(output)
    if os.path.isdir(output) and _MADE_BY not in os.listdir(output) and os.listdir(output):
        raise FileExistsError(
            f"{output} must be empty or absent, or begun by this script; it has no {_MADE_BY}."
            " Remove it or choose another directory."
        )


def _check_classes(model: keras.Model, dataset: OpenDataset) -> None:
    """Raises ValueError if a model's classes are not those of the dataset."""
    if model.dataset_spec.class_names != dataset.spec.class_names:
        raise ValueError(
            f"the model must have the {dataset.spec.num_classes} classes of {dataset.spec.name}, in"
            f" their order; it has the {model.dataset_spec.num_classes} of"
            f" {model.dataset_spec.name}."
        )


def _made_by(recipe: Recipe, model: keras.Model, competition: str | None) -> dict[str, Any]:
    """What decides the predictions, as a JSON object."""
    from deeplab_tf.weights import weights_by_name

    weights = hashlib.sha256()
    for name, weight in sorted(weights_by_name(model).items()):
        weights.update(name.encode())
        weights.update(weight.numpy().tobytes())
    tree = as_json.to_tree(recipe)
    return {
        "dataset": tree["dataset"],
        "split": recipe.eval.split,
        "competition": competition,
        "model": tree["model"],
        "weights": f"sha256 {weights.hexdigest()}",
        "predict": tree["predict"],
    }


def _begin(output: str, made_by: dict[str, Any]) -> None:
    """Notes whose predictions an output holds.

    Raises:
      ValueError: it holds predictions of another model, or made in another way.
    """
    path = os.path.join(output, _MADE_BY)
    if not os.path.exists(path):
        write_text(path, json.dumps(made_by, indent=2) + "\n")
        return
    begun = read_json(path, dict)
    differing = [name for name in made_by if begun.get(name) != made_by[name]]
    if differing:
        raise ValueError(
            f"{output} was begun with a different {' and '.join(differing)}; see {path}. Choose"
            " another --output, or remove it."
        )


def _predict(
    predictor: Predictor, server: ServerFormat, source: ExampleSource, paths: dict[str, str]
) -> None:
    """Writes the files that are not there. Those that are there are whole and of this model."""
    from deeplab_tf.data import pipeline
    from deeplab_tf.evaluation.evaluate import each_example
    from deeplab_tf.training.report.progress import Progress

    files = [os.path.join(_OUTPUT.value, path) for path in paths.values()]
    for folder in sorted({os.path.dirname(file) for file in files}):
        remove_leftovers(folder)
    missing = [index for index, file in enumerate(files) if not os.path.exists(file)]
    kept = len(files) - len(missing)
    if kept:
        print(f"keeping {kept} of {len(files)} files, which are there already")
    if not missing:
        return
    print("predicting; the first image takes seconds longer")
    examples = each_example(
        pipeline.eval_examples(source, missing), lambda i: source.name(missing[i])
    )
    progress = Progress("predicting", len(files), start=kept)
    for index, example in zip(missing, examples, strict=True):
        label_map = predictor.label_map(example["image"]).numpy()
        write_bytes(files[index], server.encode(label_map))
        kept += 1
        progress.update(kept)


def _refuse_faults(
    where: str, server: ServerFormat, source: ExampleSource, paths: dict[str, str]
) -> None:
    """Raises ValueError with the faults of the files in a directory or an archive."""
    from deeplab_tf.data import pipeline
    from deeplab_tf.evaluation.evaluate import each_example
    from deeplab_tf.training.report.progress import Progress

    progress, sizes = Progress("reading the sizes of the images", len(paths)), {}
    for example in each_example(pipeline.eval_examples(source), source.name):
        name = example["name"].numpy().decode()
        sizes[paths[name]] = tuple(example["image"].shape[:2])
        progress.update(len(sizes))
    progress = Progress("checking the files", len(paths))
    found = server_files.faults(
        where, server, sizes, progress=lambda done, total: progress.update(done)
    )
    if found:
        listed = shortened(found, separator="\n  ")
        raise ValueError(f"{where} has {len(found)} faults:\n  {listed}")


if __name__ == "__main__":
    cli.run(
        main,
        interrupted="stopped; the same command resumes",
        less_memory="Set --predict.tile=1024, or lower --predict.scales, --predict.pad_size or"
        " --predict.long_side.",
    )
