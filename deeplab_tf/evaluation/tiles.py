"""Runs a network on a large image part by part: in little memory, yet with the whole image in view.

Tiles that are predicted on their own would not do: image pooling, pyramid pooling and the encoding
layer look at the whole image. So the network is cut into stages at the layers that do:

* The backbone runs in tiles of the image, each with a halo of `HALO` pixels.
* Layers of the head that look a few pixels far run in tiles too, each with a halo of just as many.
* The others, such as pooling, run on whole feature maps.
* Resized feature maps are computed where a tile reads them.

Only the feature maps that one stage hands to another exist as a whole.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.evaluation.stages import Stage, divided, is_map
from deeplab_tf.layers.memory import forward_bytes

# ours: MobileNetV2 at output stride 16 looks less far, so its logits are the whole image's but for
# rounding (6e-5 of 19). With 192, 128, 64 and 32 they differed by at most 0.6, 1.7, 3.8 and 4.8
# (trained on PASCAL VOC; two images of 1601x1201 pixels in tiles of 512).
HALO = 256


class TiledNetwork:
    """A network that runs in tiles, on one image after the other.

    Nothing is traced twice, whatever the sizes of the images. The weights are read at each image.

    A value of a backbone's feature map equals the one of the whole image, but for rounding, if its
    receptive field lies within its tile. So all are equal if `halo` is as large as the largest
    distance from a pixel to the edge of its receptive field. What the head computes from the
    feature maps is the same.
    """

    def __init__(self, network: keras.Model, tile: int, *, halo: int = HALO):
        """Traces nothing yet.

        Args:
          network: functional, image [N, H, W, C] of any size -> [N, h, w, K], with a backbone; see
            layers/names.py.
          tile: side of the part of the image that a tile is for, without its halo, pixels.
          halo: by how much more a tile of the backbone reaches on each side, pixels. Both are
            rounded up to multiples of the backbone's largest stride.

        Raises:
          ValueError: the network cannot run in tiles; see `stages.divided`.
        """
        self._network, self._tile, self._halo = network, tile, halo
        self._stages = divided(network)
        self._strides = {
            tensor: stage.stride * factor
            for stage in self._stages
            for tensor, factor in stage.strides.items()
        }

    def logits(self, image: tf.Tensor) -> np.ndarray:
        """The network's output for one image.

        Args:
          image: float32 [1, H, W, C] 0..255.

        Returns:
          [1, h, w, K].
        """
        size = image.shape[1:3]
        values: dict[int, _Value] = {id(self._network.input): image.numpy()}
        last_reader = {id(tensor): stage for stage in self._stages for tensor in stage.inputs}
        last_reader[id(self._network.output)] = None
        for stage in self._stages:
            inputs = [values[id(tensor)] for tensor in stage.inputs]
            for tensor in stage.inputs:  # their memory is for what comes next
                if last_reader[id(tensor)] is stage:
                    del values[id(tensor)]
            if stage.kind == "resize":
                made = [_Resized(_whole(inputs[0]), *self._size(stage.outputs[0], size))]
            elif stage.kind == "whole":
                tensors = [tf.constant(_whole(inputs.pop(0))) for _ in stage.inputs]
                made = [output.numpy() for output in stage.run(tensors)]
                del tensors
            else:
                made = self._run_in_tiles(stage, inputs, size)
            values.update(zip(map(id, stage.outputs), made, strict=True))
            del inputs, made
        return _whole(values[id(self._network.output)])

    def needed_bytes(self, height: int, width: int) -> int:
        """Memory that one image takes at least: that of the weights, a tile and feature maps.

        Args:
          height: of the image that the network gets, which is scaled and padded, pixels.
          width: the same.
        """

        def together(stage):
            maps = [t for t in [*stage.inputs, *stage.outputs] if is_map(t)]
            shapes = [(*self._size(t, (height, width)), t.shape[-1]) for t in maps]
            sizes = [tf.as_dtype(t.dtype).size for t in maps]
            return sum(map(operator.mul, map(math.prod, shapes), sizes))

        backbone, *others = self._stages
        rows, columns = self._spans(backbone, (height, width))
        tile = [spans[0].stop - spans[0].start for spans in (rows, columns)]
        of_backbone = together(backbone) + forward_bytes(backbone.model, *tile)
        return max([of_backbone, *map(together, others)])

    def _run_in_tiles(
        self, stage: Stage, inputs: Sequence[_Value], size: Sequence[int]
    ) -> list[np.ndarray]:
        """The outputs of a stage."""
        outputs = [
            np.empty(
                (1, *self._size(tensor, size), tensor.shape[-1]),
                tf.as_dtype(tensor.dtype).as_numpy_dtype,
            )
            for tensor in stage.outputs
        ]
        all_rows, all_columns = self._spans(stage, size)
        for rows, columns in itertools.product(all_rows, all_columns):
            parts = []
            for tensor, value in zip(stage.inputs, inputs, strict=True):
                stride = stage.strides.get(id(tensor))
                if stride is not None:
                    value = _part(value, rows.seen(stride), columns.seen(stride))
                parts.append(tf.convert_to_tensor(value))
            found = stage.run(parts)
            for tensor, output, part in zip(stage.outputs, outputs, found, strict=True):
                stride = stage.strides[id(tensor)]
                inside = np.s_[:, rows.kept_of_seen(stride), columns.kept_of_seen(stride)]
                output[:, rows.kept(stride), columns.kept(stride)] = part.numpy()[inside]
        return outputs

    def _spans(self, stage: Stage, size: Sequence[int]) -> list[list[Span]]:
        """The tiles of a stage along height and width, in pixels of its finest map."""
        halo = self._halo if stage.kind == "backbone" else stage.reach
        sides = [math.ceil(side / stage.stride) for side in size]
        tile = math.ceil(self._tile / stage.stride)
        return [spans(side, tile, halo, stage.coarsest) for side in sides]

    def _size(self, tensor: keras.KerasTensor, size: Sequence[int]) -> list[int]:
        """Height and width of a map for an image of a size."""
        return [math.ceil(side / self._strides[id(tensor)]) for side in size]


class Span(NamedTuple):
    """A tile along the height or the width of a map, with and without its halo, pixels."""

    start: int
    stop: int
    kept_start: int
    kept_stop: int

    def seen(self, stride: int) -> slice:
        """The tile on the map that is `stride` times coarser."""
        return slice(self.start // stride, math.ceil(self.stop / stride))

    def kept(self, stride: int) -> slice:
        """The tile without its halo there."""
        return slice(self.kept_start // stride, math.ceil(self.kept_stop / stride))

    def kept_of_seen(self, stride: int) -> slice:
        """The same, from the beginning of the tile."""
        seen, kept = self.seen(stride), self.kept(stride)
        return slice(kept.start - seen.start, kept.stop - seen.start)


def spans(side: int, tile: int, halo: int, multiple: int) -> list[Span]:
    """Divides a side of a map into tiles of one length, with overlap.

    SAME padding of a stride depends on the remainder of the side. Tiles begin at multiples of the
    strides' product and are as long as the side, but for a multiple. So their pixels lie as those
    of the whole map do. What is kept of neighbors meets in the middle of their overlap.

    Args:
      side: pixels.
      tile: at most what is kept of a tile, but for the first and the last, which end with the map.
      halo: at least what lies beyond it on each side.
      multiple: of which beginnings must be a multiple.

    Returns:
      The tiles. What they keep has no gap and no overlap.
    """
    tile, halo = (math.ceil(length / multiple) * multiple for length in (tile, halo))
    count = max(1, math.ceil((side - 2 * halo) / tile))
    # As short as this number of tiles permits, which saves time.
    step = math.ceil((side - 2 * halo) / count / multiple) * multiple
    length = step + 2 * halo
    length += (side - length) % multiple
    if count == 1 or length >= side:
        return [Span(0, side, 0, side)]
    last = side - length
    starts = [round(last / multiple * i / (count - 1)) * multiple for i in range(count)]
    seams = [
        (start + previous + length) // 2 // multiple * multiple
        for previous, start in zip(starts, starts[1:], strict=False)
    ]
    kept = zip([0, *seams], [*seams, side], strict=True)
    return [Span(a, a + length, b, c) for a, (b, c) in zip(starts, kept, strict=True)]


def resized_part(
    x: np.ndarray | tf.Tensor, size: Sequence[int], rows: slice, columns: slice
) -> tf.Tensor:
    """A part of a map that is resized bilinearly with `align_corners=True`.

    Args:
      x: float [N, h, w, C].
      size: (H, W) of the whole resized map.
      rows: of the part, of 0..H.
      columns: the same, of 0..W.

    Returns:
      float [N, rows, columns, C], what tf.raw_ops.ResizeBilinear gives there.
    """
    # The kernel computes positions in float32 and interpolates columns before rows; so does this.
    height, width = (
        np.arange(span.start, span.stop, dtype=np.float32)
        * (np.float32(old - 1) / np.float32(max(new - 1, 1)))
        for span, old, new in zip((rows, columns), x.shape[1:3], size, strict=True)
    )
    first, last = int(height[0]), min(int(height[-1]) + 2, x.shape[1])
    part = tf.cast(tf.convert_to_tensor(x[:, first:last]), tf.float32)
    part = _interpolated(_interpolated(part, width, 2), height - np.float32(first), 1)
    return tf.cast(part, x.dtype)


_Value = Any  # of a tensor: np.ndarray [1, ...], or _Resized


class _Resized(NamedTuple):
    """A resized map that does not exist as a whole."""

    source: np.ndarray  # [1, h, w, C]
    height: int
    width: int


def _part(value: _Value, rows: slice, columns: slice) -> np.ndarray | tf.Tensor:
    if isinstance(value, _Resized):
        return resized_part(value.source, value[1:], rows, columns)
    return value[:, rows, columns]


def _whole(value: _Value) -> np.ndarray:
    if isinstance(value, _Resized):
        return _part(value, slice(0, value.height), slice(0, value.width)).numpy()
    return value


def _interpolated(x: tf.Tensor, positions: np.ndarray, axis: int) -> tf.Tensor:
    """[N, h, w, C] at positions along an axis, linearly between the pixels."""
    low = positions.astype(np.int32)
    share = (positions - low).reshape([-1 if i == axis else 1 for i in range(4)])
    below = tf.gather(x, low, axis=axis)
    above = tf.gather(x, np.minimum(low + 1, x.shape[axis] - 1), axis=axis)
    return below + share * (above - below)
