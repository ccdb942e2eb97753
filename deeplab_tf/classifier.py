"""A network that gives each image one class: a backbone for ImageNet (DeepLabv3+ Sec. 4.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from deeplab_tf.recipe.options import Options, check_num_classes, option
from deeplab_tf.recipe.parts import LossFn

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Options):
    """A backbone, global average pooling and a linear classifier (ImageNet).

    The backbone's layers have the names and shapes that they have in a segmentation network, which
    can start from its weights.
    """

    kind: ClassVar[str] = "classifier"

    backbone: str = option("xception65", "feature extractor")
    output_stride: Literal[8, 16, 32] = option(
        32, "input pixels per pixel of the backbone's output; not part of the weights"
    )
    channels: int | None = option(
        None,
        "filters of a 1x1 convolution before the pooling; none: no convolution, except 1280 in"
        " MobileNetV2 (its Tab. 2)",
        minimum=1,
    )
    # code: Xception's; ResNet has none, MobileNetV2 0.2
    dropout: float = option(
        0.5, "share of the pooled features dropped in training (code)", minimum=0, below=1
    )
    batch_norm: Literal["synchronized", "per_replica", "frozen"] = option(
        "synchronized",
        "train with statistics of the global batch, or of each replica's part of it; frozen: with"
        " the moving statistics, for small batches",
    )
    batch_norm_momentum: float | None = option(
        None,
        "momentum of the moving statistics; none: the released code's",
        minimum=0,
        below=1,
    )

    def at_output_stride(self, output_stride: int) -> Self:
        """The network of the same weights at another output stride."""
        return self.replace(output_stride=output_stride)

    def build(
        self,
        num_classes: int,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        *,
        auxiliary: bool = False,
    ) -> keras.Model:
        """Builds the network.

        Weights depend on neither the output stride nor the input size.

        Args:
          num_classes: of the images.
          input_shape: height, width (None: any) and channels of the images.
          auxiliary: return a dict {"logits": ...}, the form that training reads.

        Returns:
          A keras.Model: image [N, H, W, channels] 0..255, RGB if there are 3 -> logits
          [N, num_classes] float32.

        Raises:
          ValueError: num_classes is below 2, or the backbone is unknown.
        """
        # Imported here so that recipes and --help load without TensorFlow.
        import keras

        from deeplab_tf.backbones import BACKBONES, build_backbone
        from deeplab_tf.layers import (
            Dropout,
            SegmentationModel,
            batch_norm,
            classifier,
            conv,
            relu,
        )
        from deeplab_tf.layers.names import BATCH_NORM_SUFFIX, LOGITS
        from deeplab_tf.recipe.options import lookup

        check_num_classes(num_classes)
        family = lookup(BACKBONES, self.backbone, "backbone")
        norm = dataclasses.replace(family.norm, statistics=self.batch_norm)
        if self.batch_norm_momentum is not None:
            norm = dataclasses.replace(norm, momentum=self.batch_norm_momentum)
        image = keras.Input(input_shape, name="image")
        x = build_backbone(
            self.backbone,
            image,
            output_stride=self.output_stride,
            # code: the multi-grid is for segmentation alone
            multi_grid=None if family.multi_grid is None else (1, 1, 1),
            momentum=self.batch_norm_momentum,
            statistics=self.batch_norm,
        ).conv5
        channels = self.channels
        if channels is None and self.backbone.startswith("mobilenet_v2"):
            channels = 1280  # cited: Sandler et al. 2018, Tab. 2; code: of narrower ones too
        if channels is not None:
            x = conv(x, channels, 1, name="classifier_conv")
            x = batch_norm(x, norm, f"classifier_conv{BATCH_NORM_SUFFIX}")
            x = relu(x, "classifier_conv_relu", 6.0)
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="classifier_pool")(x)
        x = Dropout(self.dropout, name="classifier_dropout")(x)
        # Another name than that of a segmentation network's classifier: the two never fit.
        x = classifier(x, num_classes, name="classifier_logits")
        logits = keras.layers.Reshape((num_classes,), dtype=x.dtype, name=LOGITS)(x)
        outputs = {LOGITS: logits} if auxiliary else logits
        return SegmentationModel(image, outputs, name=self.kind)

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """Output name -> (its loss, its weight)."""
        from deeplab_tf.layers.names import LOGITS

        def image_loss(label: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return pixel_loss(image_class(label), logits[:, None, None, :])

        return {LOGITS: (image_loss, 1.0)}


def image_class(label: tf.Tensor) -> tf.Tensor:
    """The class of each image, from a label that shows it at every pixel.

    The value of void is negative, so it is the result only where all pixels are void, such as those
    that padding adds.

    Args:
      label: int32 [N, H, W].

    Returns:
      int32 [N, 1, 1].
    """
    from keras import ops

    return ops.max(label, axis=(1, 2), keepdims=True)
