"""Recipes of DeepLabv3+: what to train, as data, with the source of every number.

All but the quickstarts start from released weights, which --init_weights names.
"""

from __future__ import annotations

import dataclasses

from deeplab_tf.recipe.options import DataConfig, EvalConfig, Recipe, TrainConfig
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.released import CITYSCAPES_SCALES, VOC_SCALES

# A small network and the embedded dataset: minutes on a laptop. Every number is ours.
_QUICKSTART = Recipe(
    model=DeepLabV3Plus(
        backbone="mobilenet_v2_tiny",
        output_stride=16,
        atrous_rates=(1, 2, 4),  # the feature map is 8x8 pixels; 6 would leave it
        aspp_channels=64,
        low_level_channels=24,
        decoder_convs=((3, 64), (3, 64)),
        batch_norm_momentum=0.97,  # hundreds of steps, not tens of thousands
    ),
    data=DataConfig(
        dataset="shapes",
        num_examples=1000,
        crop_size=128,
        batch_size=8,
        scale_range=(0.75, 1.5),
    ),
    train=TrainConfig(epochs=20, base_lr=0.05, log_every=20, save_every=500, eval_every=500),
)

# Fine-tuning on photos of one's own, from released weights. What is not marked is ours: made for
# some hundred photos and for batches that fit a small machine.
_FINETUNE = Recipe(
    model=DeepLabV3Plus(
        backbone="mobilenet_v2",
        output_stride=16,
        batch_norm_momentum=0.99,  # thousands of steps, not tens of thousands
    ),
    data=DataConfig(
        dataset="folder",
        crop_size=321,
        batch_size=8,
        scale_range=(0.5, 2.0),  # code
    ),
    train=TrainConfig(
        epochs=40,
        base_lr=0.02,
        lr_multipliers=(("backbone_", 0.3),),  # its weights are trained, the head's are new
        weight_decay=4e-5,  # code
        save_every=200,
        eval_every=400,
    ),
    eval=EvalConfig(split="val"),
)

_TRAIN = {
    "base_lr": 0.007,  # paper: Sec. 4
    "poly_power": 0.9,  # cited: Chen et al. 2017 (DeepLabv3), Sec. 4.1
    "momentum": 0.9,  # code
    "lr_multipliers": (("logits/bias", 2.0),),  # code
    "save_every": 1_000,  # ours
}
_AUGMENTATION = {
    "augmentations": ("random_scale", "random_crop", "random_flip"),  # code: the order
    "scale_range": (0.5, 2.0),  # cited: DeepLabv3, Sec. 4.1
    "scale_step": 0.25,  # code
}


def _recipe(model: DeepLabV3Plus, data: DataConfig, steps: int, mean_iou: float, **eval_) -> Recipe:
    """A row of a table; `eval_` are fields of EvalConfig."""
    return Recipe(
        model=model,
        data=data,
        train=TrainConfig(
            steps=steps,
            # code: what its flags advise for the two families
            weight_decay=1e-4 if model.backbone.startswith("resnet") else 4e-5,
            # ours: evaluations at many scales, twice, take as long as training; one at its end
            eval_every=steps if "scales" in eval_ else 5_000,
            **_TRAIN,
        ),
        eval=EvalConfig(**eval_),
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
        workdir gives both, by --eval.output_stride, --eval.scales and --eval.flip of evaluate.py.
    """
    evaluation = {"output_stride": 8, "scales": VOC_SCALES, "flip": True}
    return _recipe(
        DeepLabV3Plus(
            backbone=backbone, output_stride=output_stride, decoder=decoder, separable=separable
        ),
        DataConfig(
            dataset="voc2012",
            train_split="trainaug",  # paper: Sec. 4
            crop_size=513,  # paper: Sec. 4
            batch_size=16,  # cited: DeepLabv3, Sec. 4.1
            **_AUGMENTATION,
        ),
        30_000,  # cited: DeepLabv3, Sec. 4.1
        mean_iou,
        pad_size=(513, 513),  # code
        **(evaluation if best_evaluation else {}),
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
        DeepLabV3Plus(
            backbone=backbone,
            output_stride=16,  # code: the model zoo's
            decoder=decoder,
            image_pooling=image_pooling,
            separable=True,  # code: the released network's
        ),
        DataConfig(
            dataset="cityscapes",
            crop_size=769,  # code
            batch_size=16,  # ours: VOC's
            **_AUGMENTATION,
        ),
        90_000,  # code
        mean_iou,
        pad_size=(1025, 2049),  # code
        **(evaluation if best_evaluation else {}),
    )


# The rows at which one trained network is seen by other evaluations are left out, but for the
# best: `benchmark.py --table=deeplab3` and deeplab5 list all of them.
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
