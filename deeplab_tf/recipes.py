"""Recipes of DeepLabv3+: what to train, as data, with the source of every number.

All but the quickstarts start from released weights, which --init_weights names.
"""

from __future__ import annotations

import dataclasses
from typing import Any

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
        # The paper's (6, 12, 18) for the feature maps of these crops, 21x21 instead of 33x33: at
        # rate 18 most outer weights would meet padding alone, and spoil larger photos untrained.
        atrous_rates=(4, 8, 12),
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


# What another stage of training, on data whose scores only a test server tells, changes.
_SECOND_STAGE = {
    "output_stride": 8,  # paper: Sec. 4.3; cited: DeepLabv3, Sec. 4.1
    "batch_norm": "frozen",  # paper: Sec. 4.3; cited: DeepLabv3, Sec. 4.1
}
_SECOND_STAGE_LR = 0.001  # cited: DeepLabv3, Sec. 4.1; code: 0.0001
# cited: DeepLabv3, Sec. 4.3; code: 0.007 for 'trainaug' whatever the weights
_FROM_COCO_LR = 0.0001


def _recipe(
    model: DeepLabV3PlusConfig,
    dataset: Dataset,
    mean_iou: float | None,
    *,
    train: Train,
    crop_size: int,
    predict: WholeImage,
    base_lr: float = 0.007,  # paper: Sec. 4
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
            base_lr=base_lr,
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
    mean_iou: float | None,
    *,
    separable: bool = False,
    best_evaluation: bool = False,
    split: str = "trainaug",  # paper: Sec. 4
    base_lr: float = 0.007,  # paper: Sec. 4
    **model: Any,
) -> Recipe:
    """A row of Tables 1 to 3, 5 and 6, from ImageNet weights of the backbone unless it says so.

    Args:
      backbone: of the heading.
      mean_iou: percent.
      separable: the column 'SC'.
      best_evaluation: 'eval OS' 8, 'MS' and 'Flip'. It is trained as the row without: a trained
        workdir gives both, by --predict.output_stride, --predict.scales and --predict.flip of
        evaluate.py.
      split: to train on.
      base_lr: the learning rate at the start.
      **model: other options of the network; output_stride is the column 'train OS', and 'eval OS'
        too unless by the best evaluation.
    """
    evaluation = {"output_stride": 8, "scales": VOC_SCALES, "flip": True}
    model = DeepLabV3PlusConfig(backbone=backbone, separable=separable, **model)
    return _recipe(
        model,
        Release(name="voc2012"),
        mean_iou,
        train=Train(
            steps=30_000,  # cited: DeepLabv3, Sec. 4.1
            # cited: DeepLabv3, Sec. 4.1, and App. A for output stride 32
            batch_size=24 if model.output_stride == 32 else 16,
            split=split,
        ),
        crop_size=513,  # paper: Sec. 4
        predict=WholeImage(
            pad_size=(513, 513),  # code
            **(evaluation if best_evaluation else {}),
        ),
        base_lr=base_lr,
    )


def _coco_voc(backbone: str) -> Recipe:
    """The stage before 'COCO' in Table 5; the paper gives no score of it.

    Its images, of COCO's train split of 2017, are those of the 'trainval_minus_minival' that
    DeepLabv3 names (Sec. 4.3).
    """
    return _recipe(
        DeepLabV3PlusConfig(backbone=backbone, separable=True),
        Release(name="coco_voc"),
        None,
        train=Train(
            epochs=30,  # code: FastFCN's for this data; neither DeepLab paper gives a length
            batch_size=16,  # cited: DeepLabv3, Sec. 4.3: the protocol of Sec. 4.1
        ),
        crop_size=513,
        predict=WholeImage(),
    )


def _cityscapes(
    backbone: str,
    mean_iou: float | None,
    *,
    best_evaluation: bool = False,
    split: str = "train",
    base_lr: float = 0.007,  # paper: Sec. 4
    **model: Any,
) -> Recipe:
    """A row of Table 7, from ImageNet weights of the backbone unless it says so.

    Args:
      backbone: the column of that name.
      mean_iou: percent.
      best_evaluation: at output stride 8, three scales and flipped, as in the model zoo (code).
      split: to train on.
      base_lr: the learning rate at the start.
      **model: other options of the network.
    """
    evaluation = {"output_stride": 8, "scales": CITYSCAPES_SCALES, "flip": True}
    return _recipe(
        # code: the released network is separable, and the model zoo's output stride is 16
        DeepLabV3PlusConfig(backbone=backbone, separable=True, **model),
        Release(name="cityscapes"),
        mean_iou,
        train=Train(
            steps=90_000,  # cited: DeepLabv3, App. C
            batch_size=16,  # cited: DeepLabv3, App. C: the protocol of Sec. 4.1
            split=split,
        ),
        crop_size=769,  # cited: DeepLabv3, App. C
        predict=WholeImage(
            pad_size=(1025, 2049),  # code; cited: DeepLabv3, App. C: the whole image
            **(evaluation if best_evaluation else {}),
        ),
        base_lr=base_lr,
    )


