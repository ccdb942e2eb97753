"""Scores trained models near the boundaries of objects: the trimap (DeepLabv3+ Sec. 4.4, Fig. 4).

python scripts/trimap.py --workdirs=runs/decoder,runs/no_decoder --output=figure4
python scripts/trimap.py --workdirs=runs/a --names=ours --widths=1,5 --eval.split=val --output=here

A band of width n is all pixels at most n rows and n columns from void, without void itself. Writes
trimap.json, trimap.csv and trimap.png, the curves, to --output after each model. For two models the
table and the files also have the differences, with 95 % intervals of a paired bootstrap over the
images. The same command again scores all models again; nothing is taken from an earlier one.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import checkpoint_flag
import cli
import scoring
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.pictures.chart import COLORS, draw_lines
from deeplab_tf.pictures.visualization import encode_png
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.files import check_writable, write_bytes, write_text
from deeplab_tf.recipe.parts import Eval, Recipe

if TYPE_CHECKING:
    from deeplab_tf.evaluation.report import EvalResult
    from deeplab_tf.evaluation.scores.bootstrap import Estimate
    from deeplab_tf.evaluation.scores.comparison import Comparison

_WORKDIRS = flags.DEFINE_list("workdirs", None, "of training runs or of convert_weights.py")
_WIDTHS = flags.DEFINE_list("widths", ["1", "2", "5", "10", "20", "40"], "of the bands, pixels")
_NAMES = flags.DEFINE_list(
    "names", None, "of the models in the table and the picture; default: those of the workdirs"
)
_OUTPUT = flags.DEFINE_string("output", None, "directory for the table and the picture")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_PARTS = {name: zoo.PARTS[name] for name in ("dataset", "predict", "eval")}
cli.define_parts(_PARTS)


def main(argv: list[str]) -> None:
    """Scores one model after the other; writes what is known after each."""
    cli.no_arguments(argv)
    cli.require(workdirs=_WORKDIRS.value, widths=_WIDTHS.value, output=_OUTPUT.value)
    workdirs = scoring.named_workdirs(_WORKDIRS.value, _NAMES.value)
    if len(workdirs) > len(COLORS):
        raise ValueError(f"--workdirs must name at most {len(COLORS)}; got {len(workdirs)}.")
    widths = _widths()
    for name in ("trimap.json", "trimap.csv", "trimap.png"):
        try:
            check_writable(os.path.join(_OUTPUT.value, name))  # now: the scores take long
        except OSError as error:
            raise OSError(f"{error} Name another directory with --output.") from error
    cli.import_tensorflow()
    recipes = {name: _recipe(workdir, widths) for name, workdir in workdirs.items()}
    scoring.check_comparable(recipes)
    dataset = next(iter(recipes.values())).dataset.open(_DATA_DIR.value)
    for name, recipe in recipes.items():
        scoring.check(workdirs[name], recipe, dataset)
    results: dict[str, EvalResult] = {}
    for name, recipe in recipes.items():
        model = checkpoint_flag.load_model(workdirs[name], recipe.predict.output_stride)
        predictor = recipe.predict.predictor(model)
        result = scoring.score(predictor, model.dataset_spec, recipe, dataset).result
        if not any(counts.label.any() for counts in result.trimap.values()):
            raise ValueError(
                f"there is no curve: the labels of {result.spec.name} have no void beside a class."
                " Score a dataset whose labels are void along the boundaries of objects."
            )
        for alarm in result.alarms:
            print(f"warning: {name}: {alarm}")
        results[name] = result
        comparison = _comparison(results)
        _write(results, comparison, workdirs)
    print(_table(results, comparison))
    print(f"written to {_OUTPUT.value}: trimap.json, trimap.csv, trimap.png")


def _widths() -> tuple[int, ...]:
    """The widths of the bands, ascending.

    Raises:
      ValueError: they are not those that `Eval` takes, or another flag names them too.
    """
    if flags.FLAGS["eval.trimap_widths"].present:
        raise ValueError("--widths names the widths here; leave --eval.trimap_widths out.")
    try:
        return Eval(trimap_widths=tuple(sorted(set(map(int, _WIDTHS.value))))).trimap_widths
    except ValueError as error:
        raise ValueError(
            f"--widths must be integers such as 1,2,5; got {','.join(_WIDTHS.value)} ({error})"
        ) from None


def _recipe(workdir: str, widths: tuple[int, ...]) -> Recipe:
    """What a workdir holds, with the given flags in place of its values."""
    recipe = recipe_flags.apply(zoo.load_recipe(workdir), _PARTS)
    return dataclasses.replace(recipe, eval=recipe.eval.replace(trimap_widths=widths))


def _comparison(results: Mapping[str, EvalResult]) -> Comparison | None:
    """Of two models; None for one or more than two, and for one image, which has no interval."""
    from deeplab_tf.evaluation.scores.comparison import Comparison

    both = tuple(results.values())
    if len(both) != 2 or both[0].num_examples < 2:
        return None
    return Comparison(names=tuple(results), results=both)


def _rows(
    results: Mapping[str, EvalResult], comparison: Comparison | None
) -> list[tuple[int, list[float]]]:
    """(width, the columns after it) of each band."""
    rows = []
    for width in next(iter(results.values())).trimap:
        values = [result.trimap_scores[width]["mean_iou"] for result in results.values()]
        found = comparison and comparison.trimap_differences[width]["mean_iou"]
        rows.append((width, _columns(values, found)))
    return rows


def _columns(values: list[float], difference: Estimate | None) -> list[float]:
    """Percent: each model's score; of two the difference, and its interval if there is one."""
    both = [values[0] - values[1]] if len(values) == 2 else []
    ends = [difference.low, difference.high] if difference else []
    return [100 * value for value in (*values, *both, *ends)]


