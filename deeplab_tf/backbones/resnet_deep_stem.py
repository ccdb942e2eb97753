"""ResNet with a deep stem, as FastFCN's released networks and their ImageNet weights have it.

The stem is three 3x3 convolutions of 64, 64 and 128 channels. Unlike DeepLab's (`resnet`), a stage
strides in its first unit, the max pooling pads symmetrically and there is no multi-grid.
"""

from __future__ import annotations

import dataclasses

import keras

from deeplab_tf.backbones.features import Features, StrideToRate
from deeplab_tf.layers import NormConfig, batch_norm, conv, per_channel, relu, rescale


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetDeepStemSpec:
    """One variant (He et al. 2016, Tab. 1)."""

    units: tuple[int, int, int, int]  # bottleneck units in conv2..conv5
    width: int = 64  # filters of conv2's 3x3


SPECS: dict[str, ResNetDeepStemSpec] = {
    "resnet_deep_stem_tiny": ResNetDeepStemSpec(units=(1, 2, 2, 2), width=8),  # ours: for tests
    "resnet50_deep_stem": ResNetDeepStemSpec(units=(3, 4, 6, 3)),
    "resnet101_deep_stem": ResNetDeepStemSpec(units=(3, 4, 23, 3)),
    "resnet152_deep_stem": ResNetDeepStemSpec(units=(3, 8, 36, 3)),
}

NORM = NormConfig(momentum=0.9, epsilon=1e-5)  # code

# code: of RGB / 255
_MEAN = (0.485, 0.456, 0.406)
_STDDEV = (0.229, 0.224, 0.225)


def build(
    spec: ResNetDeepStemSpec, image: keras.KerasTensor, *, output_stride: int, norm: NormConfig
) -> Features:
    """Builds the feature extractor on `image`.

    A feature map is the output of a stage. Past the output stride the first unit of a stage runs
    at the rate before it and the others at twice that (code).

    Args:
      spec: the variant.
      image: [N, H, W, 3] RGB 0..255.
      output_stride: 8, 16 or 32, input pixels per pixel of conv5.
      norm: constants of batch normalization.

    Returns:
      The feature maps; the low-level features are conv2.

    Raises:
      ValueError: the output stride is none of 8, 16, 32.
    """
    strides = StrideToRate(output_stride, stride=4)
    x = _stem(spec, image, norm)
    stages = []
    for block, units in enumerate(spec.units, start=1):
        for unit in range(1, units + 1):
            stride, rate = strides.next(2 if unit == 1 and block > 1 else 1)
            x = _bottleneck(
                x,
                spec.width * 2 ** (block - 1),
                stride=stride,
                rate=rate,
                project=unit == 1,
                norm=norm,
                name=f"backbone_block{block}_unit{unit}",
            )
        stages.append(x)
    conv2, conv3, conv4, conv5 = stages
    return Features(
        low_level_features={"conv2": conv2, "conv3": conv3},
        conv2=conv2,
        conv3=conv3,
        conv4=conv4,
        conv5=conv5,
    )


def _stem(spec, image, norm):
    stddevs = per_channel(_STDDEV, image.shape[-1])
    means = per_channel(_MEAN, image.shape[-1])
    x = rescale(
        image,
        [1 / (255 * stddev) for stddev in stddevs],
        offset=[-mean / stddev for mean, stddev in zip(means, stddevs, strict=True)],
    )
    for i, (filters, stride) in enumerate(
        ((spec.width, 2), (spec.width, 1), (2 * spec.width, 1)), start=1
    ):
        x = _conv_bn(x, filters, 3, stride=stride, norm=norm, name=f"backbone_conv1_{i}")
        x = relu(x, f"backbone_conv1_{i}_relu")
    # Padding with 0 is padding with minus infinity here, after the ReLU.
    x = keras.layers.ZeroPadding2D(1, name="backbone_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=2, name="backbone_pool")(x)


def _bottleneck(x, width, *, stride, rate, project, norm, name):
    """1x1, 3x3 with the stride, 1x1, beside a shortcut."""
    shortcut = x
    if project:
        shortcut = _conv_bn(x, 4 * width, 1, stride=stride, norm=norm, name=f"{name}_shortcut")
    x = relu(_conv_bn(x, width, 1, norm=norm, name=f"{name}_conv1"), f"{name}_conv1_relu")
    x = _conv_bn(x, width, 3, stride=stride, rate=rate, norm=norm, name=f"{name}_conv2")
    x = relu(x, f"{name}_conv2_relu")
    x = _conv_bn(x, 4 * width, 1, norm=norm, name=f"{name}_conv3")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return relu(x, f"{name}_relu")


def _conv_bn(x, filters, kernel_size, *, stride=1, rate=1, norm, name):
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")  # code
    x = conv(x, filters, kernel_size, stride=stride, rate=rate, symmetric=True,
             initializer=initializer, name=name)  # fmt: skip
    return batch_norm(x, norm, f"{name}_bn")
