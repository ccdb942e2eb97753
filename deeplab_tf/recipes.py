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
        atrous_rates=(1, 2, 4),  # ours: the feature map is 8x8 pixels; 6 would leave it
        aspp_channels=64,
        low_level_channels=24,
        decoder_channels=64,
        batch_norm_momentum=0.9,  # ours: hundreds of steps, not tens of thousands
    ),
    data=DataConfig(
        dataset="shapes",
        num_examples=600,
        crop_size=128,
        batch_size=8,
        scale_range=(0.75, 1.5),
    ),
    train=TrainConfig(epochs=16, base_lr=0.05, log_every=20, save_every=300, eval_every=300),
)

# Fine-tuning on photos of one's own, from released weights. `code:` numbers are the flag
# defaults of the released code, the rest is ours.
_FINETUNE = Recipe(
    model=DeepLabV3Plus(
        backbone="mobilenet_v2",
        output_stride=16,
        fine_tune_batch_norm=False,  # code: for batches below 16; ours: the released weights'
        # normalization is folded, so their batch statistics are unknown
    ),
    data=DataConfig(dataset="folder", crop_size=321, batch_size=8),
    train=TrainConfig(
        epochs=60,
        base_lr=0.01,
        weight_decay=4e-5,  # code
        lr_multipliers=(("backbone_", 0.1),),
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
