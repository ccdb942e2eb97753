"""MobileNetV2 (Sandler et al. 2018) as DeepLab uses it, up to the 320-channel bottleneck."""

from __future__ import annotations

import dataclasses

import keras

from deeplab_tf.backbones.features import Features, StrideToRate
from deeplab_tf.layers import (
    NormConfig,
    batch_norm,
    conv,
    depthwise_conv,
    relu,
    rescale,
    truncated_normal,
)

# cited: Sandler et al. 2018, Tab. 2: (expansion, channels, units, stride) of each stage
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetV2Spec:
    """One MobileNetV2 variant."""

    depth_multiplier: float = 1.0  # factor of every channel count
    stem: int = 32  # channels of the first convolution, before the multiplier
    stages: tuple[tuple[int, int, int, int], ...] = _STAGES

    def channels(self, nominal: int) -> int:
        """Channels after the multiplier, not rounded to multiples of 8 (code)."""
        return max(int(nominal * self.depth_multiplier + 0.5), 1)


SPECS: dict[str, MobileNetV2Spec] = {
    # ours: small enough to train from scratch on a laptop in minutes; for tests and quickstart
    "mobilenet_v2_tiny": MobileNetV2Spec(
        stem=16,
        stages=(
            (1, 16, 1, 1),
            (4, 24, 2, 2),
            (4, 32, 2, 2),
            (4, 48, 2, 2),
            (4, 48, 1, 1),
            (4, 64, 1, 2),
            (4, 96, 1, 1),
        ),
    ),
    "mobilenet_v2_dm025": MobileNetV2Spec(depth_multiplier=0.25),
    "mobilenet_v2_dm035": MobileNetV2Spec(depth_multiplier=0.35),
    "mobilenet_v2_dm05": MobileNetV2Spec(depth_multiplier=0.5),
    "mobilenet_v2_dm075": MobileNetV2Spec(depth_multiplier=0.75),
    "mobilenet_v2": MobileNetV2Spec(),
    "mobilenet_v2_dm13": MobileNetV2Spec(depth_multiplier=1.3),
    "mobilenet_v2_dm14": MobileNetV2Spec(depth_multiplier=1.4),
}

# code: slim's defaults, which DeepLab keeps for this family
NORM = NormConfig(momentum=0.997, epsilon=1e-3)


def build(
    spec: MobileNetV2Spec, image: keras.KerasTensor, *, output_stride: int, norm: NormConfig
) -> Features:
    """Builds the feature extractor on `image`.

    Padding is TensorFlow's SAME everywhere (code). The feature maps handed out at strides 4, 8
    and 16 are the expanded, activated depthwise outputs of the last unit at that stride (code:
    layer_4, layer_7 and layer_14); conv5 is linear.

    Args:
      spec: the variant.
      image: [N, H, W, 3] RGB 0..255.
      output_stride: 8, 16 or 32, input pixels per pixel of conv5.
      norm: constants of batch normalization.

    Returns:
      The feature maps.

    Raises:
      ValueError: the output stride is none of 8, 16, 32.
    """
    strides = StrideToRate(output_stride, stride=2)
    x = rescale(image, 2 / 255, offset=-1.0)
    initializer = truncated_normal(0.09)  # code
    x = conv(x, spec.channels(spec.stem), 3, stride=2, initializer=initializer,
             name="backbone_conv")  # fmt: skip
    x = relu(batch_norm(x, norm, "backbone_conv_bn"), "backbone_conv_relu", 6.0)
    nominal_stride, last_depthwise, index = 2, {}, 0
    for expansion, channels, units, stage_stride in spec.stages:
        for unit in range(units):
            unit_stride = stage_stride if unit == 0 else 1
            nominal_stride *= unit_stride
            stride, rate = strides.next(unit_stride)
            x, depthwise = _inverted_residual(
                x,
                spec.channels(channels),
                expansion=expansion,
                stride=stride,
                rate=rate,
                norm=norm,
                name=f"backbone_block{index}",
            )
            last_depthwise[nominal_stride] = depthwise
            index += 1
    return Features(
        low_level_features={"conv2": last_depthwise[4], "conv3": last_depthwise[8]},
        conv2=last_depthwise[4],
        conv3=last_depthwise[8],
        conv4=last_depthwise[16],
        conv5=x,
    )


def _inverted_residual(x, channels, *, expansion, stride, rate, norm, name):
    """Expand 1x1, depthwise 3x3, project 1x1; returns the output and the depthwise one."""
    initializer = truncated_normal(0.09)  # code
    shortcut, inputs = x, x.shape[-1]
    if expansion > 1:
        # code: the expanded width, alone, is rounded to a multiple of 8
        expanded = _round_to_multiple_of_8(inputs * expansion)
        x = conv(x, expanded, 1, initializer=initializer, name=f"{name}_expand")
        x = relu(batch_norm(x, norm, f"{name}_expand_bn"), f"{name}_expand_relu", 6.0)
    x = depthwise_conv(
        x, stride=stride, rate=rate, initializer=initializer, name=f"{name}_depthwise"
    )
    x = relu(batch_norm(x, norm, f"{name}_depthwise_bn"), f"{name}_depthwise_relu", 6.0)
    depthwise = x
    x = conv(x, channels, 1, initializer=initializer, name=f"{name}_project")
    x = batch_norm(x, norm, f"{name}_project_bn")
    if stride == 1 and inputs == channels:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x, depthwise


def _round_to_multiple_of_8(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    # cited: Sandler et al. 2018's code: rounding down may not lose more than a tenth
    return rounded + 8 if rounded < 0.9 * value else rounded
