"""DeepLabv3+ and DeepLabv3: the options of the network and the function that builds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from deeplab_tf.recipe.options import Options, check_num_classes, option
from deeplab_tf.recipe.parts import LossFn

if TYPE_CHECKING:
    import keras


def DeepLabV3Plus(  # named like the functions of keras.applications
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    backbone: str = "mobilenet_v2",
    output_stride: Literal[8, 16, 32] = 16,
    atrous_rates: tuple[int, ...] | None = None,
    multi_grid: tuple[int, int, int] | None = None,
    image_pooling: bool = True,
    aspp_channels: int = 256,
    decoder: bool = True,
    low_level_channels: int = 48,
    decoder_features: tuple[Literal["conv3", "conv2"], ...] = ("conv2",),
    decoder_convs: tuple[tuple[int, int], ...] = ((3, 256), (3, 256)),
    separable: bool = True,
    decoder_separable: bool | None = None,
    dropout: float = 0.1,
    upsample_logits: bool = True,
    batch_norm: Literal["synchronized", "per_replica", "frozen"] = "synchronized",
    batch_norm_momentum: float | None = None,
) -> keras.Model:
    """Builds DeepLabv3+ (Chen et al. 2018), or DeepLabv3 with `decoder=False`.

    The network normalizes images itself. Its weights are random and depend on neither the output
    stride nor the input size. `from_checkpoint` builds a network with trained weights.

    Example:
      >>> model = deeplab_tf.DeepLabV3Plus(num_classes=21, backbone="xception65")
      >>> label_map = model.predict(images).argmax(axis=-1)  # images [N, H, W, 3] RGB 0..255

    Args:
      num_classes: background counted, void not.
      input_shape: height, width (None: any) and channels of the images.
      backbone: feature extractor, a key of `deeplab_tf.backbones.BACKBONES`.
      output_stride: input pixels per pixel of the encoder's output.
      atrous_rates: rates of ASPP's 3x3 branches at this output stride. None: (6, 12, 18) * 16 /
        output_stride (Fig. 2; DeepLabv3, Sec. 3.3). (): no branches.
      multi_grid: factors of the rates at the end of the backbone. None: the released code's,
        (1, 2, 4) in ResNet.
      image_pooling: whether ASPP has the image-pooling branch.
      aspp_channels: filters of ASPP's branches and projection.
      decoder: whether there is a decoder (Fig. 2).
      low_level_channels: channels of the reduced low-level features (Tab. 1).
      decoder_features: backbone features that the decoder reads, the coarser first (Tab. 2).
      decoder_convs: kernel size and filters of each of the decoder's convolutions (Tab. 2).
      separable: atrous separable convolutions in ASPP and decoder (Tab. 5).
      decoder_separable: the same for the decoder alone. None: as in ASPP.
      dropout: share of the encoder's output that is dropped in training.
      upsample_logits: whether training sees logits at the image's size.
      batch_norm: what training normalizes with: "synchronized", the statistics of the global batch;
        "per_replica", those of each replica's part; "frozen", the moving statistics.
      batch_norm_momentum: momentum of the moving statistics. None: the released code's.

    Returns:
      A keras.Model: image [N, H, W, channels] 0..255, RGB if there are 3 -> logits
      [N, H, W, num_classes] float32.

    Raises:
      ValueError: an option is not what it may be; the message says what it must be.
    """
    options = dict(locals())  # the arguments; a test keeps their names equal to the config's
    del options["num_classes"], options["input_shape"]
    return DeepLabV3PlusConfig(**options).build(num_classes, input_shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabV3PlusConfig(Options):
    """DeepLabv3+ (Fig. 2); without a decoder DeepLabv3 with naive upsampling."""

    kind: ClassVar[str] = "deeplabv3plus"

    backbone: str = option("mobilenet_v2", "feature extractor")
    output_stride: Literal[8, 16, 32] = option(
        16, "input pixels per pixel of the encoder's output; not part of the weights"
    )
    atrous_rates: tuple[int, ...] | None = option(
        None,
        "rates of ASPP's 3x3 branches at this output stride; none: (6, 12, 18) * 16 /"
        " output_stride; empty: no branches",
        minimum=1,
    )
    multi_grid: tuple[int, int, int] | None = option(
        None,
        "factors of the rates at the end of the backbone; none: the released code's, (1, 2, 4) in"
        " ResNet",
        minimum=1,
    )
    image_pooling: bool = option(True, "ASPP has the image-pooling branch")
    aspp_channels: int = option(256, "filters of ASPP's branches and projection", minimum=1)
    decoder: bool = option(True, "the decoder of Fig. 2; without it DeepLabv3")
    low_level_channels: int = option(
        48, "channels of the reduced low-level features (Tab. 1)", minimum=1
    )
    decoder_features: tuple[Literal["conv3", "conv2"], ...] = option(
        ("conv2",),
        "backbone features the decoder reads; conv3,conv2: gradually, each by 2 (Tab. 2)",
    )
    decoder_convs: tuple[tuple[int, int], ...] = option(
        ((3, 256), (3, 256)), "kernel size and filters of the decoder's convolutions (Tab. 2)"
    )
    separable: bool = option(True, "atrous separable convolutions in ASPP and decoder (Tab. 5)")
    decoder_separable: bool | None = option(None, "the same for the decoder alone; none: as ASPP")
    dropout: float = option(
        0.1, "share of the encoder's output dropped in training (code)", minimum=0, below=1
    )
    upsample_logits: bool = option(
        True, "train on logits at the image's size; false: on the labels nearest to smaller ones"
    )
    batch_norm: Literal["synchronized", "per_replica", "frozen"] = option(
        "synchronized",
        "train with statistics of the global batch, or of each replica's part of it; frozen: with"
        " the moving statistics, for small batches",
    )
    batch_norm_momentum: float | None = option(
        None,
        "momentum of the moving statistics; none: the released code's (0.9997 in the head, which"
        " needs tens of thousands of steps)",
        minimum=0,
        below=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_features not in (("conv2",), ("conv3", "conv2"), ("conv3",)):
            raise ValueError(
                "decoder_features must be conv2, conv3 or conv3,conv2, the coarser first;"
                f" got {','.join(self.decoder_features) or 'none'}."
            )
        if not self.decoder_convs or any(k not in (1, 3) or c < 1 for k, c in self.decoder_convs):
            raise ValueError(
                "decoder_convs must be one or more pairs of kernel size 1 or 3 and filters, at"
                f" least 1; got {self.decoder_convs}."
            )

    @property
    def rates(self) -> tuple[int, ...]:
        """ASPP's rates, tied to the output stride unless given.

        paper: Fig. 2 for output stride 16; cited: DeepLabv3, Sec. 3.3, twice these for 8.
        """
        if self.atrous_rates is not None:
            return self.atrous_rates
        return tuple(rate * 16 // self.output_stride for rate in (6, 12, 18))

    def at_output_stride(self, output_stride: int) -> Self:
        """The network of the same weights at another output stride.

        Rates that are given are those of `self.output_stride`, and reach as far on the image.
        """
        rates = self.atrous_rates
        if rates is not None:
            rates = tuple(max(1, rate * self.output_stride // output_stride) for rate in rates)
        return self.replace(output_stride=output_stride, atrous_rates=rates)

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
          num_classes: background counted, void not.
          input_shape: height, width (None: any) and channels of the images.
          auxiliary: return a dict {"logits": ...}, the form that training reads.

        Returns:
          A keras.Model: image [N, H, W, channels] 0..255, RGB if there are 3 -> logits
          [N, H, W, num_classes] float32.

        Raises:
          ValueError: num_classes is below 2, or the backbone is unknown.
        """
        # Imported here so that recipes and --help load without TensorFlow.
        import keras

        from deeplab_tf.aspp import aspp
        from deeplab_tf.backbones import build_backbone
        from deeplab_tf.decoder import deeplab_decoder
        from deeplab_tf.layers import (
            NormConfig,
            ResizeLike,
            SegmentationModel,
            classifier,
            full_precision,
        )
        from deeplab_tf.layers.names import LOGITS, LOGITS_RESIZE

        check_num_classes(num_classes)
        norm = NormConfig(
            momentum=0.9997 if self.batch_norm_momentum is None else self.batch_norm_momentum,
            epsilon=1e-5,  # code: the head's, for every backbone
            statistics=self.batch_norm,
        )
        image = keras.Input(input_shape, name="image")
        features = build_backbone(
            self.backbone,
            image,
            output_stride=self.output_stride,
            multi_grid=self.multi_grid,
            momentum=self.batch_norm_momentum,
            statistics=self.batch_norm,
        )
        x = aspp(
            features.conv5,
            channels=self.aspp_channels,
            atrous_rates=self.rates,
            image_pooling=self.image_pooling,
            separable=self.separable,
            dropout=self.dropout,
            norm=norm,
        )
        separable = self.separable if self.decoder_separable is None else self.decoder_separable
        for level in self.decoder_features if self.decoder else ():
            x = deeplab_decoder(
                x,
                features.low_level_features[level],
                low_level_channels=self.low_level_channels,
                convs=self.decoder_convs,
                separable=separable,
                norm=norm,
                name="decoder" if level == "conv2" else "decoder_conv3",
            )
        logits = classifier(x, num_classes, name=LOGITS)
        if self.upsample_logits or not auxiliary:
            logits = ResizeLike(name=LOGITS_RESIZE, dtype=full_precision())([logits, image])
        outputs = {LOGITS: logits} if auxiliary else logits
        return SegmentationModel(image, outputs, name=self.kind)

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """Output name -> (its loss, its weight)."""
        from deeplab_tf.layers.names import LOGITS

        return {LOGITS: (pixel_loss, 1.0)}
