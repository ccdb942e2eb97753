"""Modified aligned Xception (DeepLabv3+ Sec. 3.2, Fig. 3), as released and as in the text."""

from __future__ import annotations

import dataclasses
from typing import Literal

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class XceptionSpec:
    """One Xception variant: a root of two convolutions, then modules of three separable ones."""

    entry: tuple[tuple[int, int], ...]  # (channels, stride) of the entry flow's modules
    middle_units: int  # modules of the middle flow
    exit: tuple[tuple[int, int, int], tuple[int, int, int]] = (
        (728, 1024, 1024),
        (1536, 1536, 2048),
    )  # channels of the exit flow's convolutions
    root: tuple[int, int] = (32, 64)  # channels of the root's convolutions
    # between depthwise and pointwise convolution. code: normalization, and ReLU in the last module
    # alone; paper: Fig. 3, both in all modules; Sec. 4.3 compares it with nothing
    after_depthwise: Literal["norm", "norm_relu", "nothing"] = "norm"


# code: the released variants; 65 is Fig. 3, 71 appears in the table of released checkpoints
SPECS: dict[str, XceptionSpec] = {
    # ours: for tests
    "xception_tiny": XceptionSpec(
        entry=((8, 2), (16, 2), (24, 2)),
        middle_units=2,
        exit=((24, 32, 32), (48, 48, 64)),
        root=(8, 8),
    ),
    "xception41": XceptionSpec(entry=((128, 2), (256, 2), (728, 2)), middle_units=8),
    "xception65": XceptionSpec(entry=((128, 2), (256, 2), (728, 2)), middle_units=16),
    "xception71": XceptionSpec(
        entry=((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)), middle_units=16
    ),
}

# Two other forms of 65. The released weights do not fit them; train them on ImageNet first.
SPECS["xception65_relu"] = dataclasses.replace(SPECS["xception65"], after_depthwise="norm_relu")
SPECS["xception65_plain"] = dataclasses.replace(SPECS["xception65"], after_depthwise="nothing")

NORM = NormConfig(momentum=0.9997, epsilon=1e-3)  # code
MULTI_GRID = (1, 1, 1)  # code: the released networks have none


def build(
    spec: XceptionSpec,
    image: keras.KerasTensor,
    *,
    output_stride: int,
    norm: NormConfig,
    multi_grid: tuple[int, int, int],
) -> Features:
    """Builds the feature extractor on `image`.

    The released networks differ from the paper's text (code): a separable convolution is ReLU,
    depthwise, normalization, pointwise, normalization, with no ReLU between its halves; the last
    module alone has one after every normalization instead. `xception65_relu` has the ReLU of the
    text (Fig. 3) in all modules, and `xception65_plain` has neither normalization nor ReLU between
    the halves (Sec. 4.3, the comparison in accuracy). Strided convolutions pad symmetrically.

    A feature map handed out at stride s is the second convolution's output in the module that
    strides from s to 2 s, before its activation (code, for the low-level features).

    Args:
      spec: the variant.
      image: [N, H, W, 3] RGB 0..255.
      output_stride: 8, 16 or 32, input pixels per pixel of conv5.
      norm: constants of batch normalization.
      multi_grid: factors of the rate in the three convolutions of the last module.

    Returns:
      The feature maps.

    Raises:
      ValueError: the output stride is none of 8, 16, 32.
    """
    strides = StrideToRate(output_stride, stride=2)
    x = rescale(image, 2 / 255, offset=-1.0)
    for i, channels in enumerate(spec.root, start=1):
        name = f"backbone_entry_conv{i}"
        x = conv(x, channels, 3, stride=2 if i == 1 else 1, symmetric=True,
                 initializer=truncated_normal(0.09), name=name)  # fmt: skip
        x = relu(batch_norm(x, norm, f"{name}_bn"), f"{name}_relu")

    nominal_stride, taps = 2, {}
    entry = [(f"entry_block{i}", (c,) * 3, s) for i, (c, s) in enumerate(spec.entry, start=1)]
    for name, channels, nominal in [*entry, ("exit_block1", spec.exit[0], 2)]:
        if name == "exit_block1":
            for unit in range(1, spec.middle_units + 1):
                _, rate = strides.next(1)
                x, _ = _module(x, (x.shape[-1],) * 3, rates=(rate,) * 3, shortcut="sum", norm=norm,
                               after_depthwise=spec.after_depthwise,
                               name=f"backbone_middle_unit{unit}")  # fmt: skip
        stride, rate = strides.next(nominal)
        x, second = _module(x, channels, stride=stride, rates=(rate,) * 3, shortcut="conv",
                            norm=norm, after_depthwise=spec.after_depthwise,
                            name=f"backbone_{name}")  # fmt: skip
        if nominal == 2:
            taps[nominal_stride] = second
        nominal_stride *= nominal
    _, rate = strides.next(1)
    x, _ = _module(
        x,
        spec.exit[1],
        rates=tuple(rate * factor for factor in multi_grid),
        shortcut="none",
        norm=norm,
        after_depthwise="nothing" if spec.after_depthwise == "nothing" else "norm_relu",
        name="backbone_exit_block2",
    )
    return Features(
        low_level_features={"conv2": taps[4], "conv3": taps[8]},
        conv2=taps[4],
        conv3=taps[8],
        conv4=taps[16],
        conv5=x,
    )


def _module(
    x: keras.KerasTensor,
    channels: tuple[int, int, int],
    *,
    stride: int = 1,
    rates: tuple[int, int, int],
    shortcut: Literal["conv", "sum", "none"],
    norm: NormConfig,
    after_depthwise: Literal["norm", "norm_relu", "nothing"],
    name: str,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Three separable convolutions beside a shortcut; the output and the second's output."""
    inputs, second = x, None
    leading_relu = shortcut != "none"  # else it is after the pointwise convolution
    for i, (filters, rate) in enumerate(zip(channels, rates, strict=True), start=1):
        own = f"{name}_sep{i}"
        if leading_relu:
            x = relu(x, f"{own}_relu")
        x = depthwise_conv(x, stride=stride if i == 3 else 1, rate=rate, symmetric=True,
                           initializer=truncated_normal(0.09), name=f"{own}_depthwise")  # fmt: skip
        if after_depthwise != "nothing":
            x = batch_norm(x, norm, f"{own}_depthwise_bn")
        if after_depthwise == "norm_relu":
            x = relu(x, f"{own}_depthwise_relu")
        x = conv(x, filters, 1, initializer=truncated_normal(0.09), name=f"{own}_pointwise")
        x = batch_norm(x, norm, f"{own}_pointwise_bn")
        if not leading_relu:
            x = relu(x, f"{own}_pointwise_relu")
        if i == 2:
            second = x
    if shortcut == "conv":
        inputs = conv(inputs, channels[-1], 1, stride=stride, initializer=truncated_normal(0.09),
                      name=f"{name}_shortcut")  # fmt: skip
        inputs = batch_norm(inputs, norm, f"{name}_shortcut_bn")
    if shortcut != "none":
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x, second
