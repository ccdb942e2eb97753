"""Losses of a pixel. Each returns a sum and the number of terms in it.

The training step divides, so that it can divide by the number in the global batch.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def masked_cross_entropy(
    label: tf.Tensor, logits: tf.Tensor, *, ignore_label: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Softmax cross entropy over the pixels that have a class.

    Args:
      label: int32 [N, H, W].
      logits: float32 [N, H, W, K].
      ignore_label: value of pixels without a class; they count in neither result.

    Returns:
      (sum of the pixels' cross entropies, number of these pixels), float32 scalars.
    """
    valid = tf.not_equal(label, ignore_label)
    # Void becomes class 0 first: the op rejects 255 even where its weight is 0.
    target = tf.where(valid, label, 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
    # Selected rather than multiplied: 0 * inf at a void pixel would be NaN.
    loss = tf.where(valid, loss, 0.0)
    return tf.reduce_sum(loss), tf.reduce_sum(tf.cast(valid, tf.float32))


LOSSES: dict[str, Callable[..., tuple[tf.Tensor, tf.Tensor]]] = {
    "cross_entropy": masked_cross_entropy,
}
