"""Recipes of DeepLabv3+: what to train, as data, with the source of every number.

All but the quickstarts start from released weights, which --init_weights names.
"""

from __future__ import annotations

import dataclasses

from deeplab_tf.data.augment import RandomCrop, RandomFlip, RandomScale
from deeplab_tf.data.datasets import Folder, Release, Shapes
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.parts import Dataset, Recipe, Train
from deeplab_tf.released import CITYSCAPES_SCALES, VOC_SCALES
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly

# A small network and the embedded dataset: minutes on a laptop. Every number is ours.
_QUICKSTART = Recipe(
    model=DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny",
        output_stride=16,
        atrous_rates=(1, 2, 4),  # the feature map is 8x8 pixels; 6 would leave it
        aspp_channels=64,
        low_level_channels=24,
        decoder_convs=((3, 64), (3, 64)),
        batch_norm_momentum=0.97,  # hundreds of steps, not tens of thousands
    ),
    dataset=Shapes(num_examples=1000),
    augment=(RandomScale(low=0.75, high=1.5), RandomCrop(size=128), RandomFlip()),
    optimizer=SGD(),
    schedule=Poly(base_lr=0.05),
    loss=CrossEntropy(),
    train=Train(epochs=20, batch_size=8, log_every=20, save_every=500, eval_every=500),
    predict=WholeImage(),
)

# Fine-tuning on photos of one's own, from released weights. What is not marked is ours: made for
# some hundred photos and for batches that fit a small machine.
_FINETUNE = Recipe(
    model=DeepLabV3PlusConfig(
        backbone="mobilenet_v2",
        output_stride=16,
        batch_norm_momentum=0.99,  # thousands of steps, not tens of thousands
    ),
    dataset=Folder(),
    augment=(
        RandomScale(low=0.5, high=2.0),  # code
        RandomCrop(size=321),
        RandomFlip(),
    ),
    optimizer=SGD(
        lr_multipliers=(("backbone_", 0.3),),  # its weights are trained, the head's are new
        weight_decay=4e-5,  # code
    ),
    schedule=Poly(base_lr=0.02),
    loss=CrossEntropy(),
    train=Train(epochs=40, batch_size=8, save_every=200, eval_every=400),
    predict=WholeImage(),
)


def _recipe(
    model: DeepLabV3PlusConfig,
    dataset: Dataset,
    mean_iou: float,
    *,
    train: Train,
    crop_size: int,
    predict: WholeImage,
) -> Recipe:
    """A row of a table; what all tables share."""
    return Recipe(
        model=model,
        dataset=dataset,
        augment=(
            RandomScale(
                low=0.5,  # cited: DeepLabv3, Sec. 4.1, with the 2.0
                high=2.0,
                step=0.25,  # code
            ),
            RandomCrop(size=crop_size),
            RandomFlip(),
        ),  # code: the order
        optimizer=SGD(
            momentum=0.9,  # code
            # code: what its flags advise for the two families
            weight_decay=1e-4 if model.backbone.startswith("resnet") else 4e-5,
            lr_multipliers=(("logits/bias", 2.0),),  # code
        ),
        schedule=Poly(
            base_lr=0.007,  # paper: Sec. 4
            power=0.9,  # cited: Chen et al. 2017 (DeepLabv3), Sec. 4.1
        ),
        loss=CrossEntropy(),
        train=train.replace(
            save_every=1_000,  # ours
            # ours: evaluations at many scales, twice, take as long as training; one at its end
            eval_every=train.steps if len(predict.scales) > 1 else 5_000,
        ),
        predict=predict,
        expected_mean_iou=mean_iou,
    )


def _voc(
    backbone: str,
    mean_iou: float,
    *,
    output_stride: int = 16,
    decoder: bool = True,
    separable: bool = False,
    best_evaluation: bool = False,
) -> Recipe:
    """A row of Tables 3 and 5, from ImageNet weights of the backbone.

    Args:
      backbone: of the heading.
      mean_iou: percent.
      output_stride: the column 'train OS', and 'eval OS' too unless by the best evaluation.
      decoder: the column of that name.
      separable: the column 'SC'.
      best_evaluation: 'eval OS' 8, 'MS' and 'Flip'. It is trained as the row without: a trained
        workdir gives both, by --predict.output_stride, --predict.scales and --predict.flip of
        evaluate.py.
    """
    evaluation = {"output_stride": 8, "scales": VOC_SCALES, "flip": True}
    return _recipe(
        DeepLabV3PlusConfig(
            backbone=backbone, output_stride=output_stride, decoder=decoder, separable=separable
        ),
        Release(name="voc2012"),
        mean_iou,
        train=Train(
            steps=30_000,  # cited: DeepLabv3, Sec. 4.1
            batch_size=16,  # cited: DeepLabv3, Sec. 4.1
            split="trainaug",  # paper: Sec. 4
        ),
        crop_size=513,  # paper: Sec. 4
        predict=WholeImage(
            pad_size=(513, 513),  # code
            **(evaluation if best_evaluation else {}),
        ),
    )


