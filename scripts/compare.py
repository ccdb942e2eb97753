"""Compares two trained models on the same images: is the difference more than chance?

python scripts/compare.py --workdirs=runs/decoder,runs/no_decoder --output=comparison
python scripts/compare.py --workdirs=runs/a,runs/b --names=long,short --eval.split=val --output=here
python scripts/compare.py --workdirs=runs/a,runs/a --names=a,flip --output=b -- --predict.flip=true
python scripts/compare.py --workdirs=runs/a,runs/a --names=best,last --output=b -- --checkpoint=last

Prints both models' scores, the difference with a 95 % interval, the same for each class, and the
examples that differ most. All of it goes to --output as compare.json and as a page for a browser,
compare.html, with both predictions for the images that differ most. The interval is that of a
paired bootstrap over the images: each draw scores both models on the same ones. One that holds 0
says that such a difference may come from the choice of the images.

Flags of predict, and --checkpoint, are for the second model alone if they come after --. It may be
the first one again.
"""

from __future__ import annotations

import os

import checkpoint_flag
import cli
import scoring
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.as_json import to_tree
from deeplab_tf.recipe.files import check_writable, write_text

_WORKDIRS = flags.DEFINE_list("workdirs", None, "two, of training runs or of convert_weights.py")
_NAMES = flags.DEFINE_list(
    "names", None, "of the models in the tables; default: those of the workdirs"
)
_OUTPUT = flags.DEFINE_string("output", None, "directory for compare.json and compare.html")
_REPORT_IMAGES = flags.DEFINE_integer(
    "report_images",
    6,
    "how many of the images that differ most the page shows; 0: none",
    lower_bound=0,
    upper_bound=100,
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_PARTS = {name: zoo.PARTS[name] for name in ("dataset", "predict", "eval")}
cli.define_parts(_PARTS)
_OF_THE_SECOND = ("--predict.", "--predict=", "--checkpoint=")  # flags that may be after --


def main(argv: list[str]) -> None:
    """Scores both models, compares and writes."""
    second_flags = argv[1:]
    cli.no_arguments([argv[0], *(flag for flag in second_flags if not flag.startswith("--"))])
    other = [flag for flag in second_flags if not flag.startswith(_OF_THE_SECOND)]
    if other:
        raise ValueError(
            "after -- there must be flags of predict, as --predict.flip=true, or --checkpoint; got"
            f" {other[0]!r}."
        )
    cli.require(workdirs=_WORKDIRS.value, output=_OUTPUT.value)
    if len(_WORKDIRS.value) != 2:
        raise ValueError(f"--workdirs must name two; got {', '.join(_WORKDIRS.value)}.")
    workdirs = scoring.named_workdirs(_WORKDIRS.value, _NAMES.value)
    path, html_path = (os.path.join(_OUTPUT.value, f"compare{end}") for end in (".json", ".html"))
    try:
        for each in (path, html_path):
            check_writable(each)  # now: the scores take long
    except OSError as error:
        raise OSError(f"{error} Name another directory with --output.") from error
    cli.import_tensorflow()
    recipes, checkpoints = {}, {}
    for name, workdir in workdirs.items():
        if recipes:
            _parse(argv)
        checkpoints[name] = checkpoint_flag.CHECKPOINT.value
        recipes[name] = recipe_flags.apply(zoo.load_recipe(workdir), _PARTS)
    scoring.check_comparable(recipes)
    for name, recipe in recipes.items():
        if "mean_iou" not in recipe.predict.metrics:
            raise ValueError(
                f"models must give a class to each pixel; --predict={recipe.predict.kind} of {name}"
                " gives one to each image."
            )
    from deeplab_tf.evaluation.scores.comparison import Comparison, check_same_classes
    from deeplab_tf.pages.comparison import comparison_page

    dataset = next(iter(recipes.values())).dataset.open(_DATA_DIR.value)
    check_same_classes(
        [scoring.check(workdirs[name], recipe, dataset) for name, recipe in recipes.items()]
    )
    number = len(scoring.source(next(iter(recipes.values())), dataset))
    if number < 2:
        raise ValueError(f"--eval.split must have two examples or more to compare; got {number}.")
    networks = []  # both before any is scored, which takes long
    for name, recipe in recipes.items():
        output_stride = recipe.predict.output_stride
        model = checkpoint_flag.load_model(workdirs[name], output_stride, checkpoints[name])
        networks.append((name, recipe, model))
    scored = []
    for name, recipe, model in networks:
        predictor = recipe.predict.predictor(model)
        scored.append(scoring.score(predictor, model.dataset_spec, recipe, dataset))
        for alarm in scored[-1].result.alarms:
            print(f"warning: {name}: {alarm}")
    comparison = Comparison(names=tuple(workdirs), results=tuple(one.result for one in scored))
    print(comparison.text())
    write_text(path, comparison.to_json())
    print(f"written to {path}")
    chosen = comparison.image_ranking[: _REPORT_IMAGES.value]
    examples = [(index, scoring.example(scored, index)) for index in chosen]
    models = [scoring.network_rows(workdirs[name], *network) for name, *network in networks]
    record = scoring.record(scored[0], models)
    trees = {name: to_tree(recipe) for name, recipe in recipes.items()}
    write_text(html_path, comparison_page(comparison, examples, record, trees))
    print(f"written to {html_path}")


def _parse(argv: list[str]) -> None:
    """Sets the flags of the second model.

    Raises:
      ValueError: there is no such flag, or it cannot have this value.
    """
    try:
        flags.FLAGS(argv)
    except flags.Error as error:
        raise ValueError(f"{error} It is given after --.") from error


if __name__ == "__main__":
    cli.run(
        main,
        less_memory="Set --predict.tile=1024, or lower --predict.scales, --predict.pad_size or"
        " --predict.long_side.",
    )
