r"""Turns released weights into a workdir that every other script reads.

python scripts/convert_weights.py --source=deeplab_tf1 --input=model.ckpt --output=runs/voc
python scripts/convert_weights.py --released=xception65_coco_voc_trainaug --input=model.ckpt \
    --output=runs/voc
python scripts/convert_weights.py --source=fastfcn --input=model_best.pth.tar --output=runs/context
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import cli
from absl import flags

from deeplab_tf.recipe.options import DataConfig, EvalConfig, ModelConfig, Recipe, TrainConfig, lookup

if TYPE_CHECKING:
    import keras

    from deeplab_tf.recipe.dataset_spec import DatasetSpec
    from deeplab_tf.released import Released

_SOURCE = flags.DEFINE_enum(
    "source",
    "deeplab_tf1",
    ["deeplab_tf1", "deeplab_tf1_pb", "deeplab_tf1_npz", "fastfcn"],
    "DeepLab's checkpoint, frozen graph (.pb) or arrays (.npz); FastFCN's .pth or .pth.tar",
)
_RELEASED = flags.DEFINE_string(
    "released", None, "name of the checkpoint in DeepLab's model zoo: checks the file, knows more"
)
_INPUT = flags.DEFINE_string("input", None, "the file")
_OUTPUT = flags.DEFINE_string("output", None, "workdir to write; must not exist yet")
_OUTPUT_STRIDE = flags.DEFINE_enum(
    "output_stride", None, ["8", "16", "32"], "that the network shall run at; default: released"
)
_NUM_CLASSES = flags.DEFINE_integer(
    "num_classes", None, "of a new last layer; needed where the file has a backbone alone"
)
_DATASET = flags.DEFINE_string(
    "dataset", None, "whose classes these are, by its name here; default: guessed by their number"
)
_CLASS_NAMES_FILE = flags.DEFINE_string("class_names_file", None, "a class name a line")

_GUESSES = {21: "voc2012", 59: "pascal_context", 150: "ade20k"}  # what released networks know


def main(argv: list[str]) -> None:
    """Recognises the network, fills it and saves it."""
    cli.no_arguments(argv)
    cli.require(input=_INPUT.value, output=_OUTPUT.value)
    if os.path.exists(_OUTPUT.value) and os.listdir(_OUTPUT.value):
        raise ValueError(f"{_OUTPUT.value} is not empty; choose another --output or remove it.")
    cli.import_tensorflow()
    from deeplab_tf.training import checkpoints

    released = _released()
    network = _fastfcn() if _SOURCE.value == "fastfcn" else _deeplab(released)
    config, model, num_classes = network
    spec = _spec(num_classes, released)
    checkpoints.save_recipe(_OUTPUT.value, _recipe(config, spec, released))
    checkpoints.save_spec(_OUTPUT.value, spec)
    checkpoints.Checkpointer(_OUTPUT.value, model).save(1)
    print(f"wrote {_OUTPUT.value}; use it as --workdir, or as train.py's --init_weights")


def _released() -> Released | None:
    if _RELEASED.value is None:
        return None
    if _SOURCE.value == "fastfcn":
        raise ValueError("--released names a checkpoint of DeepLab's; leave it or --source out.")
    from deeplab_tf.released import RELEASED

    return lookup(RELEASED, _RELEASED.value, "released checkpoint")


def _deeplab(released: Released | None) -> tuple[ModelConfig, keras.Model, int]:
    """The network of a DeepLab file, it filled, and its number of classes."""
    from deeplab_tf import pretrained

    how = {"source": _SOURCE.value, "output_stride": int(_OUTPUT_STRIDE.value or 16)}
    config, num_classes, _ = pretrained.recognise(_INPUT.value, **how)
    _say_recognised(config, num_classes)
    if released is not None:
        _check(config, num_classes, released)
    model = pretrained.from_checkpoint(
        _INPUT.value, **how, num_classes=_NUM_CLASSES.value, say=print
    )
    if released is not None and released.extra_class and _NUM_CLASSES.value is None:
        model = _without_first_class(config, model)
    return config, model, model.output_shape[-1]


def _fastfcn() -> tuple[ModelConfig, keras.Model, int]:
    """Likewise of a FastFCN file; the model has the auxiliary outputs."""
    from deeplab_tf.weights.torch_file import read_torch_file
    from jpu_tf import pretrained

    stride = _OUTPUT_STRIDE.value and int(_OUTPUT_STRIDE.value)
    state_dict = read_torch_file(_INPUT.value)
    config, num_classes, _ = pretrained.recognise(state_dict, output_stride=stride)
    _say_recognised(config, num_classes)
    model = pretrained.from_state_dict(
        state_dict,
        source=_INPUT.value,
        output_stride=stride,
        num_classes=_NUM_CLASSES.value,
        auxiliary=True,
        say=print,
    )
    return config, model, model.output["logits"].shape[-1]


def _say_recognised(config: ModelConfig, num_classes: int | None) -> None:
    default = type(config)(backbone=config.backbone)
    options = [f"backbone={config.backbone!r}", *_differences(config, default)]
    print(f"recognised {config.kind}({', '.join(options)}), {num_classes or 'no'} classes")


def _differences(found: ModelConfig, expected: ModelConfig) -> list[str]:
    """The fields of the first that the second has otherwise, as 'name=value'."""
    return [
        f"{field.name}={getattr(found, field.name)!r}"
        for field in dataclasses.fields(found)
        if getattr(found, field.name) != getattr(expected, field.name)
    ]


def _check(config: ModelConfig, num_classes: int | None, released: Released) -> None:
    """Compares what is in the file with what is known of the checkpoint."""
    expected = released.model
    if released.num_classes is None:  # nothing counts but the backbone
        expected = dataclasses.replace(config, backbone=expected.backbone)
    else:  # what no file tells
        own = {"output_stride": config.output_stride, "multi_grid": config.multi_grid}
        expected = dataclasses.replace(expected, **own)
    if (config, num_classes) != (expected, released.num_classes):
        wanted = [*_differences(expected, config), f"{released.num_classes or 'no'} classes"]
        found = [*_differences(config, expected), f"{num_classes or 'no'} classes"]
        raise ValueError(
            f"{_INPUT.value} must be {_RELEASED.value}: {', '.join(wanted)}; it has"
            f" {', '.join(found)}. Name the checkpoint that it is, or leave --released out."
        )


def _without_first_class(config: ModelConfig, model: keras.Model) -> keras.Model:
    from deeplab_tf import weights

    print("left out: the logit of class 0, which stood for everything unlabelled")
    arrays = {name: weight.numpy() for name, weight in weights.weights_by_name(model).items()}
    for name in ("logits/kernel", "logits/bias"):
        arrays[name] = arrays[name][..., 1:]
    smaller = config.build(model.output_shape[-1] - 1)
    weights.fit_weights(smaller, arrays)
    return smaller


def _spec(num_classes: int, released: Released | None) -> DatasetSpec:
    """The classes of the network."""
    from deeplab_tf.data import RAW_DATASETS
    from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

    known = None if _NUM_CLASSES.value is not None or released is None else released.dataset
    name = _DATASET.value or known
    if name is None and _CLASS_NAMES_FILE.value is None and num_classes in _GUESSES:
        name = _GUESSES[num_classes]
        print(f"{num_classes} classes are taken for those of {name}; --dataset says otherwise")
    if name is not None and _CLASS_NAMES_FILE.value is None:
        dataset = lookup(RAW_DATASETS, name, "dataset")
        _check_number(name, len(dataset.class_names), num_classes)
        return DatasetSpec(
            name=name,
            class_names=dataset.class_names,
            ignore_label=255,
            palette=dataset.palette,
            splits={},
        )
    return DatasetSpec(
        name=name or os.path.splitext(os.path.basename(_INPUT.value))[0],
        class_names=_class_names(num_classes),
        ignore_label=255 if num_classes <= 255 else 65535,
        palette=bit_palette(num_classes),
        splits={},
    )


def _class_names(num_classes: int) -> tuple[str, ...]:
    if _CLASS_NAMES_FILE.value is None:
        return tuple(f"class_{i}" for i in range(num_classes))
    with open(_CLASS_NAMES_FILE.value, encoding="utf-8") as file:
        names = tuple(line.strip() for line in file if line.strip())
    _check_number(_CLASS_NAMES_FILE.value, len(names), num_classes)
    return names


def _check_number(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"{where} has {found} classes; the network has {expected}. Say whose"
            " they are with --dataset or --class_names_file."
        )


def _recipe(config: ModelConfig, spec: DatasetSpec, released: Released | None) -> Recipe:
    """What evaluate.py goes by: the dataset and, where it is known, the released protocol."""
    from deeplab_tf.data import RAW_DATASETS

    data = DataConfig(dataset=spec.name) if spec.name in RAW_DATASETS else DataConfig()
    recipe = Recipe(model=config, data=data, train=TrainConfig(steps=1))
    if _SOURCE.value == "fastfcn":
        return dataclasses.replace(recipe, eval=EvalConfig(protocol="sliding_window"))
    if released is None or not released.scores or _NUM_CLASSES.value is not None:
        return recipe
    score = released.scores[0]
    return dataclasses.replace(
        recipe,
        eval=EvalConfig(
            split=score.split,
            scales=score.scales,
            flip=score.flip,
            output_stride=score.output_stride,
            pad_size=released.pad_size,
        ),
        expected_mean_iou=score.mean_iou,
    )


if __name__ == "__main__":
    cli.run(main)
