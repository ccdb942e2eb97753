"""The encoding head (Zhang et al. 2018, EncNet) as FastFCN's released code has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.options import option
from deeplab_tf.recipe.parts import LossFn
from jpu_tf.heads.base import Head
from jpu_tf.losses import class_presence_loss

if TYPE_CHECKING:
    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding(Head):
    """Weighs channels by the content of the whole image (EncNet)."""

    kind: ClassVar[str] = "encoding"

    channels: int = option(512, "filters of the head's convolutions", minimum=1)  # code
    kernel_size: Literal[1, 3] | None = option(
        None, "kernel size of the first convolution; none: 1 after JPU, else 3 (code)"
    )
    lateral: bool = option(False, "read conv3 and conv4 too; for dilated backbones (code)")
    se_weight: float = option(
        0.2, "weight of the semantic encoding loss (code); 0: no such output", minimum=0
    )

    def check(self, output_stride: int) -> None:
        """Checks that `lateral` has feature maps of one size.

        Raises:
          ValueError: it does not.
        """
        if self.lateral and output_stride != 8:
            raise ValueError(
                "lateral must be false unless conv3, conv4 and conv5 have one size, at output"
                f" stride 8; got output stride {output_stride}. Use upsampler none to dilate the"
                " backbone."
            )

    def build(
        self,
        x: keras.KerasTensor,
        features: Features,
        num_classes: int,
        *,
        norm: NormConfig,
        first_kernel_size: int,
    ) -> dict[str, keras.KerasTensor]:
        """Arguments and result as in `Head.build`.

        With `se_weight` above 0 there is an output "se_logits" [N, num_classes] float32: whether
        a class is in the image, before the sigmoid.
        """
        from deeplab_tf.layers import BatchNorm, full_precision, relu
        from jpu_tf.layers import Encoding as EncodingLayer
        from jpu_tf.layers import classifier, conv_bn_relu, dense

        ops, channels = keras.ops, self.channels
        kernel_size = self.kernel_size or first_kernel_size
        x = conv_bn_relu(x, channels, kernel_size, norm=norm, name="head_conv")
        if self.lateral:
            conv3 = conv_bn_relu(features.conv3, channels, 1, norm=norm, name="head_lateral_conv3")
            conv4 = conv_bn_relu(features.conv4, channels, 1, norm=norm, name="head_lateral_conv4")
            x = keras.layers.Concatenate(name="head_lateral_concat")([x, conv3, conv4])
            x = conv_bn_relu(x, channels, 3, norm=norm, name="head_lateral_fusion")
        context = conv_bn_relu(x, channels, 1, norm=norm, name="head_encoding_conv")
        context = EncodingLayer(name="head_encoding")(context)
        # One mean and variance per codeword (code): the channels of an image one pixel high.
        context = ops.expand_dims(ops.transpose(context, (0, 2, 1)), axis=1)
        context = BatchNorm(
            momentum=norm.momentum,
            epsilon=norm.epsilon,
            statistics=norm.statistics,
            dtype=full_precision(),
            name="head_encoding_bn",
        )(context)
        context = ops.mean(ops.relu(context), axis=(1, 3))  # [N, D], over codewords
        gate = dense(context, channels, activation="sigmoid", name="head_gate")
        gate = keras.layers.Reshape((1, 1, channels), name="head_gate_reshape")(gate)
        gated = keras.layers.Multiply(name="head_gated")([x, gate])
        x = relu(keras.layers.Add(name="head_add")([x, gated]), "head_relu")
        outputs = {"logits": classifier(x, num_classes, dropout=self.dropout, name="head_logits")}
        if self.se_weight > 0:
            outputs["se_logits"] = dense(context, num_classes, name="head_se_logits")
        return outputs

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """The semantic encoding loss."""
        return {"se_logits": (class_presence_loss, self.se_weight)} if self.se_weight > 0 else {}
