"""Losses of a pixel. Each returns a sum and the number of terms in it.

The training step divides, so that it can divide by the number in the global batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf


def masked_cross_entropy(
    label: tf.Tensor,
    logits: tf.Tensor,
    *,
    ignore_label: int,
    class_weights: Sequence[float] = (),
    kept_fraction: tf.Tensor | float | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Softmax cross entropy over the pixels that have a class, or over the hardest of them.

    Logits of another size than the label are compared with the label's nearest pixels, corners on
    corners (code: DeepLab's, where logits are not upsampled for training).

    Args:
      label: int32 [N, H, W].
      logits: float32 [N, h, w, K].
      ignore_label: value of pixels without a class; they count in neither result.
      class_weights: factor of the cross entropy of each of the K classes; (): 1. They do not
        count in the number of terms (code).
      kept_fraction: None: every pixel counts. Else int(fraction * N * h * w) pixels do, void ones
        included in the product, those with the largest weighted cross entropies (code: hard
        example mining). Over several replicas each keeps this share of its own part.

    Returns:
      (sum of the pixels' weighted cross entropies, number of these pixels), float32 scalars. With
      `kept_fraction` the number is of those kept that are not 0 (code).

    Raises:
      ValueError: there are weights, but not K of them.
    """
    num_classes = logits.shape[-1]
    if class_weights and len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights must be a number for each of {num_classes} classes;"
            f" got {len(class_weights)}."
        )
    label, size = tf.convert_to_tensor(label), logits.shape[1:3]
    if not size.is_fully_defined() or label.shape[1:] != size:
        label = _nearest(label, tf.shape(logits)[1:3])
    valid = tf.not_equal(label, ignore_label)
    # Void becomes class 0 first: the op rejects 255 even where its weight is 0.
    target = tf.where(valid, label, 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
    if class_weights:
        loss *= tf.gather(tf.constant(class_weights, loss.dtype), target)
    # Selected rather than multiplied: 0 * inf at a void pixel would be NaN.
    loss = tf.where(valid, loss, tf.zeros([], loss.dtype))
    if kept_fraction is None:
        return tf.reduce_sum(loss), tf.reduce_sum(tf.cast(valid, loss.dtype))
    loss = tf.reshape(loss, [-1])
    kept = tf.cast(kept_fraction * tf.cast(tf.size(loss), tf.float32), tf.int32)
    hardest = tf.math.top_k(loss, kept, sorted=False).values
    return tf.reduce_sum(hardest), tf.math.count_nonzero(hardest, dtype=loss.dtype)


# Each takes the arguments of masked_cross_entropy.
LOSSES: dict[str, Callable[..., tuple[tf.Tensor, tf.Tensor]]] = {
    "cross_entropy": masked_cross_entropy,
}


def kept_fraction(
    step: int, *, top_k_percent_pixels: float, hard_example_mining_step: int
) -> float | None:
    """The share of pixels that hard example mining keeps (code).

    Args:
      step: optimizer steps already made.
      top_k_percent_pixels: the share in the end, 0..1; 1: no mining.
      hard_example_mining_step: steps in which the share falls from 1 to that; 0: at once.

    Returns:
      The share, or None where nothing is mined at any step.
    """
    if top_k_percent_pixels == 1:
        return None
    progress = 1.0
    if hard_example_mining_step:
        progress = min(1.0, step / hard_example_mining_step)
    return progress * top_k_percent_pixels + (1 - progress)


def _nearest(label: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    # In float32, exact for every label: the op has no integer kernel on a GPU.
    resized = tf.raw_ops.ResizeNearestNeighbor(
        images=tf.cast(label, tf.float32)[..., None], size=size, align_corners=True
    )
    return tf.cast(resized[..., 0], label.dtype)