# Rows that evaluate one trained network in other ways are left out, except the best: tables.py
# lists all of them, and reproduce.py runs them.
RECIPES: dict[str, Recipe] = {
    "quickstart_shapes": _QUICKSTART,
    "quickstart_shapes_no_decoder": dataclasses.replace(
        _QUICKSTART, model=dataclasses.replace(_QUICKSTART.model, decoder=False)
    ),
    "deeplabv3plus_mobilenet_v2_finetune": _FINETUNE,
    # paper: Tab. 1 and 2. With 48 channels, Tab. 1 and 2 have the same network and score.
    "deeplabv3plus_resnet101_voc2012_os16_conv_low_level_8": _voc(
        "resnet101", 77.61, decoder_convs=((3, 256),), low_level_channels=8
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv_low_level_16": _voc(
        "resnet101", 77.92, decoder_convs=((3, 256),), low_level_channels=16
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv_low_level_32": _voc(
        "resnet101", 78.16, decoder_convs=((3, 256),), low_level_channels=32
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv": _voc(
        "resnet101", 78.21, decoder_convs=((3, 256),)
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv_low_level_64": _voc(
        "resnet101", 77.94, decoder_convs=((3, 256),), low_level_channels=64
    ),
    "deeplabv3plus_resnet101_voc2012_os16_three_convs": _voc(
        "resnet101", 78.02, decoder_convs=((3, 256),) * 3
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv_128": _voc(
        "resnet101", 77.25, decoder_convs=((3, 128),)
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv_1x1": _voc(
        "resnet101", 78.07, decoder_convs=((1, 256),)
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv3_conv2": _voc(
        "resnet101", 78.61, decoder_convs=((3, 256),), decoder_features=("conv3", "conv2")
    ),
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
    # paper: Tab. 5, 'COCO': from the weights of the first of these three
    "deeplabv3plus_xception65_coco_voc_os16": _coco_voc("xception65"),
    "deeplabv3plus_xception65_coco_voc2012_os16": _voc(
        "xception65", 82.20, separable=True, base_lr=_FROM_COCO_LR
    ),
    "deeplabv3plus_xception65_coco_voc2012_os16_best": _voc(
        "xception65", 83.58, separable=True, base_lr=_FROM_COCO_LR, best_evaluation=True
    ),
    # paper: Tab. 6, 87.8 by the test server; from the weights of ..._coco_voc2012_os16. Val is a
    # part of what it is trained on, so that its score on val says nothing.
    "deeplabv3plus_xception65_coco_voc2012_os8_test": _voc(
        "xception65",
        None,
        separable=True,
        best_evaluation=True,
        split="trainval_hard",  # cited: DeepLabv3, Sec. 4.3
        base_lr=_SECOND_STAGE_LR,
        **_SECOND_STAGE,
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
    # paper: Tab. 7 (b), 82.1 by the test server; from the weights of the last one. The paper names
    # the coarse labels alone; ours: the rest is VOC's second stage.
    "deeplabv3plus_xception71_cityscapes_os8_no_pooling_test": _cityscapes(
        "xception71",
        None,
        image_pooling=False,
        best_evaluation=True,
        split="trainval_extra",
        base_lr=_SECOND_STAGE_LR,
        **_SECOND_STAGE,
    ),
    # code: the model zoo
    "deeplabv3plus_xception65_cityscapes_os16_best": _cityscapes(
        "xception65", 80.42, best_evaluation=True
    ),
}

# Recipe -> the recipe whose weights it starts from; the other published ones start from ImageNet.
STARTS: dict[str, str] = {
    "deeplabv3plus_xception65_coco_voc2012_os16": "deeplabv3plus_xception65_coco_voc_os16",
    "deeplabv3plus_xception65_coco_voc2012_os16_best": "deeplabv3plus_xception65_coco_voc_os16",
    "deeplabv3plus_xception65_coco_voc2012_os8_test": "deeplabv3plus_xception65_coco_voc2012_os16",
    "deeplabv3plus_xception71_cityscapes_os8_no_pooling_test": (
        "deeplabv3plus_xception71_cityscapes_os16_no_pooling"
    ),
}
