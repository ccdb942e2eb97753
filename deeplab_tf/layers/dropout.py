"""Dropout that drops the same values however a batch is divided.

Keras draws masks from a random state that each replica has for itself, so other devices drop other
values. In a training step, the layers here draw the mask of each example from Philox 4x32-10
(cited: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a function of a key and
a counter. The key follows from the seed of the run and the name of the layer. The counter follows
from the step and the example's position in the global batch. CPU, GPU and XLA compute the same.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from deeplab_tf.recipe.lazy import tf

_PHILOX = 1  # code: TensorFlow's number of the algorithm
_WORDS = 4  # random numbers of one counter
_NUMBERS = 1 << 32  # values of a random number


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Batch:
    seed: int
    step: tf.Tensor  # int64 scalar
    first_example: tf.Tensor  # int64 scalar


# Of this thread: replicas are traced in threads of their own.
_batch: contextvars.ContextVar[_Batch | None] = contextvars.ContextVar("batch", default=None)


@contextlib.contextmanager
def masks_follow(*, seed: int, step: Any, first_example: Any) -> Iterator[None]:
    """In this context, masks of dropout are a function of seed, step and position in the batch.

    Args:
      seed: of the run.
      step: optimizer steps already made; integer or scalar tensor.
      first_example: position in the global batch of the first example that the network is called
        on here; the others follow it. Integer or scalar tensor.
    """
    token = _batch.set(
        _Batch(
            seed=seed, step=tf.cast(step, tf.int64), first_example=tf.cast(first_example, tf.int64)
        )
    )
    try:
        yield
    finally:
        _batch.reset(token)


@keras.saving.register_keras_serializable(package="deeplab_tf")
class Dropout(keras.layers.Dropout):
    """Keras' layer, but in `masks_follow` every device drops the same values of an example."""

    def call(self, inputs, training=False):
        """Drops values of [N, ...] in training; same shape and dtype out."""
        batch = _batch.get()
        if batch is None or not training or not 0 < self.rate < 1:
            return super().call(inputs, training=training)
        return _dropped(inputs, ops.shape(inputs), self, batch)


@keras.saving.register_keras_serializable(package="deeplab_tf")
class SpatialDropout2D(keras.layers.SpatialDropout2D):
    """Keras' layer, but in `masks_follow` every device drops the same channels of an example."""

    def call(self, inputs, training=False):
        """Drops channels of [N, h, w, C] in training; same shape and dtype out."""
        batch = _batch.get()
        if batch is None or not training or not 0 < self.rate < 1:
            return super().call(inputs, training=training)
        examples, _, _, channels = ops.shape(inputs)
        return _dropped(inputs, (examples, 1, 1, channels), self, batch)


def _dropped(inputs, shape: Sequence[Any], layer: keras.layers.Dropout, batch: _Batch):
    """Drops and scales as Keras does, by a mask of `shape`, whose first axis is the examples."""
    numbers = _random_numbers(shape, layer.name, batch)
    # The number of values below the limit is the rate's share of all, to 2**-33.
    kept = numbers >= tf.constant(min(round(layer.rate * _NUMBERS), _NUMBERS - 1), tf.uint32)
    scaled = inputs * tf.constant(1 / (1 - layer.rate), inputs.dtype)
    return tf.where(kept, scaled, tf.zeros_like(scaled))


def _random_numbers(shape: Sequence[Any], name: str, batch: _Batch) -> tf.Tensor:
    """uint32 of `shape`; those of an example follow from its position in the global batch."""
    examples, *rest = shape
    values = math.prod(rest)
    counters = -(-values // _WORDS)  # of an example
    digest = hashlib.sha256(f"{batch.seed} {name}".encode()).digest()
    numbers = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[examples, _WORDS * counters],
        key=tf.constant([int.from_bytes(digest[:8], "little")], tf.uint64),
        # 64 bits each: the numbers of two steps never overlap.
        counter=tf.cast(
            tf.stack([batch.first_example * tf.cast(counters, tf.int64), batch.step]), tf.uint64
        ),
        alg=_PHILOX,
        dtype=tf.uint32,
    )
    return tf.reshape(numbers[:, :values], shape)
