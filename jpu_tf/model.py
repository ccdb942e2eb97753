"""FastFCN and its rivals: the options of the network and the function that builds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from deeplab_tf.recipe.options import Options, check_num_classes, option
from deeplab_tf.recipe.parts import LossFn
from jpu_tf.heads import HEADS, Encoding, Head
from jpu_tf.heads.fcn import fcn_logits
from jpu_tf.upsamplers import JPU, UPSAMPLERS, Upsampler

if TYPE_CHECKING:
    import keras


def FastFCN(  # named like the functions of keras.applications
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    backbone: str = "resnet50_deep_stem",
    upsampler: str | Upsampler = "jpu",
    head: str | Head = "encoding",
    output_stride: Literal[8, 16, 32] | None = None,
    aux_weight: float = 0.2,
    batch_norm: Literal["synchronized", "per_replica", "frozen"] = "synchronized",
    batch_norm_momentum: float | None = None,
) -> keras.Model:
    """Builds FastFCN (Wu et al. 2019), or another row of its Table 1.

    The network normalizes images itself. Its weights are random and depend on neither the output
    stride nor the input size. `from_checkpoint` builds a network with trained weights.

    Example:
      >>> model = jpu_tf.FastFCN(num_classes=59, head=jpu_tf.PSP(channels=256))
      >>> label_map = model.predict(images).argmax(axis=-1)  # images [N, H, W, 3] RGB 0..255

    Args:
      num_classes: background counted, void not.
      input_shape: height, width (None: any) and channels of the images.
      backbone: feature extractor, a key of `deeplab_tf.backbones.BACKBONES`.
      upsampler: how the backbone's features get to stride 8 (Tab. 1). `JPU()`, `JPUX()`, `FPN()`,
        `Bilinear()` or `NoUpsampling()`, with options; or the kind of one, with its defaults:
        "jpu", "jpu_x", "fpn", "bilinear" or "none", which dilates the backbone.
      head: what classifies (Tab. 1). `Encoding()`, `ASPP()`, `PSP()`, `FCN()` or `DeepLab()`, with
        options; or the kind of one, with its defaults: "encoding", "aspp", "psp", "fcn" or
        "deeplab", ASPP and decoder of DeepLabv3+.
      output_stride: input pixels per pixel of the backbone's output. None: 32 before an
        upsampler, 8 without.
      aux_weight: weight of the auxiliary head's loss. This model has no auxiliary head; a recipe
        of the same options trains with one.
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
    return FastFCNConfig(**options).build(num_classes, input_shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastFCNConfig(Options):
    """FastFCN (Fig. 2): a backbone, an upsampler to stride 8 and a head (Tab. 1)."""

    kind: ClassVar[str] = "fastfcn"

    backbone: str = option("resnet50_deep_stem", "feature extractor")
    upsampler: Upsampler = option(
        JPU(), "how the backbone's features are brought to stride 8 (Tab. 1)", kinds=UPSAMPLERS
    )
    head: Head = option(Encoding(), "segmentation head (Tab. 1)", kinds=HEADS)
    output_stride: Literal[8, 16, 32] | None = option(
        None,
        "input pixels per pixel of the backbone's output; not part of the weights; none: 32 before"
        " an upsampler, 8 without",
    )
    aux_weight: float = option(
        0.2, "weight of the auxiliary head's loss (code); 0: no such head", minimum=0
    )
    batch_norm: Literal["synchronized", "per_replica", "frozen"] = option(
        "synchronized",
        "train with statistics of the global batch, or of each replica's part of it; frozen: with"
        " the moving statistics, for small batches",
    )
    batch_norm_momentum: float | None = option(
        None,
        "momentum of the moving statistics; none: the released code's, 0.9 outside the backbone",
        minimum=0,
        below=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        stride = self.backbone_output_stride
        if stride not in self.upsampler.output_strides:
            known = " or ".join(map(str, self.upsampler.output_strides))
            raise ValueError(
                f"output_stride must be {known} before upsampler {self.upsampler.kind}, which"
                f" brings the features to stride 8; got {stride}. Use upsampler none to dilate the"
                " backbone."
            )
        try:
            self.head.check(stride)
        except ValueError as error:
            raise ValueError(f"head.{error}") from None

    @property
    def backbone_output_stride(self) -> int:
        """The backbone's output stride: the upsampler's default unless given."""
        return self.output_stride or self.upsampler.output_strides[0]

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
          num_classes: background counted, void not.
          input_shape: height, width (None: any) and channels of the images.
          auxiliary: return a dict, the form that training reads: "logits", "aux_logits" unless
            aux_weight is 0, and the further outputs of the head.

        Returns:
          A keras.Model: image [N, H, W, channels] 0..255, RGB if there are 3 -> logits
          [N, H, W, num_classes] float32.

        Raises:
          ValueError: num_classes is below 2, or the backbone is unknown.
        """
        # Imported here so that recipes and --help load without TensorFlow.
        import keras

        from deeplab_tf.backbones import build_backbone
        from deeplab_tf.layers import NormConfig, ResizeLike, SegmentationModel, full_precision
        from deeplab_tf.layers.names import LOGITS, LOGITS_RESIZE

        def resized(logits, name):
            return ResizeLike(name=name, dtype=full_precision())([logits, image])

        check_num_classes(num_classes)
        norm = NormConfig(
            momentum=0.9 if self.batch_norm_momentum is None else self.batch_norm_momentum,  # code
            epsilon=1e-5,  # code
            statistics=self.batch_norm,
        )
        image = keras.Input(input_shape, name="image")
        features = build_backbone(
            self.backbone,
            image,
            output_stride=self.backbone_output_stride,
            momentum=self.batch_norm_momentum,
            statistics=self.batch_norm,
        )
        outputs = self.head.build(
            self.upsampler.build(features, norm=norm),
            features,
            num_classes,
            norm=norm,
            first_kernel_size=self.upsampler.head_kernel_size,
        )
        outputs[LOGITS] = resized(outputs[LOGITS], LOGITS_RESIZE)
        if self.aux_weight > 0:
            channels = max(features.conv4.shape[-1] // 4, 1)  # code
            options = {"channels": channels, "dropout": self.head.dropout}
            logits = fcn_logits(features.conv4, num_classes, **options, norm=norm, name="aux")
            outputs["aux_logits"] = resized(logits, "aux_logits_resize")
        return SegmentationModel(image, outputs if auxiliary else outputs[LOGITS], name=self.kind)

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """Output name -> (its loss, its weight)."""
        from deeplab_tf.layers.names import LOGITS

        aux = {"aux_logits": (pixel_loss, self.aux_weight)} if self.aux_weight > 0 else {}
        return {LOGITS: (pixel_loss, 1.0), **aux, **self.head.losses(pixel_loss)}
