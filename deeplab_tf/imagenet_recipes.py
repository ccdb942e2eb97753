"""Recipes that train a backbone to classify images: DeepLabv3+ Sec. 4.3, and a small one.

A segmentation recipe starts from the workdir of such a run by --init_weights.
"""

from __future__ import annotations

from deeplab_tf.classifier import ClassifierConfig
from deeplab_tf.data.augment import RandomColor, RandomFlip, RandomResizedCrop
from deeplab_tf.data.datasets import DrawnClasses, TfdsClasses
from deeplab_tf.evaluation.classify import Classify
from deeplab_tf.recipe.parts import Eval, Recipe, Train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly, Step


def _imagenet(backbone: str, *, dropout: float) -> Recipe:
    """A row of Table 4.

    The paper trains asynchronously: each of 50 GPUs changes the weights after its own 32 images.
    Here a step is synchronous. At the paper's rate, batches of 1600 would make too few steps.

    Args:
      backbone: the column 'Model'.
      dropout: share of the pooled features that is dropped.
    """
    return Recipe(
        model=ClassifierConfig(backbone=backbone, dropout=dropout),
        dataset=TfdsClasses(name="imagenet2012"),
        augment=(
            RandomResizedCrop(size=299),  # paper: the size
            RandomFlip(),
            RandomColor(hue_share=0.0),  # code: slim changes brightness and saturation
        ),
        optimizer=SGD(momentum=0.9, nesterov=True, weight_decay=4e-5),  # paper: Sec. 4.3
        schedule=Step(base_lr=0.05, factor=0.94, every_epochs=2.0),  # paper: Sec. 4.3
        loss=CrossEntropy(),
        train=Train(
            epochs=120,  # ours: the rate is then 2.4 % of the first one
            batch_size=256,  # ours: eight GPUs with the paper's 32 each
            save_every=1_000,  # ours
            eval_every=10_000,  # ours: every two epochs
        ),
        predict=Classify(size=299),
        eval=Eval(split="validation", best_metric="top_1"),
    )


# Minutes on a laptop. Every number is ours.
_QUICKSTART = Recipe(
    model=ClassifierConfig(
        backbone="mobilenet_v2_tiny",
        output_stride=16,
        channels=192,
        dropout=0.1,
        batch_norm_momentum=0.97,  # hundreds of steps, not tens of thousands
    ),
    dataset=DrawnClasses(num_examples=2000),
    augment=(RandomResizedCrop(size=64, low=0.6), RandomFlip()),
    optimizer=SGD(nesterov=True),
    schedule=Poly(base_lr=0.05),
    loss=CrossEntropy(),
    train=Train(epochs=12, batch_size=32, log_every=20, save_every=200, eval_every=200),
    predict=Classify(size=64, central_fraction=1.0),
    eval=Eval(best_metric="top_1"),
)

RECIPES: dict[str, Recipe] = {
    "quickstart_classes": _QUICKSTART,
    # paper: Tab. 4: 'Reproduced ResNet-101', errors 22.40 % (top-1) and 6.02 % (top-5)
    "imagenet_resnet101": _imagenet("resnet101", dropout=0.0),  # code: no dropout
    # paper: Tab. 4: 'Modified Xception', errors 20.19 % and 5.17 %
    "imagenet_xception65": _imagenet("xception65", dropout=0.5),  # code
    # paper: Fig. 3, as in the text; Sec. 4.3: without normalization and ReLU after the depthwise
    # convolutions, 0.75 % and 0.29 % more errors
    "imagenet_xception65_relu": _imagenet("xception65_relu", dropout=0.5),
    "imagenet_xception65_plain": _imagenet("xception65_plain", dropout=0.5),
}
