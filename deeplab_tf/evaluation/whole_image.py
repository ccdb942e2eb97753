"""Prediction of whole images of any size, averaged over scales and flips."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from deeplab_tf.evaluation.predict import (
    LARGEST_SIDE,
    ScaledPredict,
    check_classes_of_pixels,
    check_network_size,
    checked_image,
)
from deeplab_tf.inference import copy_weights, inference_model
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.options import option

_STRIP = 2**23  # ours: logits that are resized to the image's size at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeImage(ScaledPredict):
    """The image at its own size; probabilities are averaged (DeepLab's code)."""

    kind: ClassVar[str] = "whole_image"

    pad_size: tuple[int, int] | None = option(
        None,
        "height and width that images are padded to, as in DeepLab's code: 513,513 for PASCAL VOC,"
        " 1025,2049 for Cityscapes; none: no padding",
        minimum=1,
        maximum=LARGEST_SIDE,
        may_change=True,
    )
    tile: int | None = option(
        None,
        "side of the tiles, pixels, in which the backbone sees images that are larger; takes less"
        " memory and more time; none: images as a whole",
        minimum=64,  # ours: twice the largest stride; smaller ones see little but their halo
        maximum=LARGEST_SIDE,
        may_change=True,
    )

    def predictor(self, model: keras.Model) -> Predictor:
        """A predictor with the model's weights as they are now."""
        return Predictor(model, self)

    def export_model(self, model: keras.Model) -> keras.Model:
        """The model itself: an export has one scale and no padding."""
        return model


class Predictor:
    """A model behind one graph for images of every size.

    Keep it as long as there are images to predict: the model is traced once, at the first image.
    It has the weights as they were when it was made, until `update` reads them again.

    Attributes:
      num_classes: K, outputs of the model.
    """

    def __init__(self, model: keras.Model, options: WholeImage):
        """Traces nothing yet.

        Args:
          model: image [N, H, W, 3] RGB 0..255 -> logits [N, h, w, K], at the image's size or
            smaller.
          options: scales, flip and padding.

        Raises:
          ValueError: the model gives one class to the whole image, or cannot run in tiles.
        """
        check_classes_of_pixels(model)
        # code: logits are resized from their own size to the image's, not by way of the scaled
        # image's size
        self._trained = _without_last_resize(model)
        network = inference_model(self._trained)

        # Sizes and the flip are inputs, not Python values: a trace for each size costs seconds. No
        # XLA for the same reason.
        @tf.function(
            input_signature=[
                tf.TensorSpec([1, None, None, 3], tf.float32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([], tf.bool),
            ],
            autograph=False,
        )
        def logits_of(image, network_size, least_logits_size, flip):
            size = tf.shape(image)[1:3]
            image = _mirror_if(flip, _resize(image, network_size))
            logits = tf.cast(network(image, training=False), tf.float32)
            logits_size = tf.maximum(tf.shape(logits)[1:3], least_logits_size)
            logits = _mirror_if(flip, _resize(logits, logits_size))
            return _resize(logits, size)[0]

        self._network = network
        self._zero_color = _zero_color(network)
        self._logits_of = logits_of
        self._options = options
        if options.tile is not None:
            from deeplab_tf.evaluation.tiles import TiledNetwork

            self._tiled = TiledNetwork(network, options.tile)
        self.num_classes = model.output_shape[-1]

    def update(self) -> None:
        """Reads the model's weights again, after they were trained on."""
        copy_weights(self._trained, self._network)

    def probabilities(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Class probabilities of one image.

        The image is resized to each scale, the logits are resized back to the image's size, and
        their softmax is averaged (code: DeepLab's multi-scale evaluation, which resizes the logits
        of scales below 1 to their size at scale 1 first).

        Args:
          image: [H, W, 3] RGB 0..255, any numeric type.

        Returns:
          float32 [H, W, K]; sums to 1 over K.

        Raises:
          ValueError: the image is not [H, W, 3] with at least one pixel, has floats in 0..1, is
            larger than `pad_size`, or has a side above 65535 at one of the scales.
        """
        image = checked_image(image)
        if self._sees_tiles(image):
            return tf.concat([_mean_probabilities(passes) for passes in self._strips(image)], 0)
        return _mean_probabilities(self._passes(image))

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The most probable class of each pixel; arguments and errors as in `probabilities`.

        Returns:
          int32 [H, W].
        """
        return self.label_map_of_checked(checked_image(image))

    def label_map_of_checked(self, image: tf.Tensor) -> tf.Tensor:
        """`label_map` of what `checked_image` returned, which may have been resized since."""
        if self._sees_tiles(image):
            return tf.concat([self._classes(passes) for passes in self._strips(image)], 0)
        return self._classes(self._passes(image))

    def _classes(self, passes: Iterable[tf.Tensor]) -> tf.Tensor:
        """int32 [H, W] from the logits of each pass."""
        if len(self._options.scales) == 1 and not self._options.flip:
            # Softmax rounds nearly equal logits to equal probabilities. One pass can do without
            # and equals model.predict(image[None]).argmax(-1).
            (scores,) = passes
        else:
            scores = _mean_probabilities(passes)
        return tf.argmax(scores, axis=-1, output_type=tf.int32)

    def _sees_tiles(self, image: tf.Tensor) -> bool:
        """Whether an image at one of the scales is larger than a tile."""
        from deeplab_tf.layers.resize import scaled_side

        options = self._options
        side = max(options.pad_size or image.shape[:2])
        return options.tile is not None and scaled_side(side, max(options.scales)) > options.tile

    def _passes(self, image: tf.Tensor) -> Iterator[tf.Tensor]:
        """Logits [H, W, K] of each scale and flip."""
        height, width = image.shape[:2]
        for inputs in self._inputs(image):
            yield self._logits_of(*inputs)[:height, :width]

    def _strips(self, image: tf.Tensor) -> Iterator[list[tf.Tensor]]:
        """The same of one strip of rows after the other; the network runs in tiles."""
        from deeplab_tf.evaluation.tiles import resized_part

        height, width = image.shape[:2]
        padded_size, passes = self._options.pad_size or (height, width), []
        for seen, size, least_logits_size, flip in self._inputs(image):
            if size != [*seen.shape[1:3]]:  # a copy takes memory
                seen = _resize(seen, size)
            logits = self._tiled.logits(_mirror_if(flip, seen))
            logits_size = [*map(max, logits.shape[1:3], least_logits_size)]
            if logits_size != [*logits.shape[1:3]]:
                logits = _resize(logits, logits_size).numpy()
            passes.append(logits[:, :, ::-1] if flip else logits)
        rows = max(1, _STRIP // (width * self.num_classes))
        for start in range(0, height, rows):
            part = slice(start, min(start + rows, height)), slice(0, width)
            yield [resized_part(logits, padded_size, *part)[0] for logits in passes]

    def _inputs(self, image: tf.Tensor) -> Iterator[tuple[tf.Tensor, Any, Any, bool]]:
        """Arguments of `logits_of` for each scale and flip."""
        from deeplab_tf.layers.resize import scaled_side

        options, in_tiles = self._options, self._sees_tiles(image)
        if options.pad_size is not None:
            image = _padded(image, options.pad_size, self._zero_color)
        least_logits_size = (1, 1)
        if min(options.scales) < 1:  # only where it is needed: it takes a hundredth of a second
            least_logits_size = self._network.compute_output_shape((1, *image.shape))[1:3]
        for scale in options.scales:
            size = [scaled_side(side, scale) for side in image.shape[:2]]
            check_network_size(size, "predict.scales", self._needed_bytes, in_tiles=in_tiles)
            for flip in (False, True) if options.flip else (False,):
                yield image[None], size, least_logits_size, flip

    def _needed_bytes(self, height: int, width: int) -> int:
        from deeplab_tf.layers.memory import forward_bytes

        if self._options.tile is not None:
            return self._tiled.needed_bytes(height, width)
        return forward_bytes(self._network, height, width)


def predict_probabilities(
    model: keras.Model, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> tf.Tensor:
    """Class probabilities of one image; for several images keep a predictor.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, h, w, K].
      image: [H, W, 3] RGB 0..255.
      scales: image scales over which probabilities are averaged.
      flip: average over the mirrored image too.

    Returns:
      float32 [H, W, K]; sums to 1 over K.
    """
    return WholeImage(scales=tuple(scales), flip=flip).predictor(model).probabilities(image)


def predict_label_map(
    model: keras.Model, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> tf.Tensor:
    """The most probable class of each pixel; arguments as in `predict_probabilities`.

    Returns:
      int32 [H, W].
    """
    return WholeImage(scales=tuple(scales), flip=flip).predictor(model).label_map(image)


def _without_last_resize(model: keras.Model) -> keras.Model:
    """The model up to the logits at their own size, or the model itself if it has no such layer."""
    from deeplab_tf.layers.names import LOGITS_RESIZE

    resizes = [layer for layer in model.layers if layer.name == LOGITS_RESIZE]
    return keras.Model(model.input, resizes[0].input[0]) if resizes else model


def _zero_color(network: keras.Model) -> np.ndarray:
    """float32 [3], the color that a network normalizes to zero; gray if it does not normalize."""
    rescalings = [layer for layer in network.layers if isinstance(layer, keras.layers.Rescaling)]
    if not rescalings:
        return np.full(3, 127.5, np.float32)  # ours: the middle, as for most networks here
    color = -np.divide(rescalings[0].offset, rescalings[0].scale)
    return np.broadcast_to(color, 3).astype(np.float32)


def _padded(image: tf.Tensor, size: tuple[int, int], color: np.ndarray) -> tf.Tensor:
    """The image with a color below and to the right; image pooling and the border see it (code)."""
    (height, width), (new_height, new_width) = image.shape[:2], size
    if height > new_height or width > new_width:
        raise ValueError(
            f"images must be at most pad_size, {size[0]}x{size[1]} pixels; got"
            f" {height}x{width}. Set --predict.pad_size to a larger size, a"
            " multiple of the output stride plus 1, or to none."
        )
    # Around normalized pixels the code has zeros.
    right = tf.broadcast_to(color, [height, new_width - width, 3])
    below = tf.broadcast_to(color, [new_height - height, new_width, 3])
    return tf.concat([tf.concat([image, right], 1), below], 0)


def _resize(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    # code: bilinear with align_corners, for images and logits; the identity at the same size
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)


def _mean_probabilities(passes: Iterable[tf.Tensor]) -> tf.Tensor:
    """The mean of the softmax of the logits of each pass."""
    passes = iter(passes)
    total = tf.nn.softmax(next(passes))
    count = 1
    for logits in passes:
        total += tf.nn.softmax(logits)
        count += 1
    return total / count


def _mirror_if(flip: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.cond(flip, lambda: tf.reverse(x, axis=[2]), lambda: x)
