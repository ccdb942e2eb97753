"""The heads by name (FastFCN Tab. 1, column Head)."""

from __future__ import annotations

from collections.abc import Callable

import keras

from jpu_tf.heads.aspp import aspp_head
from jpu_tf.heads.deeplab import deeplab_head
from jpu_tf.heads.encoding import encoding_head
from jpu_tf.heads.fcn import fcn_head
from jpu_tf.heads.options import HeadOptions
from jpu_tf.heads.psp import psp_head

__all__ = ["HEADS", "HeadOptions", "fcn_head"]

# name -> (x, Features, num_classes, HeadOptions) -> {"logits": ..., perhaps "se_logits": ...}
HEADS: dict[str, Callable[..., dict[str, keras.KerasTensor]]] = {
    "encoding": encoding_head,
    "aspp": aspp_head,
    "psp": psp_head,
    "fcn": fcn_head,
    "deeplab": deeplab_head,
}
