"""What a network costs: parameters, multiply-adds, speed and memory.

--against times the network beside the same one from stock Keras layers, on ONNX Runtime or on
Keras' PyTorch backend; --sizes times it at several image sizes; --formats exports a trained network
in every format, and shows the size, the agreement and the speed of each.

python scripts/benchmark.py --model=deeplabv3plus --model.backbone=xception65 --height=513
python scripts/benchmark.py --recipe=quickstart_shapes --height=128 --batch_size=8
python scripts/benchmark.py --model=fastfcn --height=512 --against=stock_keras --rounds=20
python scripts/benchmark.py --model=deeplabv3plus --sizes=257,513,1025,2049
python scripts/benchmark.py --formats --workdir=runs/photos --images=photos --rounds=20
"""

from __future__ import annotations

import benchmark_against
import benchmark_formats
import benchmark_sizes
import benchmark_speed
import cli
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.data.photos import find_photos, read_photo
from deeplab_tf.evaluation.predict import LARGEST_SIDE
from deeplab_tf.export.agreement import MOST_COMPARED, spread
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.options import lookup
from deeplab_tf.recipe.parts import ModelConfig

_AGAINST = flags.DEFINE_enum(
    "against",
    None,
    list(benchmark_against.OTHERS),
    "time the network in turns with the same one from these layers, or on this engine",
)
_SIZES = flags.DEFINE_list(
    "sizes",
    None,
    "time the network for inference on square images of these sizes, pixels, with the peak memory"
    " of each",
)
_FORMATS = flags.DEFINE_bool(
    "formats", False, "export the network of --workdir in every format, and time them in turns"
)
_IMAGES = flags.DEFINE_multi_string(
    "images",
    None,
    "files, folders or patterns of images such as the network is for, with --formats;"
    f" {MOST_COMPARED} are used, evenly spaced",
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
    """Measures a network."""
    cli.no_arguments(argv)
    if _FORMATS.value:
        _print_formats()
        return
    sizes = _checked_flags()
    options = {
        "num_classes": _NUM_CLASSES.value,
        "batch_size": _BATCH_SIZE.value,
        "rounds": _ROUNDS.value,
    }
    model = _model_config()
    if sizes:
        benchmark_sizes.print_sizes(model, sizes, precision=_PRECISION.value, **options)
        return
    cli.import_tensorflow()
    import keras

    keras.config.set_dtype_policy(_PRECISION.value)
    size = (_HEIGHT.value, _WIDTH.value or _HEIGHT.value)
    if _AGAINST.value is not None:
        benchmark_against.print_against(_AGAINST.value, model, image_size=size, **options)
    else:
        _print_measurements(model, size, **options)


def _print_formats() -> None:
    """Measures the exports of a trained network."""
    names = ("model", "recipe", "against", "sizes", "batch_size", "num_classes", "precision")
    given = [f"--{name}" for name in names if flags.FLAGS[name].present]
    if given:
        raise ValueError(f"--formats is of a trained network; leave {', '.join(given)} out.")
    cli.require(workdir=trained.WORKDIR.value, images=_IMAGES.value)
    images = [read_photo(path) for path in spread(find_photos(_IMAGES.value), MOST_COMPARED)]
    cli.import_tensorflow()
    benchmark_formats.print_formats(
        trained.model(None),
        images,
        image_size=(_HEIGHT.value, _WIDTH.value or _HEIGHT.value),
        rounds=_ROUNDS.value,
    )


def _checked_flags() -> list[int]:
    """Checks flags that exclude one another; returns --sizes, or nothing."""
    names = ("model", "recipe", "against", "sizes", "height", "width", "workdir", "images")
    present = {name for name in names if flags.FLAGS[name].present}
    if len(present & {"model", "recipe"}) != 1:
        raise ValueError("give one of --model and --recipe; see --help.")
    if present & {"workdir", "images"}:
        raise ValueError("--workdir and --images are for --formats; leave them out.")
    if "against" in present:
        if "sizes" in present:
            raise ValueError("give --against or --sizes, not both.")
        if _PRECISION.value != "float32":
            raise ValueError(f"--against compares in float32; got --precision={_PRECISION.value}.")
        benchmark_against.check_installed(_AGAINST.value)
    if "sizes" not in present:
        return []
    if present & {"height", "width"}:
        raise ValueError("--sizes are heights and widths; leave --height and --width out.")
    wrong = [
        each for each in _SIZES.value if not each.isdecimal() or not 0 < int(each) <= LARGEST_SIDE
    ]
    if wrong or not _SIZES.value:
        raise ValueError(
            f"--sizes must be one or more numbers from 1 to {LARGEST_SIDE};"
            f" got {','.join(_SIZES.value)!r}."
        )
    return [int(each) for each in _SIZES.value]


def _model_config() -> ModelConfig:
    named = zoo.MODELS["deeplabv3plus"]()
    if flags.FLAGS.recipe is not None:
        named = lookup(zoo.RECIPES, flags.FLAGS.recipe, "recipe").model
    return recipe_flags.part_from_flags("model", named, zoo.MODELS)


def _print_measurements(
    model: ModelConfig,
    size: tuple[int, int],
    *,
    num_classes: int,
    batch_size: int,
    rounds: int,
) -> None:
    import tensorflow as tf

    from deeplab_tf.training.report.meter import peak_resident_memory

    before = peak_resident_memory()
    print(
        f"{model}\n{size[0]}x{size[1]} pixels, {num_classes} classes, batch"
        f" {batch_size}; TensorFlow {tf.__version__} on {benchmark_speed.device_text()}\n",
        flush=True,
    )
    measurements = benchmark_speed.measure(
        model,
        num_classes=num_classes,
        image_size=size,
        batch_size=batch_size,
        rounds=rounds,
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
        f"\nimages/s: median of {rounds} rounds (slowest to fastest)"
        f"\npeak memory: {memory}"
    )


if __name__ == "__main__":
    cli.run(main, less_memory="Give a smaller --batch_size, --height or --width.")
