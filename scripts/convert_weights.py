"""Turns released weights into a workdir that every other script reads.

python scripts/convert_weights.py --source=deeplab_tf1 --input=model.ckpt --output=runs/voc
"""

from __future__ import annotations

import os

import cli
from absl import flags

from deeplab_tf.config import DataConfig, Recipe, TrainConfig

_SOURCE = flags.DEFINE_string(
    "source", None, "deeplab_tf1: checkpoint; deeplab_tf1_pb: frozen graph; deeplab_tf1_npz: arrays"
)
_INPUT = flags.DEFINE_string("input", None, "the file")
_OUTPUT = flags.DEFINE_string("output", None, "workdir to write; must not exist yet")
_OUTPUT_STRIDE = flags.DEFINE_integer("output_stride", 16, "that the network shall run at")
_NUM_CLASSES = flags.DEFINE_integer("num_classes", None, "where the file has a backbone alone")
_CLASS_NAMES_FILE = flags.DEFINE_string(
    "class_names_file", None, "a class name a line; 21 classes are PASCAL VOC's without it"
)

# cited: Everingham et al., the PASCAL VOC challenge; label order of its segmentation task
_VOC_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse"
    " motorbike person pottedplant sheep sofa train tvmonitor"
).split()


def main(argv: list[str]) -> None:
    """Recognises the network, fills it and saves it."""
    cli.no_arguments(argv)
    cli.require(source=_SOURCE.value, input=_INPUT.value, output=_OUTPUT.value)
    if os.path.exists(_OUTPUT.value) and os.listdir(_OUTPUT.value):
        raise ValueError(f"{_OUTPUT.value} is not empty; choose another --output or remove it.")
    cli.import_tensorflow()
    from deeplab_tf import checkpoints, pretrained, weights
    from deeplab_tf.data.spec import DatasetSpec, bit_palette

    config, num_classes, released = pretrained.recognise(
        _INPUT.value, source=_SOURCE.value, output_stride=_OUTPUT_STRIDE.value
    )
    print(f"recognised {config}, {num_classes or 'no'} classes")
    backbone_alone = num_classes is None
    num_classes = num_classes or _NUM_CLASSES.value
    if num_classes is None:
        raise ValueError(f"{_INPUT.value} holds a backbone alone; give --num_classes for its head.")
    model = config.build(num_classes)
    print(weights.fit_released(model, released, partial=backbone_alone).text())
    spec = DatasetSpec(
        name=os.path.splitext(os.path.basename(_INPUT.value))[0],
        class_names=_class_names(num_classes),
        ignore_label=255 if num_classes <= 255 else 65535,
        palette=bit_palette(num_classes),
        splits={},
    )
    recipe = Recipe(model=config, data=DataConfig(), train=TrainConfig(steps=1))
    checkpoints.save_recipe(_OUTPUT.value, recipe)
    checkpoints.save_spec(_OUTPUT.value, spec)
    checkpoints.Checkpointer(_OUTPUT.value, model).save(1)
    print(f"wrote {_OUTPUT.value}; use it as --workdir, or as train.py's --init_weights")


def _class_names(num_classes: int) -> tuple[str, ...]:
    if _CLASS_NAMES_FILE.value is not None:
        with open(_CLASS_NAMES_FILE.value) as file:
            names = tuple(line.strip() for line in file if line.strip())
        if len(names) != num_classes:
            raise ValueError(
                f"{_CLASS_NAMES_FILE.value} must name {num_classes} classes; it names {len(names)}."
            )
        return names
    if num_classes == len(_VOC_CLASSES):
        return tuple(_VOC_CLASSES)
    return tuple(f"class_{i}" for i in range(num_classes))


if __name__ == "__main__":
    cli.run(main)
