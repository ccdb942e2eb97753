"""The checkpoints that DeepLabv3+'s authors released, by the names of their model zoo.

`from_checkpoint` builds the network of a file without this table. The table has what a file cannot
tell: where it comes from, what it was trained on, how it was evaluated and its score. The model zoo
publishes no checksums of the archives.
"""

from __future__ import annotations

import dataclasses

from deeplab_tf.evaluation.resized_image import ResizedImage
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.options import lookup
from deeplab_tf.recipe.parts import Predict

_ARCHIVES = "http://download.tensorflow.org/models/"  # code: model_zoo.md
VOC_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # code: eval.py's example for PASCAL VOC
CITYSCAPES_SCALES = (0.75, 1.0, 1.25)  # code: the model zoo's table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A row of the model zoo's table (code: all figures)."""

    output_stride: int
    mean_iou: float  # percent
    multiply_adds: float | None  # billions, as the paper counts
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    split: str = "val"  # "test": from the test server, the labels are not public


@dataclasses.dataclass(frozen=True, kw_only=True)
class Released:
    """A released checkpoint.

    Attributes:
      archive: file name in the model zoo (code: model_zoo.md).
      model: the network; of a backbone alone, only its name counts.
      dataset: whose classes the network has; None: a backbone alone.
      num_classes: outputs of its classifier.
      extra_class: logit 0 is for unlabeled pixels, and the dataset's classes begin at 1.
      image_size: height and width to which images are brought, by padding, pixels.
      resized: images and labels are first resized until they fit into it, and scored so.
      scores: how it was evaluated, and the results.
    """

    archive: str
    model: DeepLabV3PlusConfig
    dataset: str | None = None
    num_classes: int | None = None
    extra_class: bool = False
    image_size: tuple[int, int] = (513, 513)
    resized: bool = False
    scores: tuple[Score, ...] = ()

    @property
    def url(self) -> str:
        """Where the archive is; unpack it with `tar xzf`."""
        return _ARCHIVES + self.archive

    def predict(self, score: Score) -> Predict:
        """How one of its scores was evaluated."""
        how = {"scales": score.scales, "flip": score.flip, "output_stride": score.output_stride}
        if self.resized:
            side = self.image_size[0]
            return ResizedImage(min_side=side, max_side=side, factor=16, **how)
        return WholeImage(pad_size=self.image_size, **how)


def _mobilenet_v2(backbone: str = "mobilenet_v2") -> DeepLabV3PlusConfig:
    # code: neither atrous branches nor a decoder, for speed
    return DeepLabV3PlusConfig(backbone=backbone, atrous_rates=(), decoder=False, separable=False)


def _pretrained(backbone: str, archive: str) -> Released:
    return Released(archive=archive, model=DeepLabV3PlusConfig(backbone=backbone))


_XCEPTION65 = DeepLabV3PlusConfig(backbone="xception65")
_VOC = {"dataset": "voc2012", "num_classes": 21}
_CITYSCAPES = {"dataset": "cityscapes", "num_classes": 19, "image_size": (1025, 2049)}
# code: 0 is what a label has none of the 150 classes for, and is ignored in training and scoring
_ADE20K = {"dataset": "ade20k", "num_classes": 151, "extra_class": True, "resized": True}
_MS = {"scales": VOC_SCALES, "flip": True, "output_stride": 8}
_CITYSCAPES_MS = {"scales": CITYSCAPES_SCALES, "flip": True, "output_stride": 8}

