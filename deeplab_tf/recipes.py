"""Recipes of DeepLabv3+: what to train, as data, with the source of every number."""

from __future__ import annotations

import dataclasses

from deeplab_tf.config import DataConfig, EvalConfig, Recipe, TrainConfig
from deeplab_tf.model import DeepLabV3Plus

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

RECIPES: dict[str, Recipe] = {
    "quickstart_shapes": _QUICKSTART,
    "quickstart_shapes_no_decoder": dataclasses.replace(
        _QUICKSTART, model=dataclasses.replace(_QUICKSTART.model, decoder=False)
    ),
    "deeplabv3plus_mobilenet_v2_finetune": _FINETUNE,
}
