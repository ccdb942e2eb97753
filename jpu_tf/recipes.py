"""Recipes of FastFCN: what to train, as data, with the source of every number.

All but the quickstart start from ImageNet weights of the backbone, which --init_weights names.
"""

from __future__ import annotations

import dataclasses

from deeplab_tf.data.augment import RandomCrop, RandomFlip
from deeplab_tf.data.datasets import Release, Shapes
from deeplab_tf.recipe.parts import Eval, Recipe, Train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly
from jpu_tf.augment import RandomBlur, RandomShortSide
from jpu_tf.heads import ASPP, PSP, Encoding, Head
from jpu_tf.model import FastFCNConfig
from jpu_tf.sliding_window import SlidingWindow
from jpu_tf.upsamplers import FPN, JPU, Bilinear, NoUpsampling, Upsampler

# A small network and the embedded dataset, minutes on a laptop, with what the paper's recipes have:
# their augmentations, decay of all weights and evaluation. Every number is ours.
_QUICKSTART = Recipe(
    model=FastFCNConfig(
        backbone="resnet_deep_stem_tiny",
        upsampler=JPU(channels=32),
        head=Encoding(channels=64),
    ),
    dataset=Shapes(num_examples=1000),
    augment=(
        RandomFlip(),
        RandomShortSide(short_side=144, low=0.75, high=1.5),
        # 1 more than a multiple of 32: then feature maps of all strides have their corners at the
        # same pixels, which raises the mean IoU by three points for images this small.
        RandomCrop(size=161, pad_color=0.0),
    ),
    optimizer=SGD(weight_decay=1e-4, decay_on="all"),
    schedule=Poly(base_lr=0.05),
    loss=CrossEntropy(),
    train=Train(epochs=14, batch_size=8, log_every=20, save_every=500, eval_every=500),
    predict=SlidingWindow(long_side=160, window_size=161),
    eval=Eval(absent_classes="zero"),
)

_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # code: the text says only "multiple scales"


def _recipe(
    backbone: str,
    head: Head,
    upsampler: Upsampler,
    mean_iou: float,
    *,
    dataset: str,
    base_lr: float,
    epochs: int,
    multi_scale: bool,
) -> Recipe:
    """A row of a table; the code's epochs leave out a last batch that is not full, ours do not."""
    new = ("head_", "aux_", *upsampler.prefixes)
    return Recipe(
        model=FastFCNConfig(
            backbone=f"{backbone}_deep_stem",  # code: the text says ResNet alone
            upsampler=upsampler,
            head=head,
            # code: of the version that gave the paper's results; for ASPP and PSP later 0.4. The
            # text has neither this loss nor the semantic encoding's (code: 0.2, its default).
            aux_weight=0.2,
        ),
        dataset=Release(name=dataset),
        # code: the order, the blur, and a scale that is of the shorter side
        augment=(
            RandomFlip(),
            RandomShortSide(
                short_side=520,  # code
                low=0.5,  # paper: Sec. 4.1, with the 2.0
                high=2.0,
            ),
            RandomCrop(
                size=480,  # paper: Sec. 4.1
                pad_color=0.0,  # code
            ),
            RandomBlur(),
        ),
        optimizer=SGD(
            momentum=0.9,  # paper: Sec. 4.1
            weight_decay=1e-4,  # paper: Sec. 4.1
            decay_on="all",  # code
            lr_multipliers=tuple((prefix, 10.0) for prefix in new),  # code
        ),
        schedule=Poly(
            base_lr=base_lr,
            power=0.9,  # paper: Sec. 4.1
        ),
        loss=CrossEntropy(),
        train=Train(
            epochs=epochs,
            batch_size=16,  # paper: Sec. 4.1
            save_every=1_000,  # ours
            # ours: evaluations at six scales, twice, take as long as training; one at its end
            eval_every=200_000 if multi_scale else 5_000,
        ),
        predict=SlidingWindow(
            scales=_SCALES if multi_scale else (1.0,),
            flip=multi_scale,  # code
            long_side=520,  # code
            window_size=480,  # code: that of training
        ),
        eval=Eval(absent_classes="zero"),  # code
        expected_mean_iou=mean_iou,
    )


def _pascal_context(
    backbone: str, head: Head, upsampler: Upsampler, mean_iou: float, *, multi_scale: bool = False
) -> Recipe:
    """59 classes, as the released code trains and scores.

    The paper's figures of 60 classes, in Table 3, are those of 59 times 59/60: background is
    never predicted, and its IoU counts as 0 (cited: issue 179 of PyTorch-Encoding, by the author
    of EncNet).
    """
    return _recipe(
        backbone,
        head,
        upsampler,
        mean_iou,
        dataset="pascal_context",
        base_lr=0.001,  # paper: Sec. 4.1
        epochs=80,  # paper: Sec. 4.1
        multi_scale=multi_scale,
    )


