"""Recipes for CamVid on a laptop: the best DeepLabv3+, and networks that differ by one choice.

FastFCN's, the best of all among them, are in jpu_tf/camvid_recipes.py. All of them start from the
released MobileNetV2 of PASCAL VOC. Every number is ours: CamVid is in neither paper.
docs/results.md has what was tried, and the scores.
"""

from __future__ import annotations

from deeplab_tf.data.augment import RandomCrop, RandomFlip, RandomScale
from deeplab_tf.data.datasets import Release
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.parts import ModelConfig, Recipe, Train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly

BACKBONE = "mobilenet_v2"
BATCH_NORM_MOMENTUM = 0.99  # thousands of steps, not tens of thousands
CHANNELS = 128  # ours: of JPU, heads and half-size decoders, for the time they take
START = "mobilenetv2_coco_voc_trainaug"  # in the model zoo


def camvid(
    model: ModelConfig, *, scale: float = 1.0, train: Train, predict: WholeImage | None = None
) -> Recipe:
    """A recipe for CamVid, with crops of the images' size, 360x480 times `scale`.

    Args:
      model: of the recipe.
      scale: of training and evaluation; below 1, the network sees smaller images.
      train: of the recipe.
      predict: of the recipe; None: at `scale` alone.
    """
    return Recipe(
        model=model,
        dataset=Release(name="camvid"),
        augment=(
            RandomScale(low=0.75 * scale, high=2.0 * scale),
            RandomCrop(size=round(360 * scale), width=round(480 * scale)),
            RandomFlip(),
        ),
        optimizer=SGD(
            lr_multipliers=(("backbone_", 0.3),),  # its weights are trained, the head's are new
        ),
        schedule=Poly(base_lr=0.12),
        # Half of CamVid's classes have 1 % of its pixels or less. The weights themselves, and their
        # square roots, find them in too many places.
        loss=CrossEntropy(class_balance="median_frequency", class_balance_power=0.25),
        train=train,
        predict=WholeImage(scales=(scale,)) if predict is None else predict,
    )


def full_size(model: ModelConfig, *, scales: tuple[float, ...]) -> Recipe:
    """A training on whole photos, which are predicted at these scales and flipped."""
    # 4220 steps of 0.85 to 1.4 s on two cores. One evaluation, at the end: val chooses no weights.
    train = Train(epochs=46, batch_size=4, save_every=200, eval_every=10_000)
    return camvid(model, train=train, predict=WholeImage(scales=scales, flip=True))


def half_size(model: ModelConfig) -> Recipe:
    """A short training, on images of half the size, to compare networks by."""
    # One evaluation, at the end: val chooses nothing.
    train = Train(steps=400, batch_size=8, save_every=200, eval_every=400)
    return camvid(model, scale=0.5, train=train)


def _deeplab(**options) -> DeepLabV3PlusConfig:
    return DeepLabV3PlusConfig(
        backbone=BACKBONE, batch_norm_momentum=BATCH_NORM_MOMENTUM, **options
    )


def _half(**options) -> Recipe:
    model = _deeplab(
        atrous_rates=(2, 4, 6),  # half of camvid_deeplabv3plus's
        decoder_convs=((3, CHANNELS), (3, CHANNELS)),
        **options,
    )
    return half_size(model)


RECIPES: dict[str, Recipe] = {
    # The largest rate is half of the feature map's 23 rows; the paper's 18 is that of 33.
    "camvid_deeplabv3plus": full_size(
        _deeplab(atrous_rates=(4, 8, 12)), scales=(0.75, 1.0, 1.25, 1.5)
    ),
    "camvid_half_decoder": _half(),
    "camvid_half_no_decoder": _half(decoder=False),
    "camvid_half_not_separable": _half(separable=False),
    "camvid_half_no_pooling": _half(image_pooling=False),
}

# Recipe -> the released network whose weights it starts from.
STARTS: dict[str, str] = dict.fromkeys(RECIPES, START)
