"""Losses of a pixel. Each returns a sum and the number of terms in it.

The training step divides, so that it can divide by the number in the global batch.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Options):
    """Softmax cross entropy of all pixels with a class, or of the hardest."""

    kind: ClassVar[str] = "cross_entropy"

    class_weights: tuple[float, ...] = option(
        (), "factor of the loss of each class's pixels; default: 1", minimum=0
    )
    top_k_percent_pixels: float = option(
        1.0, "share of the pixels, those with the largest loss, that count", above=0, maximum=1
    )
    hard_example_mining_step: int = option(
        0, "steps in which that share falls from 1; 0: at once", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hard_example_mining_step and self.top_k_percent_pixels == 1:
            raise ValueError(
                "hard_example_mining_step must be 0 where top_k_percent_pixels is 1, every pixel;"
                f" got {self.hard_example_mining_step}."
            )

    def check(self, num_classes: int) -> None:
        """Checks the number of class weights.

        Raises:
          ValueError: there are weights, but not one for each of `num_classes` classes.
        """
        if self.class_weights and len(self.class_weights) != num_classes:
            raise ValueError(
                f"loss.class_weights must be a number for each of {num_classes} classes;"
                f" got {len(self.class_weights)}."
            )

    def __call__(
        self, label: tf.Tensor, logits: tf.Tensor, *, ignore_label: int, step: tf.Tensor | int = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of a batch.

        Logits of another size than the label are compared with the label's nearest pixels,
        `align_corners=True` (code: DeepLab's, where logits are not upsampled for training).

        With hard example mining, int(share * N * h * w) pixels count, void ones included in the
        product: those with the largest weighted cross entropies (code). Over several replicas each
        keeps this share of its own part.

        Args:
          label: int32 [N, H, W].
          logits: float32 [N, h, w, K].
          ignore_label: value of pixels without a class; they count in neither result.
          step: int scalar, optimizer steps already made.

        Returns:
          (sum of the pixels' weighted cross entropies, number of these pixels), float32 scalars.
          Class weights do not change the number (code). With hard example mining it is the number
          of pixels kept whose loss is not 0 (code).

        Raises:
          ValueError: there are class weights, but not K of them.
        """
        self.check(logits.shape[-1])
        label, size = tf.convert_to_tensor(label), logits.shape[1:3]
        if not size.is_fully_defined() or label.shape[1:] != size:
            label = _nearest(label, tf.shape(logits)[1:3])
        valid = tf.not_equal(label, ignore_label)
        # Void becomes class 0 first: the op rejects 255 even where its weight is 0.
        target = tf.where(valid, label, 0)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
        if self.class_weights:
            loss *= tf.gather(tf.constant(self.class_weights, loss.dtype), target)
        # Selected rather than multiplied: 0 * inf at a void pixel would be NaN.
        loss = tf.where(valid, loss, tf.zeros([], loss.dtype))
        if self.top_k_percent_pixels == 1:
            return tf.reduce_sum(loss), tf.reduce_sum(tf.cast(valid, loss.dtype))
        loss = tf.reshape(loss, [-1])
        kept = tf.cast(self.kept_share(step) * tf.cast(tf.size(loss), tf.float32), tf.int32)
        hardest = tf.math.top_k(loss, kept, sorted=False).values
        return tf.reduce_sum(hardest), tf.math.count_nonzero(hardest, dtype=loss.dtype)

    def kept_share(self, step: tf.Tensor | int) -> tf.Tensor:
        """The share of the pixels that counts after `step` optimizer steps (code); float32."""
        progress = tf.constant(1.0)
        if self.hard_example_mining_step:
            progress = tf.minimum(1.0, tf.cast(step, tf.float32) / self.hard_example_mining_step)
        return progress * self.top_k_percent_pixels + (1 - progress)


LOSSES: dict[str, type[Options]] = {"cross_entropy": CrossEntropy}


def _nearest(label: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    # In float32, exact for every label: the op has no integer kernel on a GPU.
    resized = tf.raw_ops.ResizeNearestNeighbor(
        images=tf.cast(label, tf.float32)[..., None], size=size, align_corners=True
    )
    return tf.cast(resized[..., 0], label.dtype)