def _headings(results: Mapping[str, EvalResult], comparison: Comparison | None) -> list[str]:
    both = ["difference"] if len(results) == 2 else []
    ends = ["difference_low", "difference_high"] if comparison else []
    return ["width", *results, *both, *ends]


def _table(results: Mapping[str, EvalResult], comparison: Comparison | None) -> str:
    """The scores as text; the last row is that of all pixels."""
    from deeplab_tf.evaluation.scores.bootstrap import DRAWS, LEVEL

    first = next(iter(results.values()))
    whole = [result.scores["mean_iou"] for result in results.values()]
    found = comparison and comparison.differences["mean_iou"]
    rows = [*_rows(results, comparison), ("all", _columns(whole, found))]
    headings = _headings(results, comparison)
    lines = [
        "mean IoU in percent of the pixels at most so many pixels from void,"
        f" {first.num_examples} examples of {first.spec.name}, split {first.options.split}",
        "  ".join(f"{heading:>7}" for heading in headings),
    ]
    for width, values in rows:
        cells = zip(headings, [str(width), *(f"{value:.2f}" for value in values)], strict=True)
        lines.append("  ".join(f"{cell:>{max(7, len(heading))}}" for heading, cell in cells))
    if comparison:
        lines.append(
            f"difference_low to difference_high: {100 * LEVEL:.0f} % interval, paired bootstrap"
            f" over the examples ({DRAWS:,} draws)"
        )
    return "\n".join(lines)


def _write(
    results: Mapping[str, EvalResult], comparison: Comparison | None, workdirs: Mapping[str, str]
) -> None:
    """Writes the three files."""
    rows = _rows(results, comparison)
    models = {}
    for name, result in results.items():
        models[name] = {"workdir": workdirs[name], **json.loads(result.to_json())}
        del models[name]["confusion_matrix"]  # thousands of lines
    tree = {"widths": [width for width, _ in rows], "models": models}
    if comparison:
        tree["differences"] = json.loads(comparison.to_json())["trimap"]
    write_text(os.path.join(_OUTPUT.value, "trimap.json"), json.dumps(tree, indent=2) + "\n")

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_headings(results, comparison))
    writer.writerows([width, *(f"{value:.4f}" for value in values)] for width, values in rows)
    write_text(os.path.join(_OUTPUT.value, "trimap.csv"), table.getvalue())

    lines = {name: [(width, values[i]) for width, values in rows] for i, name in enumerate(results)}
    picture = draw_lines("mean IoU in the band, %", "width of the band, pixels", lines)
    write_bytes(os.path.join(_OUTPUT.value, "trimap.png"), encode_png(picture))


if __name__ == "__main__":
    cli.run(
        main,
        less_memory="Set --predict.tile=1024, or lower --predict.scales, --predict.pad_size or"
        " --predict.long_side.",
    )