def _ade20k(backbone: str, mean_iou: float) -> Recipe:
    """Trained on 'train', scored on 'val'."""
    return _recipe(
        backbone,
        Encoding(),
        JPU(),
        mean_iou,
        dataset="ade20k",
        base_lr=0.01,  # paper: Sec. 4.3
        epochs=120,  # paper: Sec. 4.3
        multi_scale=True,  # code
    )


_ADE20K_RESNET101 = _ade20k("resnet101", 44.34)

RECIPES: dict[str, Recipe] = {
    "fastfcn_quickstart_shapes": _QUICKSTART,
    # paper: Tab. 1, without 'ms'; none: dilated to output stride 8, the others from 32
    "fastfcn_resnet50_pascal_context_encoding_none": _pascal_context(
        "resnet50", Encoding(), NoUpsampling(), 49.91
    ),
    "fastfcn_resnet50_pascal_context_encoding_bilinear": _pascal_context(
        "resnet50", Encoding(), Bilinear(), 46.47
    ),
    "fastfcn_resnet50_pascal_context_encoding_fpn": _pascal_context(
        "resnet50", Encoding(), FPN(), 49.59
    ),
    "fastfcn_resnet50_pascal_context_encoding_jpu": _pascal_context(
        "resnet50", Encoding(), JPU(), 51.05
    ),
    "fastfcn_resnet50_pascal_context_aspp_none": _pascal_context(
        "resnet50", ASPP(), NoUpsampling(), 49.19
    ),
    "fastfcn_resnet50_pascal_context_aspp_jpu": _pascal_context("resnet50", ASPP(), JPU(), 50.07),
    "fastfcn_resnet50_pascal_context_psp_none": _pascal_context(
        "resnet50", PSP(), NoUpsampling(), 50.58
    ),
    "fastfcn_resnet50_pascal_context_psp_jpu": _pascal_context("resnet50", PSP(), JPU(), 50.89),
    # paper: Sec. 4.3, the figures of 59 classes; in Tab. 3, of 60, they are 51.22 and 53.1
    "fastfcn_resnet50_pascal_context_encoding_jpu_ms": _pascal_context(
        "resnet50", Encoding(), JPU(), 52.10, multi_scale=True
    ),
    "fastfcn_resnet101_pascal_context_encoding_jpu_ms": _pascal_context(
        "resnet101", Encoding(), JPU(), 54.03, multi_scale=True
    ),
    # code: a row of its README without a script, which is EncNet's own network and had `lateral`;
    # paper: Tab. 3, of 60 classes, 51.7
    "fastfcn_resnet101_pascal_context_encoding_none_ms": _pascal_context(
        "resnet101", Encoding(), NoUpsampling(), 52.60, multi_scale=True
    ),
    # paper: Tab. 4
    "fastfcn_resnet50_ade20k_encoding_jpu_ms": _ade20k("resnet50", 42.75),
    "fastfcn_resnet101_ade20k_encoding_jpu_ms": _ADE20K_RESNET101,
    # paper: Tab. 5, a final score of 0.5584 by the test server; from the weights of the last one.
    # Val is a part of what it is trained on, so that its score on val says nothing.
    "fastfcn_resnet101_ade20k_encoding_jpu_ms_test": dataclasses.replace(
        _ADE20K_RESNET101,
        schedule=_ADE20K_RESNET101.schedule.replace(base_lr=0.001),  # paper: Sec. 4.3
        train=_ADE20K_RESNET101.train.replace(split="trainval", epochs=20),  # paper: Sec. 4.3
        expected_mean_iou=None,
    ),
}

# Recipe -> the recipe whose weights it starts from; the others start from ImageNet.
STARTS: dict[str, str] = {
    "fastfcn_resnet101_ade20k_encoding_jpu_ms_test": "fastfcn_resnet101_ade20k_encoding_jpu_ms",
}

# Backbone -> the file with its ImageNet weights. code: as PyTorch-Encoding distributes them
IMAGENET_FILES: dict[str, str] = {
    "resnet50_deep_stem": "resnet50-ebb6acbb.pth",
    "resnet101_deep_stem": "resnet101-2a57e44d.pth",
    "resnet152_deep_stem": "resnet152-0d43d698.pth",
}
