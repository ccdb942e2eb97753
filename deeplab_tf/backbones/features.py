"""What a backbone returns, and the rule by which strides become atrous rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import keras


class Features(NamedTuple):
    """Feature maps of a backbone at nominal strides 4, 8, 16, 32.

    At output stride s, maps of a larger nominal stride are computed at stride s instead.
    """

    # "conv2": [N, H/4, W/4, .], "conv3": [N, H/8, W/8, .], what DeepLab's decoder reads of these
    low_level_features: Mapping[str, keras.KerasTensor]
    conv2: keras.KerasTensor  # [N, H/4, W/4, .]
    conv3: keras.KerasTensor  # [N, H/8, W/8, .]
    conv4: keras.KerasTensor  # [N, H/min(16, s), W/min(16, s), .]
    conv5: keras.KerasTensor  # [N, H/s, W/s, .]


class StrideToRate:
    """Walks the units of a backbone and turns strides into rates past the output stride.

    Until the output stride is reached a unit strides as designed, at rate 1. Past it, a unit
    runs at stride 1 and the rate so far, and only the units after it see its stride multiplied
    into the rate (code: the same rule in all three families).
    """

    def __init__(self, output_stride: int, *, stride: int):
        """Starts after layers that have reduced the image by `stride`.

        Raises:
          ValueError: the output stride is none of 8, 16, 32.
        """
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32; got {output_stride}.")
        self._output_stride = output_stride
        self._stride = stride
        self._rate = 1

    def next(self, nominal_stride: int) -> tuple[int, int]:
        """(stride, rate) at which the next unit, of that nominal stride, runs."""
        if self._stride < self._output_stride:
            self._stride *= nominal_stride
            return nominal_stride, 1
        rate = self._rate
        self._rate *= nominal_stride
        return 1, rate
