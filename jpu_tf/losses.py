"""The loss of the encoding head's second output."""

from __future__ import annotations

from deeplab_tf.recipe.lazy import tf


def class_presence_loss(label: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Binary cross entropy of which classes are in the image (cited: Zhang et al. 2018, Sec. 3.1).

    Args:
      label: int32 [N, H, W]; pixels whose value is none of 0..K-1 have no class.
      logits: float32 [N, K], before the sigmoid.

    Returns:
      (sum over images and classes, N * K), float32 scalars.
    """
    num_classes = logits.shape[-1]
    label = tf.reshape(label, [tf.shape(label)[0], -1])
    # One more bin takes the void; a one-hot label would be K times as large as the image.
    label = tf.where((label >= 0) & (label < num_classes), label, num_classes)
    bins = num_classes + 1
    present = tf.math.bincount(
        label, minlength=bins, maxlength=bins, axis=-1, binary_output=True, dtype=logits.dtype
    )[:, :num_classes]
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=present, logits=logits)
    return tf.reduce_sum(loss), tf.cast(tf.size(loss), loss.dtype)
