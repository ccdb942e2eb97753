"""The heads by name (FastFCN Tab. 1, column Head)."""

from __future__ import annotations

from jpu_tf.heads.aspp import ASPP
from jpu_tf.heads.base import Head
from jpu_tf.heads.deeplab import DeepLab
from jpu_tf.heads.encoding import Encoding
from jpu_tf.heads.fcn import FCN
from jpu_tf.heads.psp import PSP

__all__ = ["ASPP", "FCN", "HEADS", "PSP", "DeepLab", "Encoding", "Head"]

HEADS: dict[str, type[Head]] = {
    "encoding": Encoding,
    "aspp": ASPP,
    "psp": PSP,
    "fcn": FCN,
    "deeplab": DeepLab,
}
