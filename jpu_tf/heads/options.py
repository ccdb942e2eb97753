"""What every head is told."""

from __future__ import annotations

import dataclasses

from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Options of the heads; one that a head has no use for does not change it."""

    channels: int | None = None  # filters of the head's convolutions; None: the released 512 or 256
    first_kernel_size: int = 3  # of the encoding head's first convolution
    lateral: bool = False  # the encoding head reads conv3 and conv4 too, at the size of conv5
    dropout: float = 0.1  # share of the channels dropped before the classifier (code)
    aspp_dropout: float = 0.5  # the same behind the ASPP head's projection (code)
    semantic_encoding: bool = False  # the encoding head also says which classes are there
    norm: NormConfig
