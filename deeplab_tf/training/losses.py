"""Losses of a pixel. Each returns a sum and the number of terms in it.

The training step divides, so that it can divide by the number in the global batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Literal, Self

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelLoss(Options):
    """Base of the losses that are a sum over pixels: class weights, and hard example mining."""

    class_weights: tuple[float, ...] = option(
        (), "weight of each class's pixels in the loss; empty: all 1", minimum=0
    )
    class_balance: Literal["none", "median_frequency"] = option(
        "none",
        "find class_weights in the training split; median_frequency: the median of the classes'"
        " frequencies divided by the class's own (SegNet)",
    )
    class_balance_power: float = option(
        1.0, "power of the weights that class_balance finds; 0.5 balances less", above=0, maximum=1
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
        if self.class_weights and self.class_balance != "none":
            raise ValueError(
                "class_balance must be none where class_weights are given; got"
                f" {self.class_balance!r}."
            )
        if self.class_balance == "none" and self.class_balance_power != 1:
            raise ValueError(
                "class_balance_power must be 1 where class_balance is none, which finds no weights;"
                f" got {self.class_balance_power}."
            )
        if self.class_weights and not any(self.class_weights):
            raise ValueError("class_weights must have a number above 0; got only zeros.")

    def of_pixels(self, target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each pixel, without class weights.

        Args:
          target: int32 [N, h, w], 0..K-1.
          logits: float32 [N, h, w, K].

        Returns:
          float32 [N, h, w].
        """
        raise NotImplementedError

    @property
    def changes_size(self) -> bool:
        """Whether the number of pixels that count follows from the step, which XLA cannot do."""
        return self.hard_example_mining_step > 0

    def with_class_weights(self, find: Callable[[], tuple[float, ...]]) -> Self:
        """The loss as it is trained with: `find()` gives the weights that class_balance asks for.

        Where `class_balance` is none, nothing is needed and `find` is not called.
        """
        if self.class_balance == "none":
            return self
        weights = tuple(weight**self.class_balance_power for weight in find())
        return self.replace(class_balance="none", class_balance_power=1.0, class_weights=weights)

    def check(self, num_classes: int) -> None:
        """Checks the class weights.

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
        product: those with the largest weighted losses (code). Over several replicas each keeps
        this share of its own part.

        Args:
          label: int32 [N, H, W].
          logits: float32 [N, h, w, K].
          ignore_label: value of pixels without a class; they count in neither result.
          step: int scalar, optimizer steps already made.

        Returns:
          (sum of the pixels' weighted losses, number of these pixels), float32 scalars. Class
          weights do not change the number (code). With hard example mining it is the number of
          pixels kept whose loss is not 0 (code).

        Raises:
          ValueError: there are class weights, but not K of them, or they are still to be found.
        """
        self.check(logits.shape[-1])
        if self.class_balance != "none":
            raise ValueError(
                f"loss.class_balance={self.class_balance} needs the weights of a training split;"
                " call with_class_weights first and use the loss that it returns."
            )
        label = _at_size_of(logits, label)
        valid = tf.not_equal(label, ignore_label)
        # Void becomes class 0 first: the op rejects 255 even where its weight is 0.
        target = tf.where(valid, label, 0)
        loss = self.of_pixels(target, logits)
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(PixelLoss):
    """Softmax cross entropy of all pixels with a class, or of the hardest."""

    kind: ClassVar[str] = "cross_entropy"

    label_smoothing: float = option(
        0.0, "share of the target that is spread evenly over all classes", minimum=0, below=1
    )

    def of_pixels(self, target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `PixelLoss.of_pixels`; label smoothing is cited: Szegedy et al. 2016, Sec. 7."""
        loss = _softmax_cross_entropy(target, logits)
        if not self.label_smoothing:
            return loss
        even = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
        return (1 - self.label_smoothing) * loss + self.label_smoothing * even


@dataclasses.dataclass(frozen=True, kw_only=True)
class Focal(PixelLoss):
    """Cross entropy times (1 - p)^gamma, p the probability of the class."""

    kind: ClassVar[str] = "focal"

    # cited: Lin et al. 2017 (RetinaNet), Sec. 5.1
    gamma: float = option(2.0, "power by which well classified pixels count less", minimum=0)

    def of_pixels(self, target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `PixelLoss.of_pixels`; cited: Lin et al. 2017, Eq. 4."""
        loss = _softmax_cross_entropy(target, logits)
        # ours: at p = 1 a power below 1 has no finite gradient
        missing = tf.maximum(-tf.math.expm1(-loss), 1e-7)
        return missing**self.gamma * loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lovasz(Options):
    """Lovász-softmax: a smooth form of 1 - mean IoU of the classes in labels."""

    kind: ClassVar[str] = "lovasz"

    per_image: bool = option(
        False, "IoU of each image, averaged; false: of all images of a replica's part together"
    )

    @property
    def changes_size(self) -> bool:
        """False: all pixels count at every step."""
        return False

    def with_class_weights(self, find: Callable[[], tuple[float, ...]]) -> Self:
        """The loss itself: it has no class weights."""
        return self

    def check(self, num_classes: int) -> None:
        """Fits any number of classes."""

    def __call__(
        self, label: tf.Tensor, logits: tf.Tensor, *, ignore_label: int, step: tf.Tensor | int = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of a batch (cited: Berman et al. 2018, Eq. 11 and Alg. 1).

        Args:
          label: int32 [N, H, W].
          logits: float32 [N, h, w, K].
          ignore_label: value of pixels without a class; they do not count.
          step: not used; the loss is the same at every step.

        Returns:
          (sum over the classes that the labels show, number of these classes), float32 scalars;
          with `per_image` over all images.
        """
        label = _at_size_of(logits, label)
        num_classes = logits.shape[-1]
        rows = tf.shape(logits)[0] if self.per_image else 1
        valid = tf.not_equal(label, ignore_label)
        # A void pixel's logits may be infinite; its error is 0, so it comes last and adds nothing.
        logits = tf.where(valid[..., None], logits, tf.zeros([], logits.dtype))
        truth = tf.one_hot(tf.where(valid, label, -1), num_classes, dtype=logits.dtype)
        error = tf.abs(truth - tf.nn.softmax(logits)) * tf.cast(valid, logits.dtype)[..., None]
        # [rows, K, pixels]
        truth, error = (
            tf.transpose(tf.reshape(x, [rows, -1, num_classes]), [0, 2, 1]) for x in (truth, error)
        )
        order = tf.argsort(error, axis=-1, direction="DESCENDING", stable=True)
        truth, error = (tf.gather(x, order, axis=-1, batch_dims=2) for x in (truth, error))
        size = tf.reduce_sum(truth, axis=-1)
        # 1 - IoU if the first pixels of the order are the ones that are wrong.
        missed, added = tf.cumsum(truth, axis=-1), tf.cumsum(1 - truth, axis=-1)
        jaccard = 1 - (size[..., None] - missed) / (size[..., None] + added)
        steps = jaccard - tf.pad(jaccard[..., :-1], [[0, 0], [0, 0], [1, 0]])
        shown = tf.cast(size > 0, error.dtype)
        loss = tf.reduce_sum(error * tf.stop_gradient(steps), axis=-1)
        return tf.reduce_sum(loss * shown), tf.reduce_sum(shown)


LOSSES: dict[str, type[Options]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "lovasz": Lovasz,
}


def _at_size_of(logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """The label, by nearest neighbor at the size of the logits: int32 [N, h, w]."""
    label, size = tf.convert_to_tensor(label), logits.shape[1:3]
    if size.is_fully_defined() and label.shape[1:] == size:
        return label
    # In float32, exact for every label: the op has no integer kernel on a GPU.
    resized = tf.raw_ops.ResizeNearestNeighbor(
        images=tf.cast(label, tf.float32)[..., None], size=tf.shape(logits)[1:3], align_corners=True
    )
    return tf.cast(resized[..., 0], label.dtype)


def _softmax_cross_entropy(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Softmax cross entropy [N, h, w] of targets int32 [N, h, w] and logits [N, h, w, K].

    On a CPU, TensorFlow's own operation computes loss and gradient without the wider vector
    instructions (2.21, the wheel); oneDNN's softmax has them.
    """

    @tf.custom_gradient
    def loss_of(logits):
        probabilities = tf.nn.softmax(logits)
        own = tf.gather(logits, target, batch_dims=3)
        # The largest probability is 1 / sum(exp(logits - largest)), and at least 1 / K.
        log_of_sum = -tf.math.log(tf.reduce_max(probabilities, axis=-1))
        loss = tf.reduce_max(logits, axis=-1) - own + log_of_sum

        def gradient(upstream):
            truth = tf.one_hot(target, tf.shape(logits)[-1], dtype=logits.dtype)
            return (probabilities - truth) * upstream[..., None]

        return loss, gradient

    return loss_of(logits)