def _cityscapes(
    backbone: str,
    mean_iou: float,
    *,
    decoder: bool = True,
    image_pooling: bool = True,
    best_evaluation: bool = False,
) -> Recipe:
    """A row of Table 7 (a), from ImageNet weights of the backbone.

    The text gives neither rate nor batch for Cityscapes; here they are VOC's.

    Args:
      backbone: the column of that name.
      mean_iou: percent.
      decoder: the column of that name.
      image_pooling: the column 'Image-Level'.
      best_evaluation: at output stride 8, three scales and flipped, as in the model zoo (code).
    """
    evaluation = {"output_stride": 8, "scales": CITYSCAPES_SCALES, "flip": True}
    return _recipe(
        DeepLabV3PlusConfig(
            backbone=backbone,
            output_stride=16,  # code: the model zoo's
            decoder=decoder,
            image_pooling=image_pooling,
            separable=True,  # code: the released network's
        ),
        Release(name="cityscapes"),
        mean_iou,
        train=Train(
            steps=90_000,  # code
            batch_size=16,  # ours: VOC's
        ),
        crop_size=769,  # code
        predict=WholeImage(
            pad_size=(1025, 2049),  # code
            **(evaluation if best_evaluation else {}),
        ),
    )


# Rows that evaluate one trained network in other ways are left out, except the best:
# `benchmark.py --table=deeplab3` and deeplab5 list all of them.
RECIPES: dict[str, Recipe] = {
    "quickstart_shapes": _QUICKSTART,
    "quickstart_shapes_no_decoder": dataclasses.replace(
        _QUICKSTART, model=dataclasses.replace(_QUICKSTART.model, decoder=False)
    ),
    "deeplabv3plus_mobilenet_v2_finetune": _FINETUNE,
    # paper: Tab. 3. Its ResNet-101 has a stem of three convolutions and multi-grid (code).
    "deeplabv3_resnet101_voc2012_os16": _voc("resnet101", 77.21, decoder=False),
    "deeplabv3_resnet101_voc2012_os32": _voc("resnet101", 75.43, decoder=False, output_stride=32),
    "deeplabv3plus_resnet101_voc2012_os16": _voc("resnet101", 78.85),
    "deeplabv3plus_resnet101_voc2012_os16_best": _voc("resnet101", 80.57, best_evaluation=True),
    "deeplabv3plus_resnet101_voc2012_os32": _voc("resnet101", 77.37, output_stride=32),
    # paper: Tab. 5
    "deeplabv3_xception65_voc2012_os16": _voc("xception65", 79.17, decoder=False),
    "deeplabv3plus_xception65_voc2012_os16_not_separable": _voc("xception65", 79.93),
    "deeplabv3plus_xception65_voc2012_os16": _voc("xception65", 79.79, separable=True),
    "deeplabv3plus_xception65_voc2012_os16_best": _voc(
        "xception65", 81.39, separable=True, best_evaluation=True
    ),
    # paper: Tab. 5, 'COCO': from weights trained on ImageNet and then on MS-COCO
    "deeplabv3plus_xception65_coco_voc2012_os16": _voc("xception65", 82.20, separable=True),
    "deeplabv3plus_xception65_coco_voc2012_os16_best": _voc(
        "xception65", 83.58, separable=True, best_evaluation=True
    ),
    # paper: Tab. 7 (a), of the published version
    "deeplabv3_xception65_cityscapes_os16": _cityscapes("xception65", 77.33, decoder=False),
    "deeplabv3plus_xception65_cityscapes_os16": _cityscapes("xception65", 78.79),
    "deeplabv3plus_xception65_cityscapes_os16_no_pooling": _cityscapes(
        "xception65", 79.14, image_pooling=False
    ),
    "deeplabv3plus_xception71_cityscapes_os16_no_pooling": _cityscapes(
        "xception71", 79.55, image_pooling=False
    ),
    # code: the model zoo
    "deeplabv3plus_xception65_cityscapes_os16_best": _cityscapes(
        "xception65", 80.42, best_evaluation=True
    ),
}
