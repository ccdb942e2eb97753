"""ResNet (He et al. 2016) as DeepLab's released code has it, with either stem."""

from __future__ import annotations

import dataclasses
from typing import Literal

import keras

from deeplab_tf.backbones.features import Features, StrideToRate
from deeplab_tf.layers import NormConfig, batch_norm, conv, per_channel, relu, rescale


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """One ResNet variant (He et al. 2016, Tab. 1)."""

    units: tuple[int, int, int, int]  # bottleneck units in conv2..conv5
    width: int = 64  # filters of conv2's 3x3
    stem: Literal["3x3x3", "7x7"] = "3x3x3"  # code: "beta"; paper: Sec. 4, the original's


SPECS: dict[str, ResNetSpec] = {
    "resnet_tiny": ResNetSpec(units=(2, 2, 2, 1), width=8),  # ours: for tests
    "resnet50": ResNetSpec(units=(3, 4, 6, 3)),
    "resnet101": ResNetSpec(units=(3, 4, 23, 3)),
    "resnet50_7x7": ResNetSpec(units=(3, 4, 6, 3), stem="7x7"),
    "resnet101_7x7": ResNetSpec(units=(3, 4, 23, 3), stem="7x7"),
}

NORM = NormConfig(momentum=0.95, epsilon=1e-5)  # code
MULTI_GRID = (1, 2, 4)  # code: what the released networks and the paper's cost tables have

_MEAN_RGB = (123.15, 115.90, 103.06)  # code: what the 7x7 variant subtracts


def build(
    spec: ResNetSpec,
    image: keras.KerasTensor,
    *,
    output_stride: int,
    norm: NormConfig,
    multi_grid: tuple[int, int, int],
) -> Features:
    """Builds the feature extractor on `image`.

    A block strides in the 3x3 convolution of its last unit, padded symmetrically, and there the
    shortcut is subsampled (code). A feature map handed out at stride s is the output of the last
    unit at that stride; the low-level features are the residuals of those at strides 4 and 8,
    before they are added and activated (code).

    Args:
      spec: the variant.
      image: [N, H, W, 3] RGB 0..255.
      output_stride: 8, 16 or 32, input pixels per pixel of conv5.
      norm: constants of batch normalization.
      multi_grid: factors of the rate in the units of conv5, repeated as often as needed.

    Returns:
      The feature maps.

    Raises:
      ValueError: the output stride is none of 8, 16, 32.
    """
    strides = StrideToRate(output_stride, stride=4)
    x = _stem(spec, image, norm)
    nominal_stride, outputs, residuals = 4, {}, {}
    for block, units in enumerate(spec.units, start=1):
        width = spec.width * 2 ** (block - 1)
        for unit in range(1, units + 1):
            nominal = 2 if unit == units and block < len(spec.units) else 1
            stride, rate = strides.next(nominal)
            if block == len(spec.units):
                rate *= multi_grid[(unit - 1) % len(multi_grid)]
            x, residual = _bottleneck(
                x,
                width,
                stride=stride,
                rate=rate,
                project=unit == 1,
                norm=norm,
                name=f"backbone_block{block}_unit{unit}",
            )
            if nominal == 1:
                outputs[nominal_stride], residuals[nominal_stride] = x, residual
            nominal_stride *= nominal
    return Features(
        low_level_features={"conv2": residuals[4], "conv3": residuals[8]},
        conv2=outputs[4],
        conv3=outputs[8],
        conv4=outputs[16],
        conv5=x,
    )


def _stem(spec: ResNetSpec, image: keras.KerasTensor, norm: NormConfig) -> keras.KerasTensor:
    if spec.stem == "7x7":
        offset = [-mean for mean in per_channel(_MEAN_RGB, image.shape[-1])]
        x = rescale(image, 1.0, offset=offset)
        convs = [("conv1", 7, spec.width, 2)]
    else:
        x = rescale(image, 2 / 255, offset=-1.0)
        convs = [
            ("conv1_1", 3, spec.width, 2),
            ("conv1_2", 3, spec.width, 1),
            ("conv1_3", 3, 2 * spec.width, 1),
        ]
    for name, kernel_size, filters, stride in convs:
        x = _conv_bn(x, filters, kernel_size, stride=stride, norm=norm, name=f"backbone_{name}")
        x = relu(x, f"backbone_{name}_relu")
    # code: TensorFlow's SAME, unlike the convolutions
    return keras.layers.MaxPooling2D(3, strides=2, padding="same", name="backbone_pool")(x)


def _bottleneck(x, width, *, stride, rate, project, norm, name):
    """1x1, 3x3, 1x1 beside a shortcut; the output and the residual before it was added."""
    shortcut = x
    if project:
        shortcut = _conv_bn(x, 4 * width, 1, stride=stride, norm=norm, name=f"{name}_shortcut")
    elif stride > 1:
        shortcut = keras.layers.MaxPooling2D(1, strides=stride, name=f"{name}_subsample")(x)
    x = relu(_conv_bn(x, width, 1, norm=norm, name=f"{name}_conv1"), f"{name}_conv1_relu")
    x = _conv_bn(x, width, 3, stride=stride, rate=rate, norm=norm, name=f"{name}_conv2")
    x = relu(x, f"{name}_conv2_relu")
    residual = _conv_bn(x, 4 * width, 1, norm=norm, name=f"{name}_conv3")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, residual])
    return relu(x, f"{name}_relu"), residual


def _conv_bn(x, filters, kernel_size, *, stride=1, rate=1, norm, name):
    initializer = keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal")  # code
    x = conv(x, filters, kernel_size, stride=stride, rate=rate, symmetric=True,
             initializer=initializer, name=name)  # fmt: skip
    return batch_norm(x, norm, f"{name}_bn")