RELEASED: dict[str, Released] = {
    "mobilenetv2_dm05_coco_voc_trainaug": Released(
        archive="deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01.tar.gz",
        model=_mobilenet_v2("mobilenet_v2_dm05"),
        scores=(Score(output_stride=16, mean_iou=70.19, multiply_adds=0.88),),
        **_VOC,
    ),
    "mobilenetv2_dm05_coco_voc_trainval": Released(
        archive="deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01.tar.gz",
        model=_mobilenet_v2("mobilenet_v2_dm05"),
        scores=(Score(output_stride=8, mean_iou=71.83, multiply_adds=2.84, split="test"),),
        **_VOC,
    ),
    "mobilenetv2_coco_voc_trainaug": Released(
        archive="deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz",
        model=_mobilenet_v2(),
        scores=(
            Score(output_stride=16, mean_iou=75.32, multiply_adds=2.75),
            Score(mean_iou=77.33, multiply_adds=152.59, **_MS),
        ),
        **_VOC,
    ),
    "mobilenetv2_coco_voc_trainval": Released(
        archive="deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz",
        model=_mobilenet_v2(),
        scores=(Score(mean_iou=80.25, multiply_adds=152.59, split="test", **_MS),),
        **_VOC,
    ),
    "xception65_coco_voc_trainaug": Released(
        archive="deeplabv3_pascal_train_aug_2018_01_04.tar.gz",
        model=_XCEPTION65,
        scores=(
            Score(output_stride=16, mean_iou=82.20, multiply_adds=54.17),
            Score(mean_iou=83.58, multiply_adds=3055.35, **_MS),
        ),
        **_VOC,
    ),
    "xception65_coco_voc_trainval": Released(
        archive="deeplabv3_pascal_trainval_2018_01_04.tar.gz",
        model=_XCEPTION65,
        scores=(Score(mean_iou=87.80, multiply_adds=3055.35, split="test", **_MS),),
        **_VOC,
    ),
    "mobilenetv2_coco_cityscapes_trainfine": Released(
        archive="deeplabv3_mnv2_cityscapes_train_2018_02_05.tar.gz",
        model=_mobilenet_v2(),
        scores=(
            Score(output_stride=16, mean_iou=70.71, multiply_adds=21.27),
            Score(mean_iou=73.57, multiply_adds=433.24, **_CITYSCAPES_MS),
        ),
        **_CITYSCAPES,
    ),
    "xception65_cityscapes_trainfine": Released(
        archive="deeplabv3_cityscapes_train_2018_02_06.tar.gz",
        model=_XCEPTION65,
        scores=(
            Score(output_stride=16, mean_iou=78.79, multiply_adds=418.64),
            Score(mean_iou=80.42, multiply_adds=8677.92, **_CITYSCAPES_MS),
        ),
        **_CITYSCAPES,
    ),
    "mobilenetv2_ade20k_train": Released(
        archive="deeplabv3_mnv2_ade20k_train_2018_12_03.tar.gz",
        model=dataclasses.replace(_mobilenet_v2(), decoder=True, decoder_separable=True),
        image_size=(257, 257),
        scores=(Score(output_stride=16, mean_iou=32.04, multiply_adds=None),),
        **_ADE20K,
    ),
    "xception65_ade20k_train": Released(
        archive="deeplabv3_xception_ade20k_train_2018_05_29.tar.gz",
        model=_XCEPTION65,
        scores=(Score(mean_iou=45.65, multiply_adds=None, **_MS),),
        **_ADE20K,
    ),
    "xception_41_imagenet": _pretrained("xception41", "xception_41_2018_05_09.tar.gz"),
    "xception_65_imagenet": _pretrained("xception65", "deeplabv3_xception_2018_01_04.tar.gz"),
    "xception_65_imagenet_coco": _pretrained(
        "xception65", "xception_65_coco_pretrained_2018_10_02.tar.gz"
    ),
    "xception_71_imagenet": _pretrained("xception71", "xception_71_2018_05_09.tar.gz"),
    "resnet_v1_50_beta_imagenet": _pretrained("resnet50", "resnet_v1_50_2018_05_04.tar.gz"),
    "resnet_v1_101_beta_imagenet": _pretrained("resnet101", "resnet_v1_101_2018_05_04.tar.gz"),
}

# The other rows of the model zoo, whose networks are of neither paper -> what they are (code).
_DPC = "DeepLab with a dense prediction cell (Chen et al. 2018, NeurIPS) in place of ASPP"
_MOBILENET_V3 = "DeepLab with a MobileNetV3 backbone (Howard et al. 2019)"
_EDGETPU = "DeepLab for the Edge TPU, with a MobileNet-EdgeTPU backbone"
NOT_OF_THE_PAPERS: dict[str, str] = {
    "xception71_dpc_cityscapes_trainfine": _DPC,
    "xception71_dpc_cityscapes_trainval": _DPC,
    "mobilenetv3_large_cityscapes_trainfine": _MOBILENET_V3,
    "mobilenetv3_small_cityscapes_trainfine": _MOBILENET_V3,
    "EdgeTPU-DeepLab": _EDGETPU,
    "EdgeTPU-DeepLab-slim": _EDGETPU,
}


def released_checkpoint(name: str) -> Released:
    """The row of `RELEASED` with this name.

    Raises:
      ValueError: there is none; the message says so of the networks that are of neither paper.
    """
    if name in NOT_OF_THE_PAPERS:
        raise ValueError(
            f"{name} is {NOT_OF_THE_PAPERS[name]}, a network of neither paper, which this package"
            " does not have."
        )
    return lookup(RELEASED, name, "released checkpoint")
