r"""Turns a file of released weights into a workdir that every other script reads.

python scripts/convert_weights.py --input=model.ckpt --output=runs/voc
python scripts/convert_weights.py --released=xception65_coco_voc_trainaug --input=model.ckpt \
    --output=runs/voc
python scripts/convert_weights.py --input=model_best.pth.tar --output=runs/context
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import cli
from absl import flags

from deeplab_tf import weights, zoo
from deeplab_tf.data.datasets import Folder, Release
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.export.directory import check_new, whole_directory
from deeplab_tf.recipe.dataset_spec import DatasetSpec, distinct_palette
from deeplab_tf.recipe.files import read_class_names
from deeplab_tf.recipe.options import lookup
from deeplab_tf.recipe.parts import Eval, Recipe, Train
from deeplab_tf.released import NOT_OF_THE_PAPERS, RELEASED, Released, released_checkpoint
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly
from jpu_tf.sliding_window import SlidingWindow

if TYPE_CHECKING:
    import keras

_RELEASED = flags.DEFINE_string(
    "released",
    None,
    "name of the checkpoint in DeepLab's model zoo: checks the file, and stores its dataset, how"
    f" it was evaluated and its score; {', '.join(RELEASED)}. Of neither paper, and not supported:"
    f" {', '.join(NOT_OF_THE_PAPERS)}",
)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "a checkpoint (prefix or directory), frozen graph (.pb) or .npz file of DeepLab's TensorFlow 1"
    " code, or a .pth file of FastFCN's; recognized by its content",
)
_OUTPUT = flags.DEFINE_string("output", None, "workdir to write; must be empty or absent")
_OUTPUT_STRIDE = flags.DEFINE_enum(
    "output_stride", None, ["8", "16", "32"], "to run the network at; default: the network's"
)
_NUM_CLASSES = flags.DEFINE_integer(
    "num_classes",
    None,
    "outputs of a new, randomly initialized classifier; needed for a backbone alone",
    lower_bound=2,
    upper_bound=65535,  # of the labels that pictures can hold
)
_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    f"whose classes these are: {', '.join(RELEASES)}; default: guessed by their number",
)
_CLASS_NAMES_FILE = flags.DEFINE_string("class_names_file", None, "one class name per line")

# Kind of a network -> how its authors predict.
_PREDICT = {"deeplabv3plus": WholeImage(), "fastfcn": SlidingWindow()}


def main(argv: list[str]) -> None:
    """Recognizes the network, loads the weights and saves both."""
    cli.no_arguments(argv)
    cli.require(input=_INPUT.value, output=_OUTPUT.value)
    check_new(_OUTPUT.value)
    released = None
    if _RELEASED.value is not None:
        released = released_checkpoint(_RELEASED.value)
    if _DATASET.value is not None:
        lookup(RELEASES, _DATASET.value, "dataset")
    class_names = None
    if _CLASS_NAMES_FILE.value is not None:
        class_names = read_class_names(_CLASS_NAMES_FILE.value, "--class_names_file")
    _check_input(released)

    cli.import_tensorflow()
    from deeplab_tf.training.workdir import contents
    from deeplab_tf.training.workdir.checkpoints import Checkpointer

    options = {"output_stride": int(_OUTPUT_STRIDE.value)} if _OUTPUT_STRIDE.value else {}
    found = weights.recognize(
        _INPUT.value, namings=zoo.namings(), model_configs=zoo.MODELS, **options
    )
    print(f"recognized {found.text()}")
    if released is not None:
        _check_released(found, released)
    # With the outputs that only training needs, so that training can continue from them.
    model, report = found.build(_NUM_CLASSES.value, auxiliary=True)
    print(report.text())
    if released is not None and released.extra_class and _NUM_CLASSES.value is None:
        model = _without_first_class(found, model)
    spec = _spec(_num_classes(model), class_names, released)
    with whole_directory(_OUTPUT.value) as workdir:
        contents.save_recipe(workdir, _recipe(found, spec, released))
        contents.save_spec(workdir, spec)
        contents.save_source(workdir, os.path.basename(_INPUT.value), found.text())
        Checkpointer(workdir, model).save(1)
    print(f"wrote {_OUTPUT.value}; use it as --workdir, or as train.py's --init_weights")


def _check_input(released: Released | None) -> None:
    """Refuses what is not a file of weights before TensorFlow is imported, which takes seconds."""
    try:
        weights.find_format(_INPUT.value)
    except FileNotFoundError as error:
        if released is None:
            raise
        raise FileNotFoundError(
            f"{error} {_RELEASED.value} is in {released.url}; download it and unpack it with"
            " `tar xzf`."
        ) from None


def _check_released(found: weights.Pretrained, released: Released) -> None:
    """Compares what is in the file with what is known of the checkpoint."""
    if _fits(found, released):
        return
    others = [name for name, other in RELEASED.items() if _fits(found, other)]
    hint = f" It may be {' or '.join(others)}." if others else ""
    expected = weights.description(released.model, released.num_classes)
    raise ValueError(
        f"{_INPUT.value} must be {_RELEASED.value}, {expected}; it is {found.text()}.{hint} Give"
        " its own name, or leave --released out."
    )


def _fits(found: weights.Pretrained, released: Released) -> bool:
    if type(found.config) is not type(released.model) or found.num_classes != released.num_classes:
        return False
    if released.num_classes is None:  # a backbone alone
        return found.config.backbone == released.model.backbone
    # What the weights leave open.
    own = {"output_stride": found.config.output_stride, "multi_grid": found.config.multi_grid}
    return found.config == released.model.replace(**own)


def _without_first_class(found: weights.Pretrained, model: keras.Model) -> keras.Model:
    from deeplab_tf.layers.names import LOGITS

    print("left out: the logit of class 0, which is for unlabeled pixels")
    arrays = {name: weight.numpy() for name, weight in weights.weights_by_name(model).items()}
    for name in (f"{LOGITS}/kernel", f"{LOGITS}/bias"):
        arrays[name] = arrays[name][..., 1:]
    smaller = found.config.build(_num_classes(model) - 1, auxiliary=True)
    weights.fit_weights(smaller, arrays)
    return smaller


def _num_classes(model: keras.Model) -> int:
    from deeplab_tf.layers.names import LOGITS

    return model.output[LOGITS].shape[-1]


def _spec(
    num_classes: int, class_names: tuple[str, ...] | None, released: Released | None
) -> DatasetSpec:
    """The classes of the network."""
    known = None if _NUM_CLASSES.value is not None or released is None else released.dataset
    name = _DATASET.value or known
    if class_names is not None:
        _check_number(_CLASS_NAMES_FILE.value, len(class_names), num_classes)
    elif name is not None:
        spec = zoo.released_spec(name)
        _check_number(name, spec.num_classes, num_classes)
        return spec
    elif num_classes in zoo.CLASSES_OF:
        name = zoo.CLASSES_OF[num_classes]
        print(f"assuming the {num_classes} classes of {name}; --dataset changes that")
        return zoo.released_spec(name)
    return DatasetSpec(
        name=name or os.path.splitext(os.path.basename(os.path.normpath(_INPUT.value)))[0],
        class_names=class_names or tuple(f"class_{i}" for i in range(num_classes)),
        ignore_label=255 if num_classes <= 255 else 65535,
        palette=distinct_palette(num_classes),
        splits={},
    )


def _check_number(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"{where} has {found} classes; the network has {expected}. Give the network's with"
            " --dataset or --class_names_file."
        )


def _recipe(found: weights.Pretrained, spec: DatasetSpec, released: Released | None) -> Recipe:
    """What evaluate.py reads: the dataset, and how the checkpoint was evaluated if it is known."""
    recipe = Recipe(
        model=found.config,
        dataset=Release(name=spec.name) if spec.name in RELEASES else Folder(),
        augment=(),
        optimizer=SGD(),
        schedule=Poly(),
        loss=CrossEntropy(),
        train=Train(steps=1),
        predict=_PREDICT[found.config.kind],
    )
    if released is None or not released.scores or _NUM_CLASSES.value is not None:
        return recipe
    score = released.scores[0]
    return dataclasses.replace(
        recipe,
        predict=released.predict(score),
        eval=Eval(split=score.split),
        expected_mean_iou=score.mean_iou,
    )


if __name__ == "__main__":
    cli.run(main)
