import dataclasses

import pytest

from deeplab_tf.recipe.options import Options
from jpu_tf.heads import HEADS
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import UPSAMPLERS

_LEAST_CHANNELS = {"jpu_x": 64}


def _small(cls: type[Options], **options) -> Options:
    if "channels" in {field.name for field in dataclasses.fields(cls)}:
        options = {"channels": _LEAST_CHANNELS.get(cls.kind, 8), **options}
    return cls(**options)


@pytest.fixture(scope="session")
def small():
    """(class of a head or an upsampler, **options) -> an instance with few channels."""
    return _small


@pytest.fixture(scope="session")
def tiny():
    """(**options) -> a small FastFCNConfig; names of a head and an upsampler give small ones."""

    def config(*, upsampler="jpu", head="encoding", **options) -> FastFCNConfig:
        if isinstance(upsampler, str):
            upsampler = _small(UPSAMPLERS[upsampler])
        if isinstance(head, str):
            head = _small(HEADS[head])
        options = {"backbone": "resnet_deep_stem_tiny", **options}
        return FastFCNConfig(upsampler=upsampler, head=head, **options)

    return config


@pytest.fixture(scope="session")
def loss():
    """A pixel loss that nobody calls."""

    def pixel_loss(label, logits):
        raise NotImplementedError

    return pixel_loss
