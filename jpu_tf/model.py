"""FastFCN and its rivals: the options of the network and the function that builds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from deeplab_tf.recipe.options import LossFn, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastFCN:
    """FastFCN (Fig. 2): a backbone, an upsampler to stride 8 and a head (Tab. 1)."""

    kind: ClassVar[str] = "fastfcn"

    backbone: str = option("resnet50_deep_stem", "feature extractor")
    upsampler: Literal["none", "bilinear", "fpn", "jpu", "jpu_x"] = option(
        "jpu", "how the backbone's features get to stride 8 (Tab. 1); none: by output_stride alone"
    )
    upsampler_channels: int | None = option(
        None, "filters of the upsampler; none: the released 512 (JPU), 256 (FPN)"
    )
    jpu_final_conv: bool = option(
        False, "JPU ends in a convolution block (Fig. 4c); the released networks' does not"
    )
    head: Literal["encoding", "aspp", "psp", "fcn", "deeplab"] = option(
        "encoding", "what classifies (Tab. 1); deeplab: ASPP and decoder of DeepLabv3+"
    )
    head_channels: int | None = option(
        None, "filters of the head; none: the released 512, in ASPP 256"
    )
    head_kernel_size: Literal[1, 3] | None = option(
        None, "of the encoding head's first convolution; none: the released 1 after JPU, else 3"
    )
    head_lateral: bool = option(
        False, "the encoding head reads conv3 and conv4 too; for dilated backbones (code)"
    )
    output_stride: Literal[8, 16, 32] | None = option(
        None,
        "input pixels per pixel of the backbone's output; not part of the weights; none: 32 before"
        " an upsampler, 8 without",
    )
    aux_weight: float = option(0.2, "weight of the auxiliary head's loss (code); 0: no such head")
    se_weight: float | None = option(
        None,
        "weight of the semantic encoding loss, which the encoding head alone has; none: the"
        " released 0.2 there; 0: no such output",
    )
    dropout: float = option(0.1, "share of channels dropped before the classifier (code)")
    aspp_dropout: float = option(
        0.5, "share of channels dropped after the ASPP head's projection (code)"
    )
    fine_tune_batch_norm: bool = option(
        True, "train with batch statistics; false: with the moving ones, for small batches"
    )
    batch_norm_momentum: float | None = option(
        None, "momentum of the moving statistics; none: the released 0.9, the backbone's own in it"
    )

    def __post_init__(self) -> None:
        if self.output_stride not in (None, 8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32; got {self.output_stride}.")
        if self.upsampler != "none" and self.output_stride not in (None, 32):
            raise ValueError(
                f"output_stride must be 32 before upsampler {self.upsampler}, which brings the"
                f" features to stride 8; got {self.output_stride}. Use upsampler none to dilate."
            )
        if self.jpu_final_conv and self.upsampler != "jpu":
            raise ValueError(f"jpu_final_conv needs upsampler jpu; got {self.upsampler}.")
        if self.head_kernel_size is not None and self.head != "encoding":
            raise ValueError(f"head_kernel_size needs head encoding; got {self.head}.")
        if self.head_kernel_size not in (None, 1, 3):
            raise ValueError(f"head_kernel_size must be 1 or 3; got {self.head_kernel_size}.")
        if self.head_lateral and (self.head, self.backbone_output_stride) != ("encoding", 8):
            raise ValueError(
                "head_lateral needs head encoding and features of one size, so upsampler none at"
                f" output stride 8; got head {self.head}, upsampler {self.upsampler} and"
                f" output_stride {self.backbone_output_stride}."
            )
        for name in ("upsampler_channels", "head_channels"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("aux_weight", "se_weight"):
            if (getattr(self, name) or 0.0) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}.")
        if self.se_weight and self.head != "encoding":
            raise ValueError(
                f"head {self.head} has no semantic encoding; se_weight must be 0 or left out, got"
                f" {self.se_weight}."
            )
        for name in ("dropout", "aspp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1); got {getattr(self, name)}.")

    @property
    def backbone_output_stride(self) -> int:
        """The backbone's output stride: 8 by dilation, 32 before an upsampler, unless given."""
        if self.output_stride is not None:
            return self.output_stride
        return 8 if self.upsampler == "none" else 32

    @property
    def semantic_encoding_weight(self) -> float:
        """`se_weight`, or the released code's for the head."""
        if self.se_weight is not None:
            return self.se_weight
        return 0.2 if self.head == "encoding" else 0.0  # code

    def build(
        self,
        num_classes: int,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        *,
        auxiliary: bool = False,
    ) -> Any:
        """Builds the network.

        Weights depend on neither the output stride nor the input size.

        Args:
          num_classes: background counted, void not.
          input_shape: height, width (None: any) and channels of the images.
          auxiliary: return a dict, the form that training reads: "logits", "aux_logits" unless
            aux_weight is 0, "se_logits" [N, num_classes] where there is semantic encoding.

        Returns:
          A keras.Model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, num_classes] float32.

        Raises:
          ValueError: num_classes is below 2; the backbone, upsampler or head is unknown; or the
            channels do not suit the upsampler.
        """
        # Imported here so that recipes and --help load without TensorFlow.
        import keras

        from deeplab_tf.backbones import build_backbone
        from deeplab_tf.recipe.options import lookup
        from deeplab_tf.layers import NormConfig, ResizeLike
        from deeplab_tf.layers.normalization import full_precision
        from jpu_tf.heads import HEADS, HeadOptions, fcn_head
        from jpu_tf.upsamplers import UPSAMPLERS

        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2; got {num_classes}.")
        norm = NormConfig(
            momentum=0.9 if self.batch_norm_momentum is None else self.batch_norm_momentum,  # code
            epsilon=1e-5,  # code
            use_batch_statistics=self.fine_tune_batch_norm,
        )
        upsampler = lookup(UPSAMPLERS, self.upsampler, "upsampler")
        options = HeadOptions(
            channels=self.head_channels,
            first_kernel_size=self.head_kernel_size or upsampler.head_kernel_size,
            lateral=self.head_lateral,
            dropout=self.dropout,
            aspp_dropout=self.aspp_dropout,
            semantic_encoding=self.semantic_encoding_weight > 0,
            norm=norm,
        )
        image = keras.Input(input_shape, name="image")
        features = build_backbone(
            self.backbone,
            image,
            output_stride=self.backbone_output_stride,
            momentum=self.batch_norm_momentum,
            use_batch_statistics=self.fine_tune_batch_norm,
        )
        x = upsampler.build(
            features,
            channels=self.upsampler_channels or upsampler.channels,
            norm=norm,
            **({"final_conv": True} if self.jpu_final_conv else {}),
        )
        outputs = lookup(HEADS, self.head, "head")(x, features, num_classes, options)
        if self.aux_weight > 0:
            conv4 = features.conv4
            quarter = dataclasses.replace(options, channels=max(conv4.shape[-1] // 4, 1))  # code
            aux = fcn_head(conv4, features, num_classes, quarter, name="aux")
            outputs["aux_logits"] = aux["logits"]
        for name in [name for name in outputs if name != "se_logits"]:
            resize = ResizeLike(name=f"{name}_resize", dtype=full_precision())
            outputs[name] = resize([outputs[name], image])
        return keras.Model(image, outputs if auxiliary else outputs["logits"], name=self.kind)

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """Output name -> (its loss, its weight)."""
        from jpu_tf.losses import class_presence_loss

        losses = {"logits": (pixel_loss, 1.0)}
        if self.aux_weight > 0:
            losses["aux_logits"] = (pixel_loss, self.aux_weight)
        if self.semantic_encoding_weight > 0:
            losses["se_logits"] = (class_presence_loss, self.semantic_encoding_weight)
        return losses
