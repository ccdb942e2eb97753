"""What networks cost: multiply-adds beside the papers' tables, or speed and memory of one network.

python scripts/benchmark.py --table=deeplab3
python scripts/benchmark.py --table=fastfcn2
python scripts/benchmark.py --model=deeplabv3plus --model.backbone=xception65 --height=513
python scripts/benchmark.py --recipe=quickstart_shapes --height=128 --batch_size=8
"""

from __future__ import annotations

import os

import benchmark_fps
import benchmark_speed
import benchmark_tables
import cli
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.evaluation.predict import LARGEST_SIDE
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.options import lookup
from deeplab_tf.recipe.parts import ModelConfig

_TABLE = flags.DEFINE_enum(
    "table",
    None,
    [*benchmark_tables.TABLES, "fastfcn2"],
    "print this table of a paper, ours beside theirs",
)
_HEIGHT = flags.DEFINE_integer(
    "height", 513, "of the images, pixels", lower_bound=1, upper_bound=LARGEST_SIDE
)
_WIDTH = flags.DEFINE_integer(
    "width",
    None,
    "of the images, pixels; default: as the height",
    lower_bound=1,
    upper_bound=LARGEST_SIDE,
)
_NUM_CLASSES = flags.DEFINE_integer(
    "num_classes",
    21,
    "classes to tell apart",
    lower_bound=2,
    upper_bound=65535,  # of the labels that pictures can hold
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 1, "images at a time", lower_bound=1, upper_bound=2**20
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "timed rounds", lower_bound=1, upper_bound=2**20)
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16", "mixed_float16"], "Keras' dtype policy"
)
recipe_flags.define_recipe()
cli.define_parts({"model": zoo.MODELS})


def main(argv: list[str]) -> None:
    """Prints a table, or measures a network."""
    cli.no_arguments(argv)
    if sum(flags.FLAGS[name].present > 0 for name in ("table", "model", "recipe")) != 1:
        raise ValueError("give one of --table, --model and --recipe; see --help.")
    if _TABLE.value == "fastfcn2":
        if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
            cli.import_tensorflow()
        _set_precision()
        benchmark_fps.print_table(batch_size=_BATCH_SIZE.value, rounds=_ROUNDS.value)
        return
    if _TABLE.value is not None:
        cli.import_tensorflow()
        print(benchmark_tables.table_text(benchmark_tables.TABLES[_TABLE.value]))
        return
    model = _model_config()
    cli.import_tensorflow()
    _set_precision()
    _print_measurements(model)


def _set_precision() -> None:
    import keras

    keras.config.set_dtype_policy(_PRECISION.value)


def _model_config() -> ModelConfig:
    named = zoo.MODELS["deeplabv3plus"]()
    if flags.FLAGS.recipe is not None:
        named = lookup(zoo.RECIPES, flags.FLAGS.recipe, "recipe").model
    return recipe_flags.part_from_flags("model", named, zoo.MODELS)


def _print_measurements(model: ModelConfig) -> None:
    import tensorflow as tf

    from deeplab_tf.training.report.meter import peak_resident_memory

    size = (_HEIGHT.value, _WIDTH.value or _HEIGHT.value)
    before = peak_resident_memory()
    print(
        f"{model}\n{size[0]}x{size[1]} pixels, {_NUM_CLASSES.value} classes, batch"
        f" {_BATCH_SIZE.value}; TensorFlow {tf.__version__} on {benchmark_speed.device_text()}\n",
        flush=True,
    )
    measurements = benchmark_speed.measure(
        model,
        num_classes=_NUM_CLASSES.value,
        image_size=size,
        batch_size=_BATCH_SIZE.value,
        rounds=_ROUNDS.value,
    )
    lines = {"": [], "parameters": [], "multiply-adds": [], "images/s": [], "peak memory": []}
    for measured in measurements:
        column = (
            measured.name,
            f"{measured.parameters:,}",
            f"{measured.multiply_adds / 1e9:.4g} billion",
            measured.speed_text(),
            f"{measured.peak_memory / 1e9:.2f} GB",
        )
        for cells, cell in zip(lines.values(), column, strict=True):
            cells.append(cell)
    for head, cells in lines.items():
        print(f"{head:<15}" + "".join(f"{cell:>26}" for cell in cells))
    memory = "of the GPU's memory, as TensorFlow allocates it"
    if not tf.config.list_physical_devices("GPU"):
        memory = (
            "of the process, all it holds and held before"
            f" ({before / 1e9:.2f} GB before the network was built)"
        )
    print(
        "\nparameters: moving statistics included"
        "\nmultiply-adds: one image, one forward pass, the true count"
        f"\nimages/s: median of {_ROUNDS.value} rounds (slowest to fastest)"
        f"\npeak memory: {memory}"
    )


if __name__ == "__main__":
    cli.run(main, less_memory="Give a smaller --batch_size, --height or --width.")
