"""Prediction of whole images of any size, averaged over scales and flips."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from deeplab_tf.evaluation.predict import (
    LARGEST_SIDE,
    ScaledPredict,
    check_classes_of_pixels,
    check_network_size,
    checked_image,
    checked_images,
    one_by_one,
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
        """A network that gives the same label maps by one call; the model itself at one scale.

        The softmax of its logits is the mean of the probabilities over scales and flips.

        Raises:
          ValueError: `pad_size` or `tile` is given, which a network alone does not have.
        """
        from deeplab_tf.layers import SegmentationModel
        from deeplab_tf.layers.scales import MeanOverScales

        for name in ("pad_size", "tile"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"--predict.{name} is not for exports, which take images at their own size;"
                    f" got {getattr(self, name)}. Leave it out."
                )
        if self.scales == (1.0,) and not self.flip:
            return model
        network = inference_model(_without_last_resize(model))
        image = keras.Input((None, None, model.input_shape[-1]))
        logits = MeanOverScales(network, self.scales, self.flip)(image)
        combined = SegmentationModel(image, logits, name=f"{model.name}_over_scales")
        combined.dataset_spec = getattr(model, "dataset_spec", None)
        return combined


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
                tf.TensorSpec([None, None, None, 3], tf.float32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([], tf.bool),
            ],
            autograph=False,
        )
        def logits_of(images, network_size, least_logits_size, flip):
            size = tf.shape(images)[1:3]
            images = _mirror_if(flip, _resize(images, network_size))
            logits = tf.cast(network(images, training=False), tf.float32)
            logits_size = tf.maximum(tf.shape(logits)[1:3], least_logits_size)
            logits = _mirror_if(flip, _resize(logits, logits_size))
            return _resize(logits, size)

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
        return self.predict_checked(checked_image(image)[None], True)["probabilities"][0]

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The most probable class of each pixel; arguments and errors as in `probabilities`.

        Returns:
          int32 [H, W].
        """
        return self.predict_checked(checked_image(image)[None])["label_map"][0]

    def predict(
        self, images: np.ndarray | tf.Tensor, *, probabilities: bool = False
    ) -> dict[str, tf.Tensor]:
        """Predictions of a batch, which the network sees at once unless it runs in tiles.

        They are those of each image alone, except for rounding: where two classes are as good as
        equally probable, the batch size can decide.

        Args:
          images: [N, H, W, 3] RGB 0..255, any numeric type.
          probabilities: whether to return them too.

        Returns:
          "label_map", int32 [N, H, W], and "probabilities", float32 [N, H, W, K].

        Raises:
          ValueError: as `probabilities` does.
        """
        return self.predict_checked(checked_images(images), probabilities)

    def predict_checked(
        self, images: tf.Tensor, probabilities: bool = False
    ) -> dict[str, tf.Tensor]:
        """`predict` of what `checked_images` returned, which may have been resized since."""
        if self._sees_tiles(images):
            return one_by_one(functools.partial(self._in_strips, probabilities), images)
        return self._outputs(self._passes(images), probabilities)

    def _outputs(self, passes: Iterable[tf.Tensor], probabilities: bool) -> dict[str, tf.Tensor]:
        """What `predict` returns, from the logits of each pass."""
        if len(self._options.scales) == 1 and not self._options.flip:
            # Softmax rounds nearly equal logits to equal probabilities. One pass can do without
            # and equals model.predict(image[None]).argmax(-1).
            (scores,) = passes
            softmax = tf.nn.softmax
        else:
            scores, softmax = _mean_probabilities(passes), tf.identity
        outputs = {"label_map": tf.argmax(scores, axis=-1, output_type=tf.int32)}
        return outputs | ({"probabilities": softmax(scores)} if probabilities else {})

    def _in_strips(self, probabilities: bool, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same of one image, [H, W, ...], by way of tiles."""
        strips = [self._outputs(passes, probabilities) for passes in self._strips(image)]
        return {name: tf.concat([strip[name] for strip in strips], 0) for name in strips[0]}

    def _sees_tiles(self, images: tf.Tensor) -> bool:
        """Whether images at one of the scales are larger than a tile."""
        from deeplab_tf.layers.resize import scaled_side

        options = self._options
        side = max(options.pad_size or images.shape[1:3])
        return options.tile is not None and scaled_side(side, max(options.scales)) > options.tile

    def _passes(self, images: tf.Tensor) -> Iterator[tf.Tensor]:
        """Logits [N, H, W, K] of each scale and flip."""
        height, width = images.shape[1:3]
        for inputs in self._inputs(images):
            yield self._logits_of(*inputs)[:, :height, :width]

    def _strips(self, image: tf.Tensor) -> Iterator[list[tf.Tensor]]:
        """Logits of one strip of rows of an image after the other; the network runs in tiles."""
        from deeplab_tf.evaluation.tiles import resized_part

        height, width = image.shape[:2]
        padded_size, passes = self._options.pad_size or (height, width), []
        for seen, size, least_logits_size, flip in self._inputs(image[None]):
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

    def _inputs(self, images: tf.Tensor) -> Iterator[tuple[tf.Tensor, Any, Any, bool]]:
        """Arguments of `logits_of` for each scale and flip."""
        from deeplab_tf.layers.resize import scaled_side

        options, in_tiles = self._options, self._sees_tiles(images)
        if options.pad_size is not None:
            images = _padded(images, options.pad_size, self._zero_color)
        least_logits_size = (1, 1)
        if min(options.scales) < 1:  # only where it is needed: it takes a hundredth of a second
            least_logits_size = self._network.compute_output_shape((1, *images.shape[1:]))[1:3]
        for scale in options.scales:
            size = [scaled_side(side, scale) for side in images.shape[1:3]]
            check_network_size(size, "predict.scales", self._needed_bytes, in_tiles=in_tiles)
            for flip in (False, True) if options.flip else (False,):
                yield images, size, least_logits_size, flip

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


def _padded(images: tf.Tensor, size: tuple[int, int], color: np.ndarray) -> tf.Tensor:
    """Images with a color below and to the right; image pooling and the border see it (code)."""
    (height, width), (new_height, new_width) = images.shape[1:3], size
    if height > new_height or width > new_width:
        raise ValueError(
            f"images must be at most pad_size, {size[0]}x{size[1]} pixels; got"
            f" {height}x{width}. Set --predict.pad_size to a larger size, a"
            " multiple of the output stride plus 1, or to none."
        )
    # Around normalized pixels the code has zeros.
    right = tf.broadcast_to(color, [len(images), height, new_width - width, 3])
    below = tf.broadcast_to(color, [len(images), new_height - height, new_width, 3])
    return tf.concat([tf.concat([images, right], 2), below], 1)


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
